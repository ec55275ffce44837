/* A project of somebody else: it knows the installed library alone. */
#include <stdio.h>
#include <string.h>

#include <ztensor.h>

int main(void) {
    static const float values[] = {1, 2, 3};
    static const uint64_t shape[] = {3};
    ZtComponentSpec data;
    ZtTensorSpec spec;
    ZtWriter *writer = NULL;
    ZtReader *reader = NULL;
    ZtBuffer *file = NULL, *read = NULL;
    int good;
    memset(&data, 0, sizeof data);
    memset(&spec, 0, sizeof spec);
    data.data = values;
    data.len = sizeof values;
    data.dtype = spec.dtype = ZT_FLOAT32;
    spec.name = "values";
    spec.name_len = strlen(spec.name);
    spec.shape = shape;
    spec.ndim = 1;
    spec.layout = ZT_DENSE;
    spec.components = &data;
    spec.component_count = 1;
    good = !zt_writer_create_memory(0, 0, NULL, &writer) && !zt_writer_add(writer, &spec, 1) &&
           !zt_writer_finish_memory(writer, &file) &&
           !zt_reader_open_memory(zt_buffer_data(file), zt_buffer_len(file), 0, 0, &reader) &&
           !zt_reader_read(reader, 0, 0, ZT_VERIFY_ON, &read) && zt_buffer_len(read) == sizeof values &&
           memcmp(zt_buffer_data(read), values, sizeof values) == 0 && zt_abi_version() == ZT_ABI_VERSION;
    printf("%s %s\n", zt_version(), good ? "good" : zt_last_error_message());
    zt_buffer_free(read);
    zt_reader_free(reader);
    zt_buffer_free(file);
    zt_writer_free(writer);
    return !good;
}
