/* Compiled with the header beside it, run with today's library: it calls every function of that header and looks at every
 * field that was filled. It stays as it is. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ztensor.h"

#define REQUIRE(condition)                                                                          \
    do {                                                                                            \
        if (!(condition)) {                                                                         \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, zt_last_error_message());    \
            exit(1);                                                                                \
        }                                                                                           \
    } while (0)

static const float weights[2][3] = {{1, 2, 3}, {4, 5, 6}};
static const float values[] = {1, 2, 3};
static const int32_t columns[] = {0, 2, 1};
static const int64_t starts[] = {0, 2, 3};
static const uint64_t shape[] = {2, 3};
static uint16_t packed[4096];
static const uint64_t packed_shape[] = {4096};

static int32_t report(uint64_t done, uint64_t total, void *user) {
    *(int *)user += done <= total;
    return 0;
}

static void add(ZtWriter *writer) {
    ZtComponentSpec parts[5];
    ZtTensorSpec specs[3];
    size_t i;
    memset(parts, 0, sizeof parts);
    memset(specs, 0, sizeof specs);
    for (i = 0; i < 4096; i++) {
        packed[i] = (uint16_t)(0x3f80 + i % 100);
    }
    parts[0].data = weights, parts[0].len = sizeof weights, parts[0].dtype = ZT_FLOAT32;
    parts[1].data = packed, parts[1].len = sizeof packed, parts[1].dtype = ZT_BFLOAT16;
    parts[2].data = values, parts[2].len = sizeof values, parts[2].dtype = ZT_FLOAT32;
    parts[3].data = columns, parts[3].len = sizeof columns, parts[3].dtype = ZT_INT32;
    parts[4].data = starts, parts[4].len = sizeof starts, parts[4].dtype = ZT_INT64;
    specs[0].name = "weights", specs[0].name_len = 7, specs[0].shape = shape, specs[0].ndim = 2;
    specs[0].components = &parts[0], specs[0].component_count = 1;
    specs[0].attributes = "{\"unit\":\"volt\"}", specs[0].attributes_len = 15;
    specs[0].dtype = ZT_FLOAT32, specs[0].layout = ZT_DENSE;
    specs[1].name = "packed", specs[1].name_len = 6, specs[1].shape = packed_shape, specs[1].ndim = 1;
    specs[1].components = &parts[1], specs[1].component_count = 1;
    specs[1].dtype = ZT_BFLOAT16, specs[1].layout = ZT_DENSE, specs[1].level = 3;
    specs[2].name = "graph", specs[2].name_len = 5, specs[2].shape = shape, specs[2].ndim = 2;
    specs[2].components = &parts[2], specs[2].component_count = 3;
    specs[2].dtype = ZT_FLOAT32, specs[2].layout = ZT_SPARSE_CSR;
    REQUIRE(!zt_writer_add(writer, specs, 3));
}

static void read_all(const ZtReader *reader) {
    const ZtTensor *tensors;
    const ZtSpan *spans;
    const char *names;
    size_t count, len, number;
    ZtTensor tensor;
    ZtComponent components[3];
    ZtBuffer *buffer;
    ZtBatch *batch;
    ZtTarget target;
    float row[3];
    uint16_t own[4096];
    int reports = 0;

    REQUIRE(zt_reader_count(reader) == 3 && strcmp(zt_reader_format(reader), "zt/1") == 0);
    REQUIRE(!zt_reader_tensors(reader, &tensors, &count) && count == 3);
    REQUIRE(strcmp(tensors[0].name, "weights") == 0 && tensors[0].name_len == 7 && tensors[0].has_attributes == 1);
    REQUIRE(tensors[0].ndim == 2 && tensors[0].shape[1] == 3 && tensors[0].len == sizeof weights);
    REQUIRE(strcmp(tensors[0].dtype_name, "float32") == 0 && strcmp(tensors[0].layout_name, "dense") == 0);
    REQUIRE(tensors[0].blocksize[0] == 0 && tensors[0].reserved == 0);
    REQUIRE(tensors[1].components[0].encoding == ZT_ZSTD && tensors[1].components[0].filter != 0);
    REQUIRE(tensors[1].components[0].stored_len < tensors[1].components[0].len);
    REQUIRE(tensors[1].components[0].chunk_len >= 65536 && tensors[1].components[0].has_crc32 == 1);
    REQUIRE(!zt_reader_find(reader, "graph", &number) && number == 2);
    REQUIRE(zt_reader_find(reader, "nothing", &number) == ZT_ERR_NOT_FOUND && number == 2);
    REQUIRE(!zt_reader_describe(reader, number, &tensor, components, 3));
    REQUIRE(tensor.layout == ZT_SPARSE_CSR && tensor.dtype == ZT_FLOAT32 && tensor.component_count == 3);
    REQUIRE(components[2].role == ZT_INDPTR && components[2].dtype == ZT_INT64 && components[2].offset % 64 == 0);
    REQUIRE(strcmp(components[1].role_name, "indices") == 0 && strcmp(components[1].encoding_name, "raw") == 0);
    REQUIRE(strcmp(components[1].dtype_name, "int32") == 0);
    REQUIRE(!zt_reader_names(reader, &names, &len) && len == 21 && memcmp(names, "weights\0packed\0graph", 21) == 0);
    REQUIRE(!zt_reader_metadata(reader, &buffer));
    REQUIRE(strcmp((const char *)zt_buffer_data(buffer), "{\"epoch\":3}") == 0 && zt_buffer_len(buffer) == 11);
    zt_buffer_free(buffer);
    REQUIRE(!zt_reader_attributes(reader, 0, &buffer) && zt_buffer_len(buffer) == 15);
    zt_buffer_free(buffer);
    REQUIRE(!zt_reader_read(reader, 0, 0, ZT_VERIFY_ON, &buffer));
    REQUIRE(memcmp(zt_buffer_data(buffer), weights, sizeof weights) == 0);
    zt_buffer_free(buffer);
    REQUIRE(!zt_reader_read_range(reader, 1, 0, 100, 10, ZT_VERIFY_OFF, &buffer));
    REQUIRE(memcmp(zt_buffer_data(buffer), packed + 100, 20) == 0);
    zt_buffer_free(buffer);
    REQUIRE(!zt_reader_read_stored(reader, 1, 0, ZT_VERIFY_AS_OPENED, &buffer));
    REQUIRE(zt_buffer_len(buffer) == tensors[1].components[0].stored_len);
    zt_buffer_free(buffer);
    REQUIRE(!zt_reader_read_range_into(reader, 0, 0, 3, 3, ZT_VERIFY_OFF, row, sizeof row) && row[2] == 6);
    target.tensor = 1, target.component = 0, target.data = own, target.len = sizeof own;
    REQUIRE(!zt_reader_read_into(reader, &target, 1, ZT_VERIFY_OFF) && memcmp(own, packed, sizeof own) == 0);
    REQUIRE(!zt_reader_read_many(reader, NULL, 0, ZT_VERIFY_OFF, &batch));
    REQUIRE(!zt_batch_spans(batch, &spans, &count) && count == 5 && spans[4].len == sizeof starts);
    REQUIRE(spans[4].memory < zt_batch_memory_count(batch) && !zt_batch_memory(batch, spans[4].memory, &buffer));
    REQUIRE(memcmp((char *)zt_buffer_data(buffer) + spans[4].start, starts, sizeof starts) == 0);
    zt_batch_free(batch);
    zt_buffer_free(buffer);
    REQUIRE(!zt_reader_verify(reader, report, &reports) && reports > 0);
}

int main(void) {
    ZtWriter *writer;
    ZtReader *reader;
    ZtBuffer *file;
    ZtDtype dtype;
    REQUIRE(zt_abi_version() == ZT_ABI_VERSION && strlen(zt_version()) > 0);
    REQUIRE(strcmp(zt_status_name(ZT_ERR_CHECKSUM), "CHECKSUM") == 0);
    REQUIRE(strcmp(zt_dtype_name(ZT_BFLOAT16), "bfloat16") == 0 && zt_dtype_size(ZT_COMPLEX128) == 16);
    REQUIRE(!zt_dtype_from_name("float4_e2m1fn_x2", &dtype) && dtype == ZT_FLOAT4_E2M1FN_X2);
    REQUIRE(strcmp(zt_layout_name(ZT_SPARSE_BSC), "sparse_bsc") == 0 && strcmp(zt_role_name(ZT_VALUES), "values") == 0);
    REQUIRE(strcmp(zt_encoding_name(ZT_RAW), "raw") == 0 && strcmp(zt_filter_name(ZT_FILTER_DELTA), "delta") == 0);

    REQUIRE(!zt_writer_create("abi.zt", ZT_FSYNC_NEVER, 1, "{\"epoch\":3}", &writer));
    add(writer);
    REQUIRE(!zt_writer_finish(writer));
    zt_writer_free(writer);
    REQUIRE(!zt_reader_open("abi.zt", ZT_READ_OWNED | ZT_READ_VERIFY, 1, &reader));
    read_all(reader);
    zt_reader_free(reader);
    REQUIRE(remove("abi.zt") == 0);

    REQUIRE(!zt_writer_create_memory(ZT_FSYNC_AUTO, 0, "{\"epoch\":3}", &writer));
    add(writer);
    REQUIRE(!zt_writer_finish_memory(writer, &file));
    zt_writer_free(writer);
    REQUIRE(!zt_reader_open_memory(zt_buffer_data(file), zt_buffer_len(file), ZT_READ_MMAP, 0, &reader));
    read_all(reader);
    zt_reader_free(reader);
    zt_buffer_free(file);
    puts("the program of 0.1.0 runs");
    return 0;
}
