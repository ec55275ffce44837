/* What the C ABI costs.
 *
 *     abi call FUNCTION FILE     seconds of one call, over as many as fill half a second
 *     abi write FILE COUNT       seconds to write COUNT tensors of 16 bytes in one call
 *     abi read FILE COUNT        seconds to open the file, and describe and read all of its tensors in bulk
 *
 * What calls read is the first tensor of FILE: float32, four elements or more. */

#define _POSIX_C_SOURCE 200809L

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ztensor.h"

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void check(ZtStatus status) {
    if (status) {
        fprintf(stderr, "%s\n", zt_last_error_message());
        exit(1);
    }
}

static const char *path;
static ZtReader *reader;
static ZtWriter *writer;
static ZtBuffer *buffer;
static ZtTensor tensor;
static ZtComponent component;
static const char *name;
static void *memory;
static size_t len, added;
/* Sums results, so that no call can be left out. */
static volatile size_t sink;

static ZtTensorSpec spec_of(const char *text, size_t text_len, const ZtComponentSpec *part) {
    static const uint64_t shape[] = {4};
    ZtTensorSpec spec;
    memset(&spec, 0, sizeof spec);
    spec.name = text;
    spec.name_len = text_len;
    spec.shape = shape;
    spec.ndim = 1;
    spec.components = part;
    spec.component_count = 1;
    spec.dtype = ZT_FLOAT32;
    spec.layout = ZT_DENSE;
    return spec;
}

static ZtComponentSpec part_of(const void *data) {
    ZtComponentSpec part;
    memset(&part, 0, sizeof part);
    part.data = data;
    part.len = 16;
    part.dtype = ZT_FLOAT32;
    return part;
}

static void call_open(void) {
    ZtReader *opened;
    check(zt_reader_open(path, ZT_READ_MMAP, 1, &opened));
    zt_reader_free(opened);
}
static void call_find(void) {
    size_t number;
    check(zt_reader_find(reader, name, &number));
    sink += number;
}
static void call_describe(void) {
    check(zt_reader_describe(reader, 0, &tensor, &component, 1));
}
static void call_tensors(void) {
    const ZtTensor *tensors;
    size_t count;
    check(zt_reader_tensors(reader, &tensors, &count));
    sink += count;
}
static void call_read(void) {
    ZtBuffer *found;
    check(zt_reader_read(reader, 0, 0, ZT_VERIFY_OFF, &found));
    zt_buffer_free(found);
}
static void call_read_into(void) {
    ZtTarget target;
    target.tensor = target.component = 0;
    target.data = memory;
    target.len = len;
    check(zt_reader_read_into(reader, &target, 1, ZT_VERIFY_OFF));
}
static void call_read_range_into(void) {
    check(zt_reader_read_range_into(reader, 0, 0, 0, 4, ZT_VERIFY_OFF, memory, 16));
}
static void call_data(void) {
    sink += (size_t)zt_buffer_data(buffer);
}
static void call_len(void) {
    sink += zt_buffer_len(buffer);
}
static void call_add(void) {
    char text[32];
    int text_len = snprintf(text, sizeof text, "tensor.%07zu", added++);
    ZtComponentSpec part = part_of(memory);
    ZtTensorSpec spec = spec_of(text, (size_t)text_len, &part);
    check(zt_writer_add(writer, &spec, 1));
}

static const struct {
    const char *name;
    void (*run)(void);
} calls[] = {
    {"zt_reader_open", call_open},
    {"zt_reader_find", call_find},
    {"zt_reader_describe", call_describe},
    {"zt_reader_tensors", call_tensors},
    {"zt_reader_read", call_read},
    {"zt_reader_read_into", call_read_into},
    {"zt_reader_read_range_into", call_read_range_into},
    {"zt_buffer_data", call_data},
    {"zt_buffer_len", call_len},
    {"zt_writer_add", call_add},
};

static double call(void (*run)(void)) {
    size_t count = 0, step = 1, i;
    double start, passed = 0;
    check(zt_reader_open(path, ZT_READ_MMAP, 1, &reader));
    check(zt_reader_describe(reader, 0, &tensor, &component, 1));
    name = tensor.name;
    len = (size_t)tensor.len;
    memory = calloc(1, len);
    check(zt_reader_read(reader, 0, 0, ZT_VERIFY_OFF, &buffer));
    check(zt_writer_create_memory(0, 1, NULL, &writer));
    run();
    start = now();
    while (passed < 0.5) {
        for (i = 0; i < step; i++) {
            run();
        }
        count += step;
        step = count;
        passed = now() - start;
    }
    return passed / (double)count;
}

static double write_many(size_t count) {
    static const float data[4] = {1, 2, 3, 4};
    char *names = (char *)malloc(count * 16);
    ZtTensorSpec *specs = (ZtTensorSpec *)malloc(count * sizeof *specs);
    ZtComponentSpec part = part_of(data);
    size_t i;
    double start;
    for (i = 0; i < count; i++) {
        int text_len = snprintf(names + 16 * i, 16, "tensor.%07zu", i);
        specs[i] = spec_of(names + 16 * i, (size_t)text_len, &part);
    }
    start = now();
    check(zt_writer_create(path, ZT_FSYNC_NEVER, 0, NULL, &writer));
    check(zt_writer_add(writer, specs, count));
    check(zt_writer_finish(writer));
    zt_writer_free(writer);
    return now() - start;
}

static double read_many(size_t count) {
    const ZtTensor *tensors;
    ZtBatch *batch;
    size_t found, i;
    uint64_t elements = 0;
    double start = now();
    check(zt_reader_open(path, ZT_READ_MMAP, 0, &reader));
    check(zt_reader_tensors(reader, &tensors, &found));
    for (i = 0; i < found; i++) {
        elements += tensors[i].shape[0];
    }
    check(zt_reader_read_many(reader, NULL, 0, ZT_VERIFY_OFF, &batch));
    start = now() - start;
    if (found != count || elements != 4 * count) {
        fprintf(stderr, "%zu tensors instead of %zu\n", found, count);
        exit(1);
    }
    return start;
}

int main(int argc, char **argv) {
    size_t i;
    if (argc == 4 && strcmp(argv[1], "call") == 0) {
        path = argv[3];
        for (i = 0; i < sizeof calls / sizeof calls[0]; i++) {
            if (strcmp(calls[i].name, argv[2]) == 0) {
                printf("%.12f\n", call(calls[i].run));
                return 0;
            }
        }
    }
    if (argc == 4 && strcmp(argv[1], "call") != 0) {
        path = argv[2];
        printf("%.9f\n", strcmp(argv[1], "write") == 0 ? write_many(strtoul(argv[3], NULL, 10))
                                                        : read_many(strtoul(argv[3], NULL, 10)));
        return 0;
    }
    fprintf(stderr, "usage: abi call FUNCTION FILE | abi write|read FILE COUNT\n");
    return 2;
}
