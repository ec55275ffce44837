/* Writes a .zt file with a tensor of each kind:
 *
 *     cc example_write.c -lztensor -o example_write && ./example_write model.zt
 *
 * The program is C99 and C++. Element data is little-endian in the file and is not converted, so arrays can be
 * handed over as they are on little-endian machines. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ztensor.h"

#define ROWS 4
#define COLUMNS 6
#define LENGTH_OF(array) (sizeof(array) / sizeof(array)[0])

/* The number of bfloat16 values in the compressed tensor. */
#define HIDDEN 4096

/* A bfloat16 is the upper half of a float, here rounded to nearest, ties to even. (NaN would need a line more.) */
static uint16_t bfloat16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits += 0x7fff + ((bits >> 16) & 1);
    return (uint16_t)(bits >> 16);
}

/* Describes a component: its bytes and its element type. All unused fields of a spec must be 0. */
static ZtComponentSpec component(const void *data, size_t len, ZtDtype dtype) {
    ZtComponentSpec spec;
    memset(&spec, 0, sizeof spec);
    spec.data = data;
    spec.len = len;
    spec.dtype = dtype;
    return spec;
}

/* Describes a tensor whose components stand in the order that its layout states. */
static ZtTensorSpec tensor(const char *name, ZtLayout layout, const uint64_t *shape, size_t ndim,
                           const ZtComponentSpec *components, size_t component_count) {
    ZtTensorSpec spec;
    memset(&spec, 0, sizeof spec);
    spec.name = name;
    spec.name_len = strlen(name);
    spec.layout = layout;
    spec.shape = shape;
    spec.ndim = ndim;
    spec.components = components;
    spec.component_count = component_count;
    /* The element type of a tensor is that of its first component. */
    spec.dtype = components[0].dtype;
    return spec;
}

/* A matrix of float, row by row, with key-values of its own. */
static ZtStatus add_dense(ZtWriter *writer) {
    static const float weights[ROWS][COLUMNS] = {
        {0.00f, 0.25f, 0.50f, 0.75f, 1.00f, 1.25f},
        {1.50f, 1.75f, 2.00f, 2.25f, 2.50f, 2.75f},
        {3.00f, 3.25f, 3.50f, 3.75f, 4.00f, 4.25f},
        {4.50f, 4.75f, 5.00f, 5.25f, 5.50f, 5.75f},
    };
    static const uint64_t shape[] = {ROWS, COLUMNS};
    static const char attributes[] = "{\"trained\": true, \"unit\": \"volt\"}";
    ZtComponentSpec data = component(weights, sizeof weights, ZT_FLOAT32);
    ZtTensorSpec spec = tensor("weights", ZT_DENSE, shape, 2, &data, 1);
    spec.attributes = attributes;
    spec.attributes_len = strlen(attributes);
    return zt_writer_add(writer, &spec, 1);
}

/* A vector of bfloat16, compressed. Compression is lossless at every level; 3 is a good choice. */
static ZtStatus add_compressed(ZtWriter *writer) {
    static const uint64_t shape[] = {HIDDEN};
    uint16_t *values = (uint16_t *)malloc(HIDDEN * sizeof *values);
    ZtComponentSpec data;
    ZtTensorSpec spec;
    ZtStatus status;
    size_t i;
    if (values == NULL) {
        return ZT_ERR_MEMORY;
    }
    for (i = 0; i < HIDDEN; i++) {
        values[i] = bfloat16((float)(i % 100) / 100.0f);
    }
    data = component(values, HIDDEN * sizeof *values, ZT_BFLOAT16);
    spec = tensor("hidden", ZT_DENSE, shape, 1, &data, 1);
    spec.level = 3;
    status = zt_writer_add(writer, &spec, 1);
    /* The writer keeps nothing: what it was given may be freed as soon as the call returns. */
    free(values);
    return status;
}

/* Two tensors that are the same bytes, as tied weights are. Components with the same share number, any but 0, are
 * stored once. Several tensors can be added in one call, which spreads the work over threads. */
static ZtStatus add_tied(ZtWriter *writer) {
    static const int32_t table[] = {10, 11, 12, 13, 14, 15, 16, 17};
    static const uint64_t shape[] = {4, 2};
    ZtComponentSpec data = component(table, sizeof table, ZT_INT32);
    ZtTensorSpec specs[2];
    data.share = 1;
    specs[0] = tensor("embedding", ZT_DENSE, shape, 2, &data, 1);
    specs[1] = tensor("output", ZT_DENSE, shape, 2, &data, 1);
    return zt_writer_add(writer, specs, LENGTH_OF(specs));
}

/* One sparse matrix in each of the sparse layouts:
 *
 *     1 0 0 0 0 0
 *     0 2 0 0 0 0
 *     0 0 0 3 0 4
 *     0 0 0 0 5 6
 */
static ZtStatus add_sparse(ZtWriter *writer) {
    static const uint64_t shape[] = {ROWS, COLUMNS};

    /* Row by row: the values, their columns, and where each row begins among them. */
    static const float csr_values[] = {1, 2, 3, 4, 5, 6};
    static const int32_t csr_columns[] = {0, 1, 3, 5, 4, 5};
    static const int64_t csr_rows[ROWS + 1] = {0, 1, 2, 4, 6};
    ZtComponentSpec csr[3];

    /* Column by column: the values, their rows, and where each column begins among them. */
    static const float csc_values[] = {1, 2, 3, 5, 4, 6};
    static const int32_t csc_rows[] = {0, 1, 2, 3, 2, 3};
    static const int64_t csc_columns[COLUMNS + 1] = {0, 1, 2, 2, 3, 4, 6};
    ZtComponentSpec csc[3];

    /* The values and their coordinates: all rows first, then all columns. */
    static const int64_t coo_coordinates[2][6] = {{0, 1, 2, 2, 3, 3}, {0, 1, 3, 5, 4, 5}};
    ZtComponentSpec coo[2];

    /* Blocks of 2 rows and 3 columns, each in C order. As this matrix is two blocks on the diagonal, rows of blocks
     * and columns of blocks look alike. */
    static const float blocks[2][2][3] = {{{1, 0, 0}, {0, 2, 0}}, {{3, 0, 4}, {0, 5, 6}}};
    static const int32_t block_numbers[] = {0, 1};
    static const int32_t block_starts[] = {0, 1, 2};
    ZtComponentSpec bsr[3];

    ZtTensorSpec specs[5];

    csr[0] = component(csr_values, sizeof csr_values, ZT_FLOAT32);
    csr[1] = component(csr_columns, sizeof csr_columns, ZT_INT32);
    csr[2] = component(csr_rows, sizeof csr_rows, ZT_INT64);
    specs[0] = tensor("graph.csr", ZT_SPARSE_CSR, shape, 2, csr, 3);

    csc[0] = component(csc_values, sizeof csc_values, ZT_FLOAT32);
    csc[1] = component(csc_rows, sizeof csc_rows, ZT_INT32);
    csc[2] = component(csc_columns, sizeof csc_columns, ZT_INT64);
    specs[1] = tensor("graph.csc", ZT_SPARSE_CSC, shape, 2, csc, 3);

    coo[0] = component(csr_values, sizeof csr_values, ZT_FLOAT32);
    coo[1] = component(coo_coordinates, sizeof coo_coordinates, ZT_INT64);
    specs[2] = tensor("graph.coo", ZT_SPARSE_COO, shape, 2, coo, 2);

    bsr[0] = component(blocks, sizeof blocks, ZT_FLOAT32);
    bsr[1] = component(block_numbers, sizeof block_numbers, ZT_INT32);
    bsr[2] = component(block_starts, sizeof block_starts, ZT_INT32);
    specs[3] = tensor("graph.bsr", ZT_SPARSE_BSR, shape, 2, bsr, 3);
    specs[3].blocksize[0] = 2;
    specs[3].blocksize[1] = 3;
    specs[4] = tensor("graph.bsc", ZT_SPARSE_BSC, shape, 2, bsr, 3);
    specs[4].blocksize[0] = 2;
    specs[4].blocksize[1] = 3;

    return zt_writer_add(writer, specs, LENGTH_OF(specs));
}

static ZtStatus write_file(const char *path) {
    static const char metadata[] = "{\"model\": \"example\", \"epochs\": 3, \"layers\": [\"hidden\", \"output\"]}";
    ZtWriter *writer;
    /* 0 threads: as many as the machine has. */
    ZtStatus status = zt_writer_create(path, ZT_FSYNC_AUTO, 0, metadata, &writer);
    if (status) {
        return status;
    }
    status = add_dense(writer);
    if (!status) {
        status = add_compressed(writer);
    }
    if (!status) {
        status = add_tied(writer);
    }
    if (!status) {
        status = add_sparse(writer);
    }
    /* Only now does the file appear under its name. */
    if (!status) {
        status = zt_writer_finish(writer);
    }
    /* A writer that was not finished leaves nothing behind. Freeing it does not touch the error message. */
    zt_writer_free(writer);
    return status;
}

int main(int argc, char **argv) {
    ZtStatus status;
    if (argc != 2) {
        fprintf(stderr, "usage: %s FILE\n", argv[0]);
        return 2;
    }
    status = write_file(argv[1]);
    if (status) {
        fprintf(stderr, "%s: %s\n", zt_status_name(status), zt_last_error_message());
        return 1;
    }
    return 0;
}
