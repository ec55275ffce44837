/* Arguments that make no sense, for every function of ztensor.h: NULL, numbers out of range, sizes that no memory has,
 * text that is not UTF-8, handles of another type, writers that are finished, fields that must be 0, damaged files. Each
 * gives a status; none crashes, and none is a defect (ZT_ERR_PANIC).
 *
 * scripts/test_c.sh fails if a function of the header is not called here. */

#include "check.h"
#include "dlpack.h"

#include <stdlib.h>
#include <string.h>

#include "sample.h"

/* Sizes that no memory has. */
static const size_t huge_sizes[] = {SIZE_MAX, SIZE_MAX / 2 + 1};
static const size_t huge_numbers[] = {SIZE_MAX, SIZE_MAX / 2 + 1, SIZE_MAX / 2, SAMPLE_COUNT};
static const int32_t no_codes[] = {0, -1, 1000, 0x10000, INT32_MAX, INT32_MIN};
static const char not_utf8[] = "caf\351";

/* One of each. */
static ZtReader *reader;
static ZtBuffer *buffer;
static ZtBatch *batch;
static ZtWriter *memory_writer, *file_writer, *finished_writer;

/* Out-pointers point here before each call, and still do after it. */
static char marker;
static ZtReader *out_reader;
static ZtBuffer *out_buffer;
static ZtBatch *out_batch;
static ZtWriter *out_writer;
static const ZtTensor *out_tensors;
static const ZtSpan *out_spans;
static const char *out_text;
static const uint64_t *out_shares;
static size_t out_number;
static ZtDtype out_dtype;
static ZtTensor out_tensor;
static ZtComponent out_components[3];

static void reset(void) {
    void *untouched = &marker;
    out_reader = (ZtReader *)untouched;
    out_buffer = (ZtBuffer *)untouched;
    out_batch = (ZtBatch *)untouched;
    out_writer = (ZtWriter *)untouched;
    out_tensors = (const ZtTensor *)untouched;
    out_spans = (const ZtSpan *)untouched;
    out_text = (const char *)untouched;
    out_shares = (const uint64_t *)untouched;
    out_number = 4321;
    out_dtype = 4321;
    memset(&out_tensor, 0x77, sizeof out_tensor);
    memset(out_components, 0x77, sizeof out_components);
}

static int is_untouched(void) {
    const void *untouched = &marker;
    return out_reader == untouched && out_buffer == untouched && out_batch == untouched && out_writer == untouched &&
           out_tensors == untouched && out_spans == untouched && out_text == untouched &&
           out_shares == untouched && out_number == 4321 && out_dtype == 4321 && out_tensor.reserved == 0x77777777 && out_components[0].filter == 0x77777777;
}

/* The call must give this status and change no out-pointer. */
#define REFUSED(call, wanted)       \
    do {                            \
        CHECK_STATUS(call, wanted); \
        CHECK(is_untouched());      \
        reset();                    \
    } while (0)

/* A handle of another type, or no handle at all. */
#define AS(type, pointer) ((type *)(void *)(pointer))

/* ---------------------------------------------------------------- every function */

static void test_versions_and_messages(void) {
    CHECK(zt_abi_version() == ZT_ABI_VERSION);
    CHECK(zt_version() != NULL);
    CHECK(zt_last_error_message() != NULL && zt_last_error_file() != NULL);
    CHECK(zt_last_error_errno() == 0);
}

static void test_names(void) {
    size_t i;
    for (i = 0; i < LENGTH_OF(no_codes); i++) {
        int32_t code = no_codes[i];
        CHECK((zt_status_name(code) == NULL) == (code != ZT_OK));
        CHECK(zt_dtype_name(code) == NULL);
        CHECK(zt_dtype_size(code) == 0);
        CHECK(zt_layout_name(code) == NULL);
        CHECK(zt_role_name(code) == NULL);
        CHECK(zt_encoding_name(code) == NULL);
        CHECK(zt_filter_name(code) == NULL);
    }
    REFUSED(zt_dtype_from_name(NULL, &out_dtype), ZT_ERR_NULL);
    REFUSED(zt_dtype_from_name("float32", NULL), ZT_ERR_NULL);
    REFUSED(zt_dtype_from_name(NULL, NULL), ZT_ERR_NULL);
    REFUSED(zt_dtype_from_name(not_utf8, &out_dtype), ZT_ERR_UTF8);
    REFUSED(zt_dtype_from_name("no type", &out_dtype), ZT_ERR_UNKNOWN_DTYPE);
}

static void test_buffer(void) {
    unsigned char target[64];
    size_t i;
    memset(target, 0x55, sizeof target);
    CHECK(zt_buffer_data(NULL) == NULL);
    CHECK(zt_buffer_len(NULL) == 0);
    zt_buffer_free(NULL);
    CHECK(zt_buffer_data(AS(ZtBuffer, reader)) == NULL);
    CHECK(zt_buffer_len(AS(ZtBuffer, batch)) == 0);
    CHECK(zt_buffer_len(AS(ZtBuffer, memory_writer)) == 0);
    CHECK(zt_buffer_len(AS(ZtBuffer, (char *)buffer + 1)) == 0);
    REFUSED(zt_buffer_copy(NULL, target, 48, 1), ZT_ERR_NULL);
    REFUSED(zt_buffer_copy(AS(ZtBuffer, reader), target, 48, 1), ZT_ERR_ARGUMENT);
    REFUSED(zt_buffer_copy(buffer, NULL, 48, 1), ZT_ERR_NULL);
    REFUSED(zt_buffer_copy(buffer, NULL, 0, 1), ZT_ERR_SIZE);
    REFUSED(zt_buffer_copy(buffer, target, 47, SIZE_MAX), ZT_ERR_SIZE);
    REFUSED(zt_buffer_copy(buffer, target, 49, 0), ZT_ERR_SIZE);
    REFUSED(zt_buffer_copy(buffer, target, SIZE_MAX, 1), ZT_ERR_ARGUMENT);
    REFUSED(zt_buffer_copy(buffer, zt_buffer_data(buffer), 48, 1), ZT_ERR_ARGUMENT);
    REFUSED(zt_buffer_copy(buffer, (char *)zt_buffer_data(buffer) + 47, 48, 1), ZT_ERR_ARGUMENT);
    for (i = 0; i < sizeof target; i++) {
        CHECK(target[i] == 0x55);
    }
    /* What is no buffer is not freed. */
    zt_buffer_free(AS(ZtBuffer, reader));
    zt_buffer_free(AS(ZtBuffer, batch));
    zt_buffer_free(AS(ZtBuffer, memory_writer));
    zt_buffer_free(AS(ZtBuffer, (char *)buffer + 1));
    CHECK(zt_buffer_len(buffer) == 48);
}

static void test_batch(void) {
    size_t i;
    REFUSED(zt_batch_spans(NULL, &out_spans, &out_number), ZT_ERR_NULL);
    REFUSED(zt_batch_spans(batch, NULL, &out_number), ZT_ERR_NULL);
    REFUSED(zt_batch_spans(batch, &out_spans, NULL), ZT_ERR_NULL);
    REFUSED(zt_batch_spans(AS(ZtBatch, buffer), &out_spans, &out_number), ZT_ERR_ARGUMENT);
    REFUSED(zt_batch_spans(AS(ZtBatch, reader), &out_spans, &out_number), ZT_ERR_ARGUMENT);
    REFUSED(zt_batch_spans(AS(ZtBatch, memory_writer), &out_spans, &out_number), ZT_ERR_ARGUMENT);
    CHECK(zt_batch_memory_count(NULL) == 0);
    CHECK(zt_batch_memory_count(AS(ZtBatch, buffer)) == 0);
    REFUSED(zt_batch_memory(NULL, 0, &out_buffer), ZT_ERR_NULL);
    REFUSED(zt_batch_memory(batch, 0, NULL), ZT_ERR_NULL);
    REFUSED(zt_batch_memory(AS(ZtBatch, buffer), 0, &out_buffer), ZT_ERR_ARGUMENT);
    for (i = 0; i < LENGTH_OF(huge_numbers); i++) {
        REFUSED(zt_batch_memory(batch, huge_numbers[i], &out_buffer), ZT_ERR_RANGE);
    }
    zt_batch_free(NULL);
    zt_batch_free(AS(ZtBatch, buffer));
    zt_batch_free(AS(ZtBatch, reader));
    CHECK(zt_batch_memory_count(batch) > 0);
}

static void test_open(void) {
    static const uint32_t no_flags[] = {4, 7, 0x80000000u, UINT32_MAX};
    const void *bytes = zt_buffer_data(buffer);
    size_t i;
    REFUSED(zt_reader_open(NULL, 0, 0, &out_reader), ZT_ERR_NULL);
    REFUSED(zt_reader_open("no-such-file.zt", 0, 0, NULL), ZT_ERR_NULL);
    REFUSED(zt_reader_open("no-such-file.zt", 0, SIZE_MAX, &out_reader), ZT_ERR_FILE_NOT_FOUND);
    REFUSED(zt_reader_open(not_utf8, 0, 0, &out_reader), ZT_ERR_FILE_NOT_FOUND);
    REFUSED(zt_reader_open("", 0, 0, &out_reader), ZT_ERR_FILE_NOT_FOUND);
    REFUSED(zt_reader_open(".", 0, 0, &out_reader), ZT_ERR_IO);
    REFUSED(zt_reader_open_memory(NULL, 1, 0, 0, &out_reader), ZT_ERR_NULL);
    REFUSED(zt_reader_open_memory(NULL, SIZE_MAX, 0, 0, &out_reader), ZT_ERR_NULL);
    REFUSED(zt_reader_open_memory(NULL, 0, 0, 0, &out_reader), ZT_ERR_SIGNATURE);
    REFUSED(zt_reader_open_memory(bytes, 0, 0, 0, &out_reader), ZT_ERR_SIGNATURE);
    REFUSED(zt_reader_open_memory(bytes, 48, 0, 0, &out_reader), ZT_ERR_SIGNATURE);
    REFUSED(zt_reader_open_memory(bytes, 48, 0, 0, NULL), ZT_ERR_NULL);
    for (i = 0; i < LENGTH_OF(huge_sizes); i++) {
        REFUSED(zt_reader_open_memory(bytes, huge_sizes[i], 0, 0, &out_reader), ZT_ERR_ARGUMENT);
    }
    for (i = 0; i < LENGTH_OF(no_flags); i++) {
        REFUSED(zt_reader_open("no-such-file.zt", no_flags[i], 0, &out_reader), ZT_ERR_ARGUMENT);
        REFUSED(zt_reader_open_memory(bytes, 48, no_flags[i], 0, &out_reader), ZT_ERR_ARGUMENT);
    }
}

static void test_reader_tells(void) {
    ZtReader *wrong[4];
    size_t i;
    wrong[0] = AS(ZtReader, buffer);
    wrong[1] = AS(ZtReader, batch);
    wrong[2] = AS(ZtReader, memory_writer);
    wrong[3] = AS(ZtReader, (char *)reader + 1);
    for (i = 0; i < LENGTH_OF(wrong); i++) {
        CHECK(zt_reader_count(wrong[i]) == 0);
        CHECK(zt_reader_format(wrong[i]) == NULL);
        REFUSED(zt_reader_tensors(wrong[i], &out_tensors, &out_number), ZT_ERR_ARGUMENT);
        REFUSED(zt_reader_describe(wrong[i], 0, &out_tensor, out_components, 3), ZT_ERR_ARGUMENT);
        REFUSED(zt_reader_shares(wrong[i], &out_shares, &out_number), ZT_ERR_ARGUMENT);
        REFUSED(zt_reader_names(wrong[i], &out_text, &out_number), ZT_ERR_ARGUMENT);
        REFUSED(zt_reader_find(wrong[i], "dense", &out_number), ZT_ERR_ARGUMENT);
        REFUSED(zt_reader_metadata(wrong[i], &out_buffer), ZT_ERR_ARGUMENT);
        REFUSED(zt_reader_attributes(wrong[i], 0, &out_buffer), ZT_ERR_ARGUMENT);
        REFUSED(zt_reader_checksum(wrong[i], 0, 0, &out_buffer), ZT_ERR_ARGUMENT);
        zt_reader_free(wrong[i]);
    }
    zt_reader_free(NULL);
    CHECK(zt_reader_count(NULL) == 0);
    CHECK(zt_reader_format(NULL) == NULL);
    CHECK(zt_reader_count(reader) == SAMPLE_COUNT);

    REFUSED(zt_reader_tensors(NULL, &out_tensors, &out_number), ZT_ERR_NULL);
    REFUSED(zt_reader_tensors(reader, NULL, &out_number), ZT_ERR_NULL);
    REFUSED(zt_reader_tensors(reader, &out_tensors, NULL), ZT_ERR_NULL);

    REFUSED(zt_reader_describe(NULL, 0, &out_tensor, out_components, 3), ZT_ERR_NULL);
    REFUSED(zt_reader_describe(reader, 0, NULL, out_components, 3), ZT_ERR_NULL);
    REFUSED(zt_reader_describe(reader, 0, &out_tensor, NULL, 3), ZT_ERR_NULL);
    REFUSED(zt_reader_describe(reader, 0, &out_tensor, NULL, SIZE_MAX), ZT_ERR_NULL);
    REFUSED(zt_reader_describe(reader, 0, &out_tensor, NULL, 0), ZT_ERR_SIZE);
    REFUSED(zt_reader_describe(reader, CSR, &out_tensor, out_components, 2), ZT_ERR_SIZE);
    CHECK_STATUS(zt_reader_describe(reader, CSR, &out_tensor, out_components, SIZE_MAX), ZT_OK);
    reset();

    REFUSED(zt_reader_shares(NULL, &out_shares, &out_number), ZT_ERR_NULL);
    REFUSED(zt_reader_shares(reader, NULL, &out_number), ZT_ERR_NULL);
    REFUSED(zt_reader_shares(reader, &out_shares, NULL), ZT_ERR_NULL);

    REFUSED(zt_reader_names(NULL, &out_text, &out_number), ZT_ERR_NULL);
    REFUSED(zt_reader_names(reader, NULL, &out_number), ZT_ERR_NULL);
    REFUSED(zt_reader_names(reader, &out_text, NULL), ZT_ERR_NULL);

    REFUSED(zt_reader_find(NULL, "dense", &out_number), ZT_ERR_NULL);
    REFUSED(zt_reader_find(reader, NULL, &out_number), ZT_ERR_NULL);
    REFUSED(zt_reader_find(reader, "dense", NULL), ZT_ERR_NULL);
    REFUSED(zt_reader_find(reader, not_utf8, &out_number), ZT_ERR_UTF8);

    REFUSED(zt_reader_metadata(NULL, &out_buffer), ZT_ERR_NULL);
    REFUSED(zt_reader_metadata(reader, NULL), ZT_ERR_NULL);
    REFUSED(zt_reader_attributes(NULL, 0, &out_buffer), ZT_ERR_NULL);
    REFUSED(zt_reader_attributes(reader, 0, NULL), ZT_ERR_NULL);
    REFUSED(zt_reader_checksum(NULL, 0, 0, &out_buffer), ZT_ERR_NULL);
    REFUSED(zt_reader_checksum(reader, 0, 0, NULL), ZT_ERR_NULL);
    for (i = 0; i < LENGTH_OF(huge_numbers); i++) {
        REFUSED(zt_reader_describe(reader, huge_numbers[i], &out_tensor, out_components, 3), ZT_ERR_RANGE);
        REFUSED(zt_reader_attributes(reader, huge_numbers[i], &out_buffer), ZT_ERR_RANGE);
        REFUSED(zt_reader_checksum(reader, huge_numbers[i], 0, &out_buffer), ZT_ERR_RANGE);
        REFUSED(zt_reader_checksum(reader, 0, huge_numbers[i], &out_buffer), ZT_ERR_RANGE);
    }
}

static int32_t never_called(uint64_t done, uint64_t total, void *user) {
    (void)done;
    (void)total;
    (void)user;
    CHECK(0);
    return 1;
}

static void test_read_handles(void) {
    ZtReader *wrong[4];
    static const size_t numbers[] = {0};
    float memory[12];
    ZtTarget target = {0, 0, NULL, 48};
    size_t i;
    target.data = memory;
    wrong[0] = AS(ZtReader, buffer);
    wrong[1] = AS(ZtReader, batch);
    wrong[2] = AS(ZtReader, memory_writer);
    wrong[3] = NULL;
    for (i = 0; i < LENGTH_OF(wrong); i++) {
        ZtStatus status = wrong[i] == NULL ? ZT_ERR_NULL : ZT_ERR_ARGUMENT;
        REFUSED(zt_reader_read(wrong[i], 0, 0, 0, &out_buffer), status);
        REFUSED(zt_reader_read_range(wrong[i], 0, 0, 0, 1, 0, &out_buffer), status);
        REFUSED(zt_reader_read_stored(wrong[i], 0, 0, 0, &out_buffer), status);
        REFUSED(zt_reader_read_many(wrong[i], numbers, 1, 0, &out_batch), status);
        REFUSED(zt_reader_read_into(wrong[i], &target, 1, 0), status);
        REFUSED(zt_reader_read_range_into(wrong[i], 0, 0, 0, 12, 0, memory, 48), status);
        REFUSED(zt_reader_verify(wrong[i], never_called, NULL), status);
    }
}

static void test_read_arguments(void) {
    static const size_t numbers[] = {0, SIZE_MAX};
    static const int32_t no_verify[] = {-1, 3, INT32_MAX, INT32_MIN};
    float memory[12];
    ZtTarget target = {0, 0, NULL, 48};
    size_t i;
    REFUSED(zt_reader_read(reader, 0, 0, 0, NULL), ZT_ERR_NULL);
    REFUSED(zt_reader_read_range(reader, 0, 0, 0, 1, 0, NULL), ZT_ERR_NULL);
    REFUSED(zt_reader_read_stored(reader, 0, 0, 0, NULL), ZT_ERR_NULL);
    REFUSED(zt_reader_read_many(reader, numbers, 1, 0, NULL), ZT_ERR_NULL);
    REFUSED(zt_reader_read_many(reader, NULL, 1, 0, &out_batch), ZT_ERR_NULL);
    REFUSED(zt_reader_read_many(reader, NULL, SIZE_MAX, 0, &out_batch), ZT_ERR_NULL);
    REFUSED(zt_reader_read_many(reader, (const size_t *)(const void *)((const char *)numbers + 1), 1, 0, &out_batch),
            ZT_ERR_ARGUMENT);
    REFUSED(zt_reader_read_many(reader, numbers, 2, 0, &out_batch), ZT_ERR_RANGE);
    REFUSED(zt_reader_read_into(reader, NULL, 1, 0), ZT_ERR_NULL);
    REFUSED(zt_reader_read_into(reader, NULL, SIZE_MAX, 0), ZT_ERR_NULL);
    REFUSED(zt_reader_read_into(reader, &target, 1, 0), ZT_ERR_NULL); /* its data */
    target.data = memory;
    for (i = 0; i < LENGTH_OF(huge_sizes); i++) {
        size_t size = huge_sizes[i];
        REFUSED(zt_reader_read_many(reader, numbers, size, 0, &out_batch), ZT_ERR_ARGUMENT);
        REFUSED(zt_reader_read_into(reader, &target, size, 0), ZT_ERR_ARGUMENT);
        target.len = size;
        REFUSED(zt_reader_read_into(reader, &target, 1, 0), ZT_ERR_ARGUMENT);
        target.len = 48;
        REFUSED(zt_reader_read_range_into(reader, 0, 0, 0, 12, 0, memory, size), ZT_ERR_ARGUMENT);
        REFUSED(zt_reader_read_range_into(reader, 0, 0, 0, 12, 0, NULL, size), ZT_ERR_NULL);
        REFUSED(zt_reader_read_range_into(reader, 0, 0, size, size, 0, memory, 48), ZT_ERR_RANGE);
        REFUSED(zt_reader_read_range(reader, 0, 0, size, 1, 0, &out_buffer), ZT_ERR_RANGE);
        REFUSED(zt_reader_read_range(reader, 0, 0, 1, size, 0, &out_buffer), ZT_ERR_RANGE);
        REFUSED(zt_reader_read_range(reader, 0, 0, size, size, 0, &out_buffer), ZT_ERR_RANGE);
        REFUSED(zt_reader_read_range(reader, PACKED, 0, size, size, 0, &out_buffer), ZT_ERR_RANGE);
    }
    REFUSED(zt_reader_read_range_into(reader, 0, 0, 0, 12, 0, NULL, 48), ZT_ERR_NULL);
    REFUSED(zt_reader_read_range_into(reader, 0, 0, 0, 12, 0, NULL, 0), ZT_ERR_SIZE);
    for (i = 0; i < LENGTH_OF(huge_numbers); i++) {
        size_t number = huge_numbers[i];
        REFUSED(zt_reader_read(reader, number, 0, 0, &out_buffer), ZT_ERR_RANGE);
        REFUSED(zt_reader_read(reader, 0, number, 0, &out_buffer), ZT_ERR_RANGE);
        REFUSED(zt_reader_read_range(reader, number, 0, 0, 1, 0, &out_buffer), ZT_ERR_RANGE);
        REFUSED(zt_reader_read_range(reader, 0, number, 0, 1, 0, &out_buffer), ZT_ERR_RANGE);
        REFUSED(zt_reader_read_stored(reader, number, 0, 0, &out_buffer), ZT_ERR_RANGE);
        REFUSED(zt_reader_read_stored(reader, 0, number, 0, &out_buffer), ZT_ERR_RANGE);
        REFUSED(zt_reader_read_many(reader, &number, 1, 0, &out_batch), ZT_ERR_RANGE);
        REFUSED(zt_reader_read_range_into(reader, number, 0, 0, 12, 0, memory, 48), ZT_ERR_RANGE);
        REFUSED(zt_reader_read_range_into(reader, 0, number, 0, 12, 0, memory, 48), ZT_ERR_RANGE);
        target.tensor = number;
        REFUSED(zt_reader_read_into(reader, &target, 1, 0), ZT_ERR_RANGE);
        target.tensor = 0;
        target.component = number;
        REFUSED(zt_reader_read_into(reader, &target, 1, 0), ZT_ERR_RANGE);
        target.component = 0;
    }
    for (i = 0; i < LENGTH_OF(no_verify); i++) {
        int32_t verify = no_verify[i];
        REFUSED(zt_reader_read(reader, 0, 0, verify, &out_buffer), ZT_ERR_ARGUMENT);
        REFUSED(zt_reader_read_range(reader, 0, 0, 0, 1, verify, &out_buffer), ZT_ERR_ARGUMENT);
        REFUSED(zt_reader_read_stored(reader, 0, 0, verify, &out_buffer), ZT_ERR_ARGUMENT);
        REFUSED(zt_reader_read_many(reader, NULL, 0, verify, &out_batch), ZT_ERR_ARGUMENT);
        REFUSED(zt_reader_read_into(reader, &target, 1, verify), ZT_ERR_ARGUMENT);
        REFUSED(zt_reader_read_range_into(reader, 0, 0, 0, 12, verify, memory, 48), ZT_ERR_ARGUMENT);
    }
    CHECK_STATUS(zt_reader_verify(reader, NULL, &marker), ZT_OK);
}

static void test_create(void) {
    static const uint32_t no_flags[] = {3, 0x80000000u, UINT32_MAX};
    size_t i;
    REFUSED(zt_writer_create(NULL, 0, 0, NULL, &out_writer), ZT_ERR_NULL);
    REFUSED(zt_writer_create("misuse.zt", 0, 0, NULL, NULL), ZT_ERR_NULL);
    REFUSED(zt_writer_create("misuse.zt", 0, 0, not_utf8, &out_writer), ZT_ERR_UTF8);
    REFUSED(zt_writer_create("misuse.zt", 0, 0, "", &out_writer), ZT_ERR_ARGUMENT);
    REFUSED(zt_writer_create("misuse.zt", 0, 0, "null", &out_writer), ZT_ERR_ARGUMENT);
    REFUSED(zt_writer_create("", 0, 0, NULL, &out_writer), ZT_ERR_IO);
    REFUSED(zt_writer_create("/", 0, 0, NULL, &out_writer), ZT_ERR_IO);
    REFUSED(zt_writer_create("..", 0, 0, NULL, &out_writer), ZT_ERR_IO);
    REFUSED(zt_writer_create("no-such-directory/misuse.zt", 0, SIZE_MAX, NULL, &out_writer), ZT_ERR_FILE_NOT_FOUND);
    REFUSED(zt_writer_create_memory(0, 0, NULL, NULL), ZT_ERR_NULL);
    REFUSED(zt_writer_create_memory(0, 0, not_utf8, &out_writer), ZT_ERR_UTF8);
    REFUSED(zt_writer_create_memory(0, 0, "{\"a\":1e999}", &out_writer), ZT_ERR_ARGUMENT);
    for (i = 0; i < LENGTH_OF(no_flags); i++) {
        REFUSED(zt_writer_create("misuse.zt", no_flags[i], 0, NULL, &out_writer), ZT_ERR_ARGUMENT);
        REFUSED(zt_writer_create_memory(no_flags[i], 0, NULL, &out_writer), ZT_ERR_ARGUMENT);
    }
}

/* The call must be refused whichever writer it is made with: in memory, on disk, and finished. The spec is then made
 * good again. */
#define NOT_ADDED(wanted)                                                  \
    do {                                                                   \
        REFUSED(zt_writer_add(memory_writer, &spec, 1), wanted);           \
        REFUSED(zt_writer_add(file_writer, &spec, 1), wanted);             \
        CHECK(zt_writer_add(finished_writer, &spec, 1) == wanted ||        \
              zt_writer_add(finished_writer, &spec, 1) == ZT_ERR_STATE);   \
        parts[0] = parts[1] = parts[2] = component;                        \
        spec = good;                                                       \
    } while (0)

static void test_add(void) {
    static const float values[12] = {0};
    static const uint64_t shape[] = {3, 4};
    static const uint64_t no_shapes[][2] = {
        {UINT64_MAX, UINT64_MAX}, {(uint64_t)1 << 63, 1}, {(uint64_t)1 << 32, (uint64_t)1 << 32}, {UINT64_MAX, 0}};
    ZtComponentSpec component = component_spec(values, sizeof values, ZT_FLOAT32), parts[3];
    ZtTensorSpec good, spec;
    ZtWriter *wrong[4];
    size_t i;
    parts[0] = parts[1] = parts[2] = component;
    good = spec = tensor_spec("tensor", ZT_DENSE, shape, 2, parts, 1);
    wrong[0] = AS(ZtWriter, reader);
    wrong[1] = AS(ZtWriter, buffer);
    wrong[2] = AS(ZtWriter, batch);
    wrong[3] = AS(ZtWriter, (char *)memory_writer + 4);
    for (i = 0; i < LENGTH_OF(wrong); i++) {
        REFUSED(zt_writer_add(wrong[i], &spec, 1), ZT_ERR_ARGUMENT);
        REFUSED(zt_writer_finish(wrong[i]), ZT_ERR_ARGUMENT);
        REFUSED(zt_writer_finish_memory(wrong[i], &out_buffer), ZT_ERR_ARGUMENT);
        zt_writer_free(wrong[i]);
    }
    REFUSED(zt_writer_add(NULL, &spec, 1), ZT_ERR_NULL);
    REFUSED(zt_writer_add(memory_writer, NULL, 1), ZT_ERR_NULL);
    REFUSED(zt_writer_add(memory_writer, NULL, SIZE_MAX), ZT_ERR_NULL);
    CHECK_STATUS(zt_writer_add(memory_writer, NULL, 0), ZT_OK);
    CHECK_STATUS(zt_writer_add(memory_writer, &spec, 0), ZT_OK);
    REFUSED(zt_writer_add(memory_writer, (const ZtTensorSpec *)(const void *)((const char *)&spec + 1), 1),
            ZT_ERR_ARGUMENT);

    /* NULL with a length. */
    spec.name = NULL;
    NOT_ADDED(ZT_ERR_NULL);
    spec.shape = NULL;
    NOT_ADDED(ZT_ERR_NULL);
    spec.components = NULL;
    NOT_ADDED(ZT_ERR_NULL);
    parts[0].data = NULL;
    NOT_ADDED(ZT_ERR_NULL);

    /* NULL without one. */
    spec.name = NULL;
    spec.name_len = 0;
    NOT_ADDED(ZT_ERR_NAME);
    spec.shape = NULL;
    spec.ndim = 0;
    NOT_ADDED(ZT_ERR_SIZE);
    spec.components = NULL;
    spec.component_count = 0;
    NOT_ADDED(ZT_ERR_LAYOUT);
    parts[0].data = NULL;
    parts[0].len = 0;
    NOT_ADDED(ZT_ERR_SIZE);
    spec.attributes = "";
    NOT_ADDED(ZT_ERR_ARGUMENT);

    /* Sizes that no memory has. */
    for (i = 0; i < LENGTH_OF(huge_sizes); i++) {
        REFUSED(zt_writer_add(memory_writer, &spec, huge_sizes[i]), ZT_ERR_ARGUMENT);
        spec.name_len = huge_sizes[i];
        NOT_ADDED(ZT_ERR_ARGUMENT);
        spec.ndim = huge_sizes[i];
        NOT_ADDED(ZT_ERR_ARGUMENT);
        spec.component_count = huge_sizes[i];
        NOT_ADDED(ZT_ERR_ARGUMENT);
        parts[0].len = huge_sizes[i];
        NOT_ADDED(ZT_ERR_ARGUMENT);
        spec.attributes = "{}";
        spec.attributes_len = huge_sizes[i];
        NOT_ADDED(ZT_ERR_ARGUMENT);
    }

    /* Shapes that no tensor has. */
    for (i = 0; i < LENGTH_OF(no_shapes); i++) {
        spec.shape = no_shapes[i];
        NOT_ADDED(ZT_ERR_SHAPE);
    }

    /* Text. */
    spec.name = not_utf8;
    spec.name_len = strlen(not_utf8);
    NOT_ADDED(ZT_ERR_UTF8);
    spec.attributes = not_utf8;
    spec.attributes_len = strlen(not_utf8);
    NOT_ADDED(ZT_ERR_UTF8);
    spec.attributes = "{\"a\":1";
    spec.attributes_len = 6;
    NOT_ADDED(ZT_ERR_ARGUMENT);

    /* Codes that are none, and levels. */
    for (i = 0; i < LENGTH_OF(no_codes); i++) {
        spec.dtype = no_codes[i];
        NOT_ADDED(ZT_ERR_UNKNOWN_DTYPE);
        parts[0].dtype = no_codes[i];
        NOT_ADDED(ZT_ERR_UNKNOWN_DTYPE);
        spec.layout = no_codes[i];
        NOT_ADDED(ZT_ERR_UNKNOWN_LAYOUT);
        if (no_codes[i] != 0) {
            spec.level = no_codes[i];
            NOT_ADDED(ZT_ERR_ARGUMENT);
            spec.reserved = no_codes[i];
            NOT_ADDED(ZT_ERR_ARGUMENT);
            parts[0].reserved = no_codes[i];
            NOT_ADDED(ZT_ERR_ARGUMENT);
        }
    }
    spec.level = 23;
    NOT_ADDED(ZT_ERR_ARGUMENT);

    /* Layouts that do not go with the components, and sizes of blocks. */
    spec.layout = ZT_SPARSE_COO;
    NOT_ADDED(ZT_ERR_LAYOUT);
    for (i = ZT_SPARSE_CSR; i <= ZT_SPARSE_BSC; i++) {
        spec.layout = (ZtLayout)i;
        spec.component_count = i == ZT_SPARSE_COO ? 2 : 3;
        NOT_ADDED(ZT_ERR_LAYOUT); /* indices of float, or blocks of 0 */
    }
    for (i = 0; i < LENGTH_OF(huge_sizes); i++) {
        spec.layout = ZT_SPARSE_BSR;
        spec.component_count = 3;
        spec.blocksize[0] = spec.blocksize[1] = huge_sizes[i];
        NOT_ADDED(ZT_ERR_LAYOUT);
    }
    spec.layout = ZT_SPARSE_BSR;
    spec.shape = no_shapes[3]; /* nothing in it, so that any size of blocks divides it, but too large */
    spec.component_count = 3;
    spec.blocksize[0] = UINT64_MAX;
    spec.blocksize[1] = 2;
    NOT_ADDED(ZT_ERR_SHAPE);

    /* All of that had no effect. */
    CHECK_STATUS(zt_writer_add(memory_writer, &spec, 1), ZT_OK);
    CHECK_STATUS(zt_writer_add(file_writer, &spec, 1), ZT_OK);
}

static void test_lend(void) {
    char memory[64] = {0};
    REFUSED(zt_writer_lend(NULL, memory, sizeof memory), ZT_ERR_NULL);
    REFUSED(zt_writer_lend(AS(ZtWriter, reader), memory, sizeof memory), ZT_ERR_ARGUMENT);
    REFUSED(zt_writer_lend(file_writer, memory, sizeof memory), ZT_ERR_ARGUMENT);
    REFUSED(zt_writer_lend(finished_writer, memory, sizeof memory), ZT_ERR_STATE);
    REFUSED(zt_writer_lend(memory_writer, NULL, 1), ZT_ERR_NULL);
    REFUSED(zt_writer_lend(memory_writer, memory, SIZE_MAX), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_writer_lend(memory_writer, NULL, 0), ZT_OK);
}

static void test_set_progress(void) {
    zt_set_progress(NULL, NULL);
    zt_set_progress(never_called, &reader);
    zt_set_progress(NULL, &reader);
}

static void test_finish(void) {
    REFUSED(zt_writer_finish(NULL), ZT_ERR_NULL);
    REFUSED(zt_writer_finish(memory_writer), ZT_ERR_ARGUMENT);
    REFUSED(zt_writer_finish(finished_writer), ZT_ERR_ARGUMENT); /* it is in memory too */
    REFUSED(zt_writer_finish_memory(NULL, &out_buffer), ZT_ERR_NULL);
    REFUSED(zt_writer_finish_memory(memory_writer, NULL), ZT_ERR_NULL);
    REFUSED(zt_writer_finish_memory(file_writer, &out_buffer), ZT_ERR_ARGUMENT);
    REFUSED(zt_writer_finish_memory(finished_writer, &out_buffer), ZT_ERR_STATE);
    REFUSED(zt_writer_finish_memory(finished_writer, NULL), ZT_ERR_NULL);
    /* None of that finished them. */
    CHECK_STATUS(zt_writer_finish_memory(memory_writer, &out_buffer), ZT_OK);
    zt_buffer_free(out_buffer);
    reset();
    CHECK_STATUS(zt_writer_finish(file_writer), ZT_OK);
    REFUSED(zt_writer_finish(file_writer), ZT_ERR_STATE);
    REFUSED(zt_writer_add(file_writer, NULL, 0), ZT_ERR_STATE);
    REFUSED(zt_writer_finish_memory(memory_writer, &out_buffer), ZT_ERR_STATE);
    zt_writer_free(NULL);
    CHECK(remove("misuse.zt") == 0);
}

/* ---------------------------------------------------------------- DLPack */

/* Each object is what is to be shown of it. */
static int32_t show(void *object, void *out_dltensor) {
    if (object == NULL) {
        return -1;
    }
    memcpy(out_dltensor, object, sizeof(Shown));
    return 0;
}

static int32_t make_nothing(void *managed, void **out_object) {
    *out_object = managed;
    return 1;
}

static void test_dlpack_specs(void) {
    float values[6] = {0};
    int64_t shape[] = {2, 3}, strides[] = {3, 1}, columns_first[] = {1, 2}, negative[] = {2, -3};
    int64_t huge[] = {INT64_MAX, INT64_MAX};
    Shown good = {NULL, 1, 0, 2, 2, 32, 1, NULL, NULL, 0}, shown;
    void *objects[2];
    ZtTensorSpec specs[2];
    ZtComponentSpec parts[2];
    ZtBuffer *shapes;
    size_t i;
    good.data = values;
    good.shape = shape;
    good.strides = strides;
    shown = good;
    objects[0] = objects[1] = &shown;
    memset(specs, 0, sizeof specs);
    REFUSED(zt_dlpack_specs(NULL, objects, 2, 0, specs, parts, &shapes), ZT_ERR_NULL);
    REFUSED(zt_dlpack_specs(show, NULL, 2, 0, specs, parts, &shapes), ZT_ERR_NULL);
    REFUSED(zt_dlpack_specs(show, objects, 2, 0, NULL, parts, &shapes), ZT_ERR_NULL);
    REFUSED(zt_dlpack_specs(show, objects, 2, 0, specs, NULL, &shapes), ZT_ERR_NULL);
    for (i = 0; i < LENGTH_OF(huge_sizes); i++) {
        REFUSED(zt_dlpack_specs(show, objects, huge_sizes[i], 0, specs, parts, &shapes), ZT_ERR_ARGUMENT);
    }
    REFUSED(zt_dlpack_specs(show, objects, 2, 0, specs, parts, NULL), ZT_ERR_NULL);
    CHECK_STATUS(zt_dlpack_specs(show, NULL, 0, 0, NULL, NULL, &shapes), ZT_OK);
    zt_buffer_free(shapes);
    CHECK_STATUS(zt_dlpack_specs(show, objects, 2, 0, specs, parts, &shapes), ZT_OK);
    /* The shapes are copies, one behind the other. */
    shape[0] = 7;
    CHECK(zt_buffer_len(shapes) == 4 * sizeof(uint64_t) && specs[0].shape == zt_buffer_data(shapes));
    CHECK(specs[1].shape == specs[0].shape + 2 && specs[1].shape[0] == 2 && specs[1].shape[1] == 3);
    shape[0] = 2;
    zt_buffer_free(shapes);
    CHECK(parts[0].share == parts[1].share && parts[0].share > 0 && parts[1].len == sizeof values);
    /* The same memory twice, and no number left to say so. */
    REFUSED(zt_dlpack_specs(show, objects, 2, UINT64_MAX, specs, parts, &shapes), ZT_ERR_ARGUMENT);

    objects[1] = NULL; /* not to be shown */
    REFUSED(zt_dlpack_specs(show, objects, 2, 0, specs, parts, &shapes), ZT_ERR_ARGUMENT);
#define NOT_SHOWN(field, value, wanted)                                    \
    do {                                                                   \
        shown.field = value;                                               \
        REFUSED(zt_dlpack_specs(show, objects, 1, 0, specs, parts, &shapes), wanted); \
        shown = good;                                                      \
    } while (0)
    NOT_SHOWN(device, 0, ZT_ERR_ARGUMENT);
    NOT_SHOWN(device, 2, ZT_ERR_ARGUMENT);
    NOT_SHOWN(code, 3, ZT_ERR_UNKNOWN_DTYPE);
    NOT_SHOWN(bits, 0, ZT_ERR_UNKNOWN_DTYPE);
    NOT_SHOWN(lanes, 0, ZT_ERR_UNKNOWN_DTYPE);
    NOT_SHOWN(ndim, -1, ZT_ERR_ARGUMENT);
    NOT_SHOWN(ndim, 65, ZT_ERR_ARGUMENT);
    NOT_SHOWN(ndim, INT32_MAX, ZT_ERR_ARGUMENT);
    NOT_SHOWN(data, NULL, ZT_ERR_ARGUMENT);
    NOT_SHOWN(byte_offset, UINT64_MAX, ZT_ERR_ARGUMENT);
    NOT_SHOWN(byte_offset, UINT64_MAX - (uintptr_t)values, ZT_ERR_ARGUMENT);
    NOT_SHOWN(ndim, INT32_MIN, ZT_ERR_ARGUMENT);
    NOT_SHOWN(shape, NULL, ZT_ERR_NULL);
    NOT_SHOWN(shape, negative, ZT_ERR_SHAPE);
    NOT_SHOWN(strides, columns_first, ZT_ERR_ARGUMENT);
    NOT_SHOWN(data, NULL, ZT_ERR_ARGUMENT);
    shown.strides = NULL;
    NOT_SHOWN(shape, huge, ZT_ERR_SHAPE);
#undef NOT_SHOWN
    CHECK_STATUS(zt_dlpack_specs(show, objects, 1, UINT64_MAX, specs, parts, &shapes), ZT_OK);
    zt_buffer_free(shapes);
}

static void test_dlpack_tensors(void) {
    static const size_t dense[] = {DENSE, DENSE}, scalar = SCALAR, csr = CSR, beyond = SAMPLE_COUNT;
    void *objects[SAMPLE_COUNT + 1];
    Made *made;
    size_t i, at;
    reset();
    REFUSED(zt_dlpack_tensors(NULL, dense, 1, batch, dlpack_make, objects), ZT_ERR_NULL);
    REFUSED(zt_dlpack_tensors(reader, NULL, 1, batch, dlpack_make, objects), ZT_ERR_NULL);
    REFUSED(zt_dlpack_tensors(reader, dense, 1, NULL, dlpack_make, objects), ZT_ERR_NULL);
    REFUSED(zt_dlpack_tensors(reader, dense, 1, batch, NULL, objects), ZT_ERR_NULL);
    REFUSED(zt_dlpack_tensors(reader, dense, 1, batch, dlpack_make, NULL), ZT_ERR_NULL);
    REFUSED(zt_dlpack_tensors(AS(ZtReader, batch), dense, 1, batch, dlpack_make, objects), ZT_ERR_ARGUMENT);
    REFUSED(zt_dlpack_tensors(reader, dense, 1, AS(ZtBatch, buffer), dlpack_make, objects), ZT_ERR_ARGUMENT);
    REFUSED(zt_dlpack_tensors(reader, dense, 1, AS(ZtBatch, reader), dlpack_make, objects), ZT_ERR_ARGUMENT);
    REFUSED(zt_dlpack_tensors(reader, dense, 1, AS(ZtBatch, memory_writer), dlpack_make, objects), ZT_ERR_ARGUMENT);
    for (i = 0; i < LENGTH_OF(huge_sizes); i++) {
        REFUSED(zt_dlpack_tensors(reader, dense, huge_sizes[i], batch, dlpack_make, objects), ZT_ERR_ARGUMENT);
        REFUSED(zt_dlpack_tensors(reader, &huge_sizes[i], 1, batch, dlpack_make, objects), ZT_ERR_RANGE);
    }
    /* Other tensors than the batch's: none, more, all, or as many components of another size. */
    REFUSED(zt_dlpack_tensors(reader, dense, 0, batch, dlpack_make, objects), ZT_ERR_ARGUMENT);
    REFUSED(zt_dlpack_tensors(reader, dense, 2, batch, dlpack_make, objects), ZT_ERR_ARGUMENT);
    REFUSED(zt_dlpack_tensors(reader, NULL, 0, batch, dlpack_make, objects), ZT_ERR_ARGUMENT);
    REFUSED(zt_dlpack_tensors(reader, &csr, 1, batch, dlpack_make, objects), ZT_ERR_ARGUMENT);
    REFUSED(zt_dlpack_tensors(reader, &scalar, 1, batch, dlpack_make, objects), ZT_ERR_ARGUMENT);

    /* Whatever is wrong, NULL stands where nothing was made, and nothing is written behind that. */
#define LEAVES_NULL(count, call, wanted)                                   \
    do {                                                                   \
        for (at = 0; at <= SAMPLE_COUNT; at++) {                           \
            objects[at] = &marker;                                         \
        }                                                                  \
        REFUSED(call, wanted);                                             \
        for (at = 0; at <= SAMPLE_COUNT; at++) {                           \
            CHECK(objects[at] == (at + 1 > (count) ? &marker : NULL));     \
        }                                                                  \
    } while (0)
    LEAVES_NULL(1, zt_dlpack_tensors(reader, dense, 1, batch, NULL, objects), ZT_ERR_NULL);
    LEAVES_NULL(1, zt_dlpack_tensors(reader, dense, 1, NULL, dlpack_make, objects), ZT_ERR_NULL);
    LEAVES_NULL(1, zt_dlpack_tensors(NULL, dense, 1, batch, dlpack_make, objects), ZT_ERR_NULL);
    LEAVES_NULL(1, zt_dlpack_tensors(reader, NULL, 1, batch, dlpack_make, objects), ZT_ERR_NULL);
    LEAVES_NULL(1, zt_dlpack_tensors(reader, &beyond, 1, batch, dlpack_make, objects), ZT_ERR_RANGE);
    LEAVES_NULL(2, zt_dlpack_tensors(reader, dense, 2, batch, dlpack_make, objects), ZT_ERR_ARGUMENT);
    LEAVES_NULL(1, zt_dlpack_tensors(reader, dense, 1, batch, make_nothing, objects), ZT_ERR_ARGUMENT);
    LEAVES_NULL(SAMPLE_COUNT, zt_dlpack_tensors(reader, NULL, 0, NULL, dlpack_make, objects), ZT_ERR_NULL);
    LEAVES_NULL(SAMPLE_COUNT, zt_dlpack_tensors(reader, NULL, 0, batch, dlpack_make, objects), ZT_ERR_ARGUMENT);
    LEAVES_NULL(0, zt_dlpack_tensors(NULL, NULL, 0, batch, dlpack_make, objects), ZT_ERR_NULL);
    LEAVES_NULL(0, zt_dlpack_tensors(reader, dense, SIZE_MAX, batch, dlpack_make, objects), ZT_ERR_ARGUMENT);
#undef LEAVES_NULL

    /* What was not made is nobody's: no leak, and no pointer to it. */
    objects[0] = &marker;
    REFUSED(zt_dlpack_tensors(reader, dense, 1, batch, make_nothing, objects), ZT_ERR_ARGUMENT);
    CHECK(objects[0] == NULL);
    CHECK(strstr(zt_last_error_message(), "<memory>: tensor \"dense\": ") == zt_last_error_message());
    CHECK_STATUS(zt_dlpack_tensors(reader, dense, 1, batch, dlpack_make, objects), ZT_OK);
    made = (Made *)objects[0];
    CHECK(made != NULL && made->major == 1);
    if (made != NULL) {
        made->deleter(made);
    }
}

/* ---------------------------------------------------------------- damaged files */

/* Opens what may be no file, and if it opens, reads everything in it. Nothing may crash or be a defect. */
static int survives(const unsigned char *bytes, size_t len) {
    ZtReader *opened = NULL;
    const ZtTensor *tensors = NULL;
    size_t count = 0, i, j;
    int defects = 0;
    ZtStatus status = zt_reader_open_memory(bytes, len, ZT_READ_VERIFY, 1, &opened);
    if (status) {
        return status != ZT_ERR_PANIC;
    }
    defects += zt_reader_tensors(opened, &tensors, &count) != ZT_OK;
    defects += zt_reader_verify(opened, NULL, NULL) == ZT_ERR_PANIC;
    for (i = 0; i < count; i++) {
        ZtBuffer *found = NULL;
        ZtBatch *many = NULL;
        defects += zt_reader_attributes(opened, i, &found) != ZT_OK;
        zt_buffer_free(found);
        defects += zt_reader_read_many(opened, &i, 1, ZT_VERIFY_OFF, &many) == ZT_ERR_PANIC;
        zt_batch_free(many);
        for (j = 0; j < tensors[i].component_count; j++) {
            found = NULL;
            defects += zt_reader_read(opened, i, j, ZT_VERIFY_OFF, &found) == ZT_ERR_PANIC;
            zt_buffer_free(found);
            found = NULL;
            defects += zt_reader_read_range(opened, i, j, 1, 2, ZT_VERIFY_OFF, &found) == ZT_ERR_PANIC;
            zt_buffer_free(found);
            found = NULL;
            defects += zt_reader_read_stored(opened, i, j, ZT_VERIFY_ON, &found) == ZT_ERR_PANIC;
            zt_buffer_free(found);
        }
    }
    zt_reader_free(opened);
    return defects == 0;
}

static void test_damaged_files(void) {
    static const unsigned char masks[] = {0x01, 0x80, 0xff};
    ZtBuffer *file = sample_file(0);
    unsigned char *bytes = (unsigned char *)zt_buffer_data(file), *copy, *index;
    size_t len = zt_buffer_len(file), index_len, at, i;
    if (file == NULL) {
        CHECK(file != NULL);
        return;
    }
    index = index_of(bytes, len, &index_len);
    CHECK(survives(bytes, len));
    for (at = 0; at < len; at++) {
        /* Cut off here. The bytes are copied to memory of that length, so that reading past them is noticed. */
        copy = (unsigned char *)malloc(at > 0 ? at : 1);
        memcpy(copy, bytes, at);
        CHECK(survives(copy, at));
        free(copy);
        /* A wrong byte here. */
        bytes[at] ^= 0x20;
        CHECK(survives(bytes, len));
        bytes[at] ^= 0x20;
    }
    /* A wrong byte in the index or the footer, with checksums that fit: now it counts what it says. */
    for (at = (size_t)(index - bytes); at < len; at++) {
        for (i = 0; i < LENGTH_OF(masks); i++) {
            copy = (unsigned char *)malloc(len);
            memcpy(copy, bytes, len);
            copy[at] ^= masks[i];
            /* What lies in the footer may say that the index is elsewhere; then there is nothing to sign. */
            if (at < (size_t)(index - bytes) + index_len) {
                sign(copy, len);
            } else {
                put_u32(copy + len - 64 + 52, crc32_of(copy + len - 64, 52));
            }
            CHECK(survives(copy, len));
            free(copy);
        }
    }
    zt_buffer_free(file);
}

int main(void) {
    ZtBuffer *file = sample_file(0), *second = NULL;
    static const size_t dense = DENSE;
    reset();
    CHECK(file != NULL);
    CHECK_STATUS(zt_reader_open_memory(zt_buffer_data(file), zt_buffer_len(file), 0, 0, &reader), ZT_OK);
    CHECK_STATUS(zt_reader_read(reader, DENSE, 0, ZT_VERIFY_ON, &buffer), ZT_OK);
    CHECK_STATUS(zt_reader_read_many(reader, &dense, 1, ZT_VERIFY_ON, &batch), ZT_OK);
    CHECK_STATUS(zt_writer_create_memory(0, SIZE_MAX, NULL, &memory_writer), ZT_OK);
    CHECK_STATUS(zt_writer_create("misuse.zt", 0, 1, NULL, &file_writer), ZT_OK);
    CHECK_STATUS(zt_writer_create_memory(0, 1, NULL, &finished_writer), ZT_OK);
    CHECK_STATUS(zt_writer_finish_memory(finished_writer, &second), ZT_OK);
    if (checks_failed > 0) {
        return check_report("test_misuse");
    }

    test_versions_and_messages();
    test_names();
    test_buffer();
    test_batch();
    test_open();
    test_reader_tells();
    test_read_handles();
    test_read_arguments();
    test_create();
    test_add();
    test_lend();
    test_set_progress();
    test_finish();
    test_dlpack_specs();
    test_dlpack_tensors();
    test_damaged_files();

    /* After all that, the handles are as good as before. */
    CHECK(zt_buffer_len(buffer) == 48 && ((const float *)zt_buffer_data(buffer))[11] == 11);
    CHECK_STATUS(zt_reader_verify(reader, NULL, NULL), ZT_OK);
    zt_buffer_free(buffer);
    zt_buffer_free(second);
    zt_batch_free(batch);
    zt_writer_free(memory_writer);
    zt_writer_free(file_writer);
    zt_writer_free(finished_writer);
    zt_reader_free(reader);
    zt_buffer_free(file);
    return check_report("test_misuse");
}
