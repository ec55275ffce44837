/* The file that the tests read: a tensor of each kind. And helpers to describe tensors, and to damage files. */
#ifndef ZT_SAMPLE_H
#define ZT_SAMPLE_H

#include <stdint.h>
#include <string.h>

#include "ztensor.h"

#define LENGTH_OF(array) (sizeof(array) / sizeof(array)[0])

/* The numbers of the tensors in the file, in the order written. */
enum { DENSE, SCALAR, EMPTY, CSR, CSC, COO, BSR, BSC, PACKED, LARGE, TIED, SAMPLE_COUNT };

/* A component of the file: what it holds. */
typedef struct {
    const void *data;
    size_t len;
    ZtDtype dtype;
    ZtRole role;
} SamplePart;

/* A tensor of the file. */
typedef struct {
    const char *name;
    ZtLayout layout;
    uint64_t shape[2];
    size_t ndim;
    size_t part_count;
    SamplePart parts[3];
} SampleTensor;

/* Elements of PACKED, and of LARGE and TIED: many in the large sample, few in the small one. */
#define SAMPLE_PACKED_MAX ((size_t)1536 * 1024)
#define SAMPLE_LARGE_MAX ((size_t)512 * 1024)
#define SAMPLE_PACKED_MIN ((size_t)256)
#define SAMPLE_LARGE_MIN ((size_t)16)

static const char sample_metadata[] = "{\"answer\":42,\"title\":\"sample \\u00e9\"}";
static const char sample_attributes[] = "{\"unit\":\"metre\"}";

/* Fills `tensors` with the large sample (3 MiB compressed, 2 MiB raw) or the small one. The data is static. */
static inline void sample_tensors(SampleTensor tensors[SAMPLE_COUNT], int is_large) {
    static const float dense[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    static const int64_t scalar = -7;
    /* 1 0 0 0 0 0
     * 0 2 0 0 0 0
     * 0 0 0 3 0 4
     * 0 0 0 0 5 6 */
    static const float values[] = {1, 2, 3, 4, 5, 6};
    static const int32_t columns[] = {0, 1, 3, 5, 4, 5};
    static const int64_t rows_begin[] = {0, 1, 2, 4, 6};
    static const float values_by_column[] = {1, 2, 3, 5, 4, 6};
    static const int32_t rows[] = {0, 1, 2, 3, 2, 3};
    static const int64_t columns_begin[] = {0, 1, 2, 2, 3, 4, 6};
    static const int64_t coordinates[2][6] = {{0, 1, 2, 2, 3, 3}, {0, 1, 3, 5, 4, 5}};
    static const float blocks[2][2][3] = {{{1, 0, 0}, {0, 2, 0}}, {{3, 0, 4}, {0, 5, 6}}};
    static const uint16_t block_numbers[] = {0, 1};
    static const uint32_t blocks_begin[] = {0, 1, 2};
    static uint16_t packed[SAMPLE_PACKED_MAX];
    static float large[SAMPLE_LARGE_MAX];
    size_t packed_count = is_large ? SAMPLE_PACKED_MAX : SAMPLE_PACKED_MIN;
    size_t large_count = is_large ? SAMPLE_LARGE_MAX : SAMPLE_LARGE_MIN;
    size_t i;
    const SampleTensor sample[SAMPLE_COUNT] = {
        {"dense", ZT_DENSE, {3, 4}, 2, 1, {{dense, sizeof dense, ZT_FLOAT32, ZT_DATA}, {0, 0, 0, 0}, {0, 0, 0, 0}}},
        {"scalar", ZT_DENSE, {0, 0}, 0, 1, {{&scalar, sizeof scalar, ZT_INT64, ZT_DATA}, {0, 0, 0, 0}, {0, 0, 0, 0}}},
        {"empty", ZT_DENSE, {0, 5}, 2, 1, {{NULL, 0, ZT_UINT8, ZT_DATA}, {0, 0, 0, 0}, {0, 0, 0, 0}}},
        {"csr",
         ZT_SPARSE_CSR,
         {4, 6},
         2,
         3,
         {{values, sizeof values, ZT_FLOAT32, ZT_VALUES},
          {columns, sizeof columns, ZT_INT32, ZT_INDICES},
          {rows_begin, sizeof rows_begin, ZT_INT64, ZT_INDPTR}}},
        {"csc",
         ZT_SPARSE_CSC,
         {4, 6},
         2,
         3,
         {{values_by_column, sizeof values_by_column, ZT_FLOAT32, ZT_VALUES},
          {rows, sizeof rows, ZT_INT32, ZT_INDICES},
          {columns_begin, sizeof columns_begin, ZT_INT64, ZT_INDPTR}}},
        {"coo",
         ZT_SPARSE_COO,
         {4, 6},
         2,
         2,
         {{values, sizeof values, ZT_FLOAT32, ZT_VALUES},
          {coordinates, sizeof coordinates, ZT_INT64, ZT_INDICES},
          {0, 0, 0, 0}}},
        {"bsr",
         ZT_SPARSE_BSR,
         {4, 6},
         2,
         3,
         {{blocks, sizeof blocks, ZT_FLOAT32, ZT_VALUES},
          {block_numbers, sizeof block_numbers, ZT_UINT16, ZT_INDICES},
          {blocks_begin, sizeof blocks_begin, ZT_UINT32, ZT_INDPTR}}},
        {"bsc",
         ZT_SPARSE_BSC,
         {4, 6},
         2,
         3,
         {{blocks, sizeof blocks, ZT_FLOAT32, ZT_VALUES},
          {block_numbers, sizeof block_numbers, ZT_UINT16, ZT_INDICES},
          {blocks_begin, sizeof blocks_begin, ZT_UINT32, ZT_INDPTR}}},
        {"packed",
         ZT_DENSE,
         {packed_count, 0},
         1,
         1,
         {{packed, packed_count * sizeof *packed, ZT_BFLOAT16, ZT_DATA}, {0, 0, 0, 0}, {0, 0, 0, 0}}},
        {"large",
         ZT_DENSE,
         {large_count / 8, 8},
         2,
         1,
         {{large, large_count * sizeof *large, ZT_FLOAT32, ZT_DATA}, {0, 0, 0, 0}, {0, 0, 0, 0}}},
        {"tied",
         ZT_DENSE,
         {8, large_count / 8},
         2,
         1,
         {{large, large_count * sizeof *large, ZT_FLOAT32, ZT_DATA}, {0, 0, 0, 0}, {0, 0, 0, 0}}},
    };
    for (i = 0; i < packed_count; i++) {
        /* Much the same again and again, but not throughout: that would be stored without a filter. */
        packed[i] = (uint16_t)(0x3f80 + i * i % 119 + (i >> 20));
    }
    for (i = 0; i < large_count; i++) {
        large[i] = (float)i / 4;
    }
    memcpy(tensors, sample, sizeof sample);
}

/* A component to be written. */
static inline ZtComponentSpec component_spec(const void *data, size_t len, ZtDtype dtype) {
    ZtComponentSpec spec;
    memset(&spec, 0, sizeof spec);
    spec.data = data;
    spec.len = len;
    spec.dtype = dtype;
    return spec;
}

/* A tensor to be written. */
static inline ZtTensorSpec tensor_spec(const char *name, ZtLayout layout, const uint64_t *shape, size_t ndim,
                                       const ZtComponentSpec *components, size_t component_count) {
    ZtTensorSpec spec;
    memset(&spec, 0, sizeof spec);
    spec.name = name;
    spec.name_len = strlen(name);
    spec.shape = shape;
    spec.ndim = ndim;
    spec.components = components;
    spec.component_count = component_count;
    spec.dtype = component_count > 0 ? components[0].dtype : ZT_FLOAT32;
    spec.layout = layout;
    return spec;
}

/* Makes the spec of a tensor of the sample. */
static inline ZtTensorSpec sample_spec(const SampleTensor *tensor, int number, ZtComponentSpec components[3]) {
    ZtTensorSpec spec;
    size_t i;
    for (i = 0; i < tensor->part_count; i++) {
        components[i] = component_spec(tensor->parts[i].data, tensor->parts[i].len, tensor->parts[i].dtype);
        components[i].share = number == LARGE || number == TIED ? 5 : 0;
    }
    spec = tensor_spec(tensor->name, tensor->layout, tensor->shape, tensor->ndim, components, tensor->part_count);
    if (tensor->layout == ZT_SPARSE_BSR || tensor->layout == ZT_SPARSE_BSC) {
        spec.blocksize[0] = 2;
        spec.blocksize[1] = 3;
    }
    if (number == DENSE) {
        spec.attributes = sample_attributes;
        spec.attributes_len = strlen(sample_attributes);
    }
    spec.level = number == PACKED ? 3 : 0;
    return spec;
}

/* Adds the sample's tensors, each in a call of its own or all in one. */
static inline ZtStatus sample_add(ZtWriter *writer, int is_large, int in_one_call) {
    SampleTensor tensors[SAMPLE_COUNT];
    ZtComponentSpec components[SAMPLE_COUNT][3];
    ZtTensorSpec specs[SAMPLE_COUNT];
    ZtStatus status = ZT_OK;
    int i;
    sample_tensors(tensors, is_large);
    for (i = 0; i < SAMPLE_COUNT; i++) {
        specs[i] = sample_spec(&tensors[i], i, components[i]);
    }
    if (in_one_call) {
        return zt_writer_add(writer, specs, SAMPLE_COUNT);
    }
    for (i = 0; i < SAMPLE_COUNT && !status; i++) {
        status = zt_writer_add(writer, &specs[i], 1);
    }
    return status;
}

/* The sample as a file in memory; NULL if anything fails. */
static inline ZtBuffer *sample_file(int is_large) {
    ZtWriter *writer = NULL;
    ZtBuffer *file = NULL;
    if (!zt_writer_create_memory(ZT_FSYNC_AUTO, 2, sample_metadata, &writer) && !sample_add(writer, is_large, 1)) {
        (void)zt_writer_finish_memory(writer, &file);
    }
    zt_writer_free(writer);
    return file;
}

/* Little-endian numbers of a file. */
static inline uint64_t get_u64(const unsigned char *bytes) {
    uint64_t value = 0;
    int i;
    for (i = 7; i >= 0; i--) {
        value = value << 8 | bytes[i];
    }
    return value;
}

static inline void put_u32(unsigned char *bytes, uint32_t value) {
    int i;
    for (i = 0; i < 4; i++) {
        bytes[i] = (unsigned char)(value >> (8 * i));
    }
}

/* CRC-32 as zlib has it. */
static inline uint32_t crc32_of(const unsigned char *bytes, size_t len) {
    uint32_t crc = 0xffffffffu;
    int bit;
    while (len-- > 0) {
        crc ^= *bytes++;
        for (bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
        }
    }
    return ~crc;
}

/* Where the index of a file stands, as its footer says (docs/FORMAT.md, 1.1). */
static inline unsigned char *index_of(unsigned char *file, size_t len, size_t *index_len) {
    *index_len = (size_t)get_u64(file + len - 56);
    return file + get_u64(file + len - 64);
}

/* Gives index and footer fresh checksums, so that a change is not noticed as damage. */
static inline void sign(unsigned char *file, size_t len) {
    size_t index_len;
    const unsigned char *index = index_of(file, len, &index_len);
    put_u32(file + len - 64 + 24, crc32_of(index, index_len));
    put_u32(file + len - 64 + 52, crc32_of(file + len - 64, 52));
}

/* Replaces bytes of the index everywhere, signs the file, and tells how often they stood there. */
static inline size_t patch_index(unsigned char *file, size_t len, const void *from, const void *to, size_t patch_len) {
    size_t index_len, at, count = 0;
    unsigned char *index = index_of(file, len, &index_len);
    for (at = 0; at + patch_len <= index_len; at++) {
        if (memcmp(index + at, from, patch_len) == 0) {
            memcpy(index + at, to, patch_len);
            count++;
        }
    }
    sign(file, len);
    return count;
}

#endif
