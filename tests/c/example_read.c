/* Lists a .zt file, checks it, and reads from it:
 *
 *     cc example_read.c -lztensor -o example_read && ./example_read model.zt
 *
 * The file is one that example_write.c wrote: read_weights() and read_into_own_memory() ask for tensors by their names,
 * everything else works with any file. The program is C99 and C++. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ztensor.h"

/* Prints one element. Elements are copied out before they are used, so that `data` need not be aligned. */
static void print_element(ZtDtype dtype, const unsigned char *data) {
    size_t i;
    if (dtype == ZT_FLOAT32) {
        float value;
        memcpy(&value, data, sizeof value);
        printf(" %g", (double)value);
    } else if (dtype == ZT_BFLOAT16) {
        uint16_t upper;
        uint32_t bits;
        float value;
        memcpy(&upper, data, sizeof upper);
        bits = (uint32_t)upper << 16;
        memcpy(&value, &bits, sizeof value);
        printf(" %g", (double)value);
    } else if (dtype == ZT_INT32) {
        int32_t value;
        memcpy(&value, data, sizeof value);
        printf(" %" PRId32, value);
    } else if (dtype == ZT_INT64) {
        int64_t value;
        memcpy(&value, data, sizeof value);
        printf(" %" PRId64, value);
    } else {
        /* Other types as hexadecimal digits; a real program has a case for each type that it knows. */
        printf(" ");
        for (i = 0; i < zt_dtype_size(dtype); i++) {
            printf("%02x", data[i]);
        }
    }
}

/* Prints the first elements of `len` bytes. */
static void print_elements(ZtDtype dtype, const void *data, size_t len) {
    size_t size = zt_dtype_size(dtype);
    size_t count = size == 0 ? 0 : len / size;
    size_t shown = count < 12 ? count : 12;
    size_t i;
    for (i = 0; i < shown; i++) {
        print_element(dtype, (const unsigned char *)data + i * size);
    }
    printf(shown < count ? " ...\n" : "\n");
}

/* Lists what the file holds. No tensor is read for that. */
static ZtStatus list(const ZtReader *reader) {
    const ZtTensor *tensors;
    size_t count, i, j;
    ZtBuffer *json;
    /* The file's own key-values are the text of a JSON object, which ends with a NUL. */
    ZtStatus status = zt_reader_metadata(reader, &json);
    if (status) {
        return status;
    }
    printf("metadata %s\n", (const char *)zt_buffer_data(json));
    zt_buffer_free(json);

    /* All descriptions in one call; they belong to the reader. */
    status = zt_reader_tensors(reader, &tensors, &count);
    if (status) {
        return status;
    }
    for (i = 0; i < count; i++) {
        const ZtTensor *tensor = &tensors[i];
        printf("%s: %s %s [", tensor->name, tensor->layout_name, tensor->dtype_name);
        for (j = 0; j < tensor->ndim; j++) {
            printf(j > 0 ? ", %" PRIu64 : "%" PRIu64, tensor->shape[j]);
        }
        printf("]\n");
        for (j = 0; j < tensor->component_count; j++) {
            const ZtComponent *component = &tensor->components[j];
            printf("    %s: %s, %" PRIu64 " bytes, stored as %" PRIu64 " bytes (%s)\n", component->role_name,
                   component->dtype_name, component->len, component->stored_len, component->encoding_name);
        }
        if (tensor->has_attributes) {
            status = zt_reader_attributes(reader, i, &json);
            if (status) {
                return status;
            }
            printf("    attributes %s\n", (const char *)zt_buffer_data(json));
            zt_buffer_free(json);
        }
    }
    return ZT_OK;
}

/* Reports how far the verification has come. `user` is whatever was given to zt_reader_verify(). */
static int32_t show_progress(uint64_t done, uint64_t total, void *user) {
    int *reports = (int *)user;
    (*reports)++;
    printf("checked %" PRIu64 " of %" PRIu64 " bytes\n", done, total);
    return 0; /* anything else would stop it: ZT_ERR_CANCELLED */
}

/* Checks every byte of every tensor against its checksum. */
static ZtStatus verify(const ZtReader *reader) {
    int reports = 0;
    ZtStatus status = zt_reader_verify(reader, show_progress, &reports);
    if (!status) {
        printf("the file is intact (%d reports)\n", reports);
    }
    return status;
}

/* Reads one tensor by its name, and then a single row of it. */
static ZtStatus read_weights(const ZtReader *reader) {
    size_t number;
    ZtTensor weights;
    ZtComponent components[3]; /* no layout has more */
    ZtBuffer *whole, *row;
    ZtStatus status = zt_reader_find(reader, "weights", &number);
    if (!status) {
        status = zt_reader_describe(reader, number, &weights, components, 3);
    }
    if (status) {
        return status;
    }
    /* A file may hold anything under this name: look before you cast. */
    if (weights.layout != ZT_DENSE || weights.dtype != ZT_FLOAT32 || weights.ndim != 2 || weights.shape[0] < 2) {
        printf("weights are not a float32 matrix of at least two rows\n");
        return ZT_OK;
    }

    /* Component 0 of a dense tensor is its data. ZT_VERIFY_ON checks the checksum first. */
    status = zt_reader_read(reader, number, 0, ZT_VERIFY_ON, &whole);
    if (status) {
        return status;
    }
    printf("weights:");
    print_elements(weights.dtype, zt_buffer_data(whole), zt_buffer_len(whole));

    /* Row 1 alone: its elements begin after one row's worth of columns. Nothing else is read. */
    status = zt_reader_read_range(reader, number, 0, weights.shape[1], weights.shape[1], ZT_VERIFY_OFF, &row);
    if (!status) {
        printf("weights, row 1:");
        print_elements(weights.dtype, zt_buffer_data(row), zt_buffer_len(row));
        zt_buffer_free(row);
    }
    zt_buffer_free(whole);
    return status;
}

/* Reads a tensor into memory that the program brings itself. */
static ZtStatus read_into_own_memory(const ZtReader *reader) {
    size_t number;
    ZtTensor tensor;
    ZtComponent components[3];
    ZtTarget target;
    ZtStatus status = zt_reader_find(reader, "hidden", &number);
    if (!status) {
        status = zt_reader_describe(reader, number, &tensor, components, 3);
    }
    if (status) {
        return status;
    }
    target.tensor = number;
    target.component = 0;
    target.len = (size_t)components[0].len;
    target.data = malloc(target.len > 0 ? target.len : 1);
    if (target.data == NULL) {
        return ZT_ERR_MEMORY;
    }
    status = zt_reader_read_into(reader, &target, 1, ZT_VERIFY_AS_OPENED);
    if (!status) {
        printf("hidden:");
        print_elements(components[0].dtype, target.data, target.len);
    }
    free(target.data);
    return status;
}

/* Reads all tensors at once, on several threads. */
static ZtStatus read_everything(const ZtReader *reader) {
    const ZtTensor *tensors;
    const ZtSpan *spans;
    size_t tensor_count, span_count, memory_count, i, j, at;
    ZtBuffer **memory;
    ZtBatch *batch;
    ZtStatus status = zt_reader_tensors(reader, &tensors, &tensor_count);
    if (!status) {
        status = zt_reader_read_many(reader, NULL, 0, ZT_VERIFY_AS_OPENED, &batch);
    }
    if (status) {
        return status;
    }

    /* A batch is a few blocks of memory and a list that tells in which block each component lies, and where. */
    memory_count = zt_batch_memory_count(batch);
    memory = (ZtBuffer **)calloc(memory_count + 1, sizeof *memory);
    status = memory == NULL ? ZT_ERR_MEMORY : ZT_OK;
    for (i = 0; i < memory_count && !status; i++) {
        status = zt_batch_memory(batch, i, &memory[i]);
    }
    if (!status) {
        status = zt_batch_spans(batch, &spans, &span_count);
    }
    if (!status) {
        /* Spans stand in order: all components of tensor 0, then all of tensor 1, and so on. */
        at = 0;
        for (i = 0; i < tensor_count; i++) {
            for (j = 0; j < tensors[i].component_count; j++, at++) {
                const unsigned char *block = (const unsigned char *)zt_buffer_data(memory[spans[at].memory]);
                printf("%s, %s:", tensors[i].name, tensors[i].components[j].role_name);
                print_elements(tensors[i].components[j].dtype, block + spans[at].start, spans[at].len);
            }
        }
    }
    for (i = 0; memory != NULL && i < memory_count; i++) {
        zt_buffer_free(memory[i]);
    }
    free(memory);
    zt_batch_free(batch);
    return status;
}

int main(int argc, char **argv) {
    ZtReader *reader;
    ZtStatus status;
    if (argc != 2) {
        fprintf(stderr, "usage: %s FILE\n", argv[0]);
        return 2;
    }
    status = zt_reader_open(argv[1], ZT_READ_MMAP, 0, &reader);
    if (!status) {
        status = list(reader);
        if (!status) {
            status = verify(reader);
        }
        if (!status) {
            status = read_weights(reader);
        }
        if (!status) {
            status = read_into_own_memory(reader);
        }
        if (!status) {
            status = read_everything(reader);
        }
        zt_reader_free(reader);
    }
    if (status) {
        /* The message outlives the reader: only the next failure on this thread replaces it. */
        fprintf(stderr, "%s: %s\n", zt_status_name(status), zt_last_error_message());
        return 1;
    }
    return 0;
}
