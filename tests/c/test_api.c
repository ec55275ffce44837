/* Every function of ztensor.h: what it gives when all is well, and which status when something is not. What it does with
 * arguments that make no sense is in test_misuse.c. The files go to a new directory inside the current one. */

#if !defined(_XOPEN_SOURCE) /* C++ compilers on Linux define it */
#define _XOPEN_SOURCE 700
#endif

#include "check.h"
#include "dlpack.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sample.h"

/* Where out-pointers point before a call; on failure they still do. */
static char marker;
#define UNTOUCHED(type) ((type *)(void *)&marker)
#define IS_UNTOUCHED(pointer) ((const void *)(pointer) == (const void *)&marker)
#define UNTOUCHED_NUMBER ((size_t)987654321)

/* The call must fail with this status and leave the out-pointer as it was. */
#define CHECK_REFUSED(call, out, wanted) \
    do {                                 \
        CHECK_STATUS(call, wanted);      \
        CHECK(IS_UNTOUCHED(out));        \
    } while (0)

/* The large sample: as it was given to the writer, and as a file in memory. */
static SampleTensor sample[SAMPLE_COUNT];
static ZtBuffer *sample_bytes;

static unsigned char *data_of(const ZtBuffer *buffer) {
    return (unsigned char *)zt_buffer_data(buffer);
}

/* Whether a buffer holds exactly these bytes. */
static int holds(const ZtBuffer *buffer, const void *bytes, size_t len) {
    return zt_buffer_len(buffer) == len && (len == 0 || memcmp(zt_buffer_data(buffer), bytes, len) == 0);
}

static int is_text(const char *found, const char *expected) {
    return found != NULL && strcmp(found, expected) == 0;
}

/* Whether a buffer holds a text, followed by a NUL. Frees it. */
static int is_json(ZtBuffer *json, const char *expected) {
    int is = zt_buffer_len(json) == strlen(expected) && is_text((const char *)zt_buffer_data(json), expected);
    zt_buffer_free(json);
    return is;
}

static int is_part(const ZtBuffer *buffer, const SamplePart *part) {
    return holds(buffer, part->data, part->len);
}

/* A copy of the sample's bytes, to be damaged. */
static unsigned char *copy_sample(size_t *len) {
    unsigned char *copy;
    *len = zt_buffer_len(sample_bytes);
    copy = (unsigned char *)malloc(*len);
    if (copy != NULL) {
        memcpy(copy, zt_buffer_data(sample_bytes), *len);
    }
    return copy;
}

static ZtReader *open_memory(const void *bytes, size_t len, uint32_t flags) {
    ZtReader *reader = NULL;
    CHECK_STATUS(zt_reader_open_memory(bytes, len, flags, 2, &reader), ZT_OK);
    return reader;
}

static ZtReader *open_sample(void) {
    return open_memory(zt_buffer_data(sample_bytes), zt_buffer_len(sample_bytes), 0);
}

/* The number of entries of the current directory. */
static int count_files(void) {
    int count = 0;
    DIR *directory = opendir(".");
    const struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return count;
}

static int exists(const char *path) {
    struct stat found;
    return stat(path, &found) == 0;
}

static int has_bytes(const char *path, const char *expected) {
    char found[64] = "";
    FILE *file = fopen(path, "rb");
    size_t len = file == NULL ? 0 : fread(found, 1, sizeof found - 1, file);
    if (file != NULL) {
        fclose(file);
    }
    return len == strlen(expected) && memcmp(found, expected, len) == 0;
}

static int put_bytes(const char *path, const void *bytes, size_t len) {
    FILE *file = fopen(path, "wb");
    size_t written = file == NULL ? 0 : fwrite(bytes, 1, len, file);
    return file != NULL && fclose(file) == 0 && written == len;
}

/* ---------------------------------------------------------------- versions and names */

static void test_version(void) {
    CHECK(zt_abi_version() == ZT_ABI_VERSION);
#ifdef EXPECTED_VERSION /* what Cargo.toml says */
    CHECK(is_text(zt_version(), EXPECTED_VERSION));
#else
    CHECK(strchr(zt_version(), '.') != NULL);
#endif
}

static void test_status_names(void) {
    static const struct {
        ZtStatus status;
        const char *name;
    } statuses[] = {
        {ZT_OK, "OK"},
        {ZT_ERR_NULL, "NULL"},
        {ZT_ERR_ARGUMENT, "ARGUMENT"},
        {ZT_ERR_UTF8, "UTF8"},
        {ZT_ERR_NOT_FOUND, "NOT_FOUND"},
        {ZT_ERR_DUPLICATE, "DUPLICATE"},
        {ZT_ERR_RANGE, "RANGE"},
        {ZT_ERR_STATE, "STATE"},
        {ZT_ERR_CANCELLED, "CANCELLED"},
        {ZT_ERR_IO, "IO"},
        {ZT_ERR_FILE_NOT_FOUND, "FILE_NOT_FOUND"},
        {ZT_ERR_SIGNATURE, "SIGNATURE"},
        {ZT_ERR_VERSION, "VERSION"},
        {ZT_ERR_TRUNCATED, "TRUNCATED"},
        {ZT_ERR_FOOTER, "FOOTER"},
        {ZT_ERR_INDEX_CHECKSUM, "INDEX_CHECKSUM"},
        {ZT_ERR_INDEX, "INDEX"},
        {ZT_ERR_NAME, "NAME"},
        {ZT_ERR_SHAPE, "SHAPE"},
        {ZT_ERR_LAYOUT, "LAYOUT"},
        {ZT_ERR_OFFSET, "OFFSET"},
        {ZT_ERR_OVERLAP, "OVERLAP"},
        {ZT_ERR_SIZE, "SIZE"},
        {ZT_ERR_ENCODING, "ENCODING"},
        {ZT_ERR_FRAME, "FRAME"},
        {ZT_ERR_CHECKSUM, "CHECKSUM"},
        {ZT_ERR_SPARSE, "SPARSE"},
        {ZT_ERR_UNKNOWN_DTYPE, "UNKNOWN_DTYPE"},
        {ZT_ERR_UNKNOWN_LAYOUT, "UNKNOWN_LAYOUT"},
        {ZT_ERR_UNKNOWN_ENCODING, "UNKNOWN_ENCODING"},
        {ZT_ERR_LIMIT, "LIMIT"},
        {ZT_ERR_PANIC, "PANIC"},
        {ZT_ERR_MEMORY, "MEMORY"},
    };
    size_t i, known = 0;
    ZtStatus status;
    for (i = 0; i < LENGTH_OF(statuses); i++) {
        CHECK(is_text(zt_status_name(statuses[i].status), statuses[i].name));
    }
    /* The list is complete. */
    for (status = -200; status <= 200; status++) {
        known += zt_status_name(status) != NULL;
    }
    CHECK(known == LENGTH_OF(statuses));
}

static const struct {
    ZtDtype dtype;
    const char *name;
    size_t size;
} dtypes[] = {
    {ZT_FLOAT64, "float64", 8},
    {ZT_FLOAT32, "float32", 4},
    {ZT_FLOAT16, "float16", 2},
    {ZT_BFLOAT16, "bfloat16", 2},
    {ZT_INT64, "int64", 8},
    {ZT_INT32, "int32", 4},
    {ZT_INT16, "int16", 2},
    {ZT_INT8, "int8", 1},
    {ZT_UINT64, "uint64", 8},
    {ZT_UINT32, "uint32", 4},
    {ZT_UINT16, "uint16", 2},
    {ZT_UINT8, "uint8", 1},
    {ZT_BOOL, "bool", 1},
    {ZT_COMPLEX64, "complex64", 8},
    {ZT_COMPLEX128, "complex128", 16},
    {ZT_FLOAT8_E4M3FN, "float8_e4m3fn", 1},
    {ZT_FLOAT8_E5M2, "float8_e5m2", 1},
    {ZT_FLOAT8_E4M3FNUZ, "float8_e4m3fnuz", 1},
    {ZT_FLOAT8_E5M2FNUZ, "float8_e5m2fnuz", 1},
    {ZT_FLOAT8_E8M0FNU, "float8_e8m0fnu", 1},
    {ZT_FLOAT4_E2M1FN_X2, "float4_e2m1fn_x2", 1},
};

static void test_names_of_codes(void) {
    static const char *const layouts[] = {"dense", "sparse_csr", "sparse_csc", "sparse_coo", "sparse_bsr", "sparse_bsc"};
    static const char *const roles[] = {"data", "values", "indices", "indptr"};
    static const char *const filters[] = {"none", "shuffle", "float", "delta"};
    size_t i;
    ZtDtype dtype = 77;
    for (i = 0; i < LENGTH_OF(dtypes); i++) {
        CHECK(dtypes[i].dtype == (ZtDtype)i + 1);
        CHECK(is_text(zt_dtype_name(dtypes[i].dtype), dtypes[i].name));
        CHECK(zt_dtype_size(dtypes[i].dtype) == dtypes[i].size);
        CHECK_STATUS(zt_dtype_from_name(dtypes[i].name, &dtype), ZT_OK);
        CHECK(dtype == dtypes[i].dtype);
    }
    CHECK(zt_dtype_name((ZtDtype)LENGTH_OF(dtypes) + 1) == NULL);
    dtype = 77;
    CHECK_STATUS(zt_dtype_from_name("float33", &dtype), ZT_ERR_UNKNOWN_DTYPE);
    CHECK_STATUS(zt_dtype_from_name("", &dtype), ZT_ERR_UNKNOWN_DTYPE);
    CHECK_STATUS(zt_dtype_from_name("FLOAT32", &dtype), ZT_ERR_UNKNOWN_DTYPE);
    CHECK(dtype == 77);
    for (i = 0; i < LENGTH_OF(layouts); i++) {
        CHECK(is_text(zt_layout_name((ZtLayout)i + 1), layouts[i]));
    }
    CHECK(zt_layout_name((ZtLayout)LENGTH_OF(layouts) + 1) == NULL);
    for (i = 0; i < LENGTH_OF(roles); i++) {
        CHECK(is_text(zt_role_name((ZtRole)i + 1), roles[i]));
    }
    CHECK(zt_role_name((ZtRole)LENGTH_OF(roles) + 1) == NULL);
    for (i = 0; i < LENGTH_OF(filters); i++) {
        CHECK(is_text(zt_filter_name((ZtFilter)i + 1), filters[i]));
    }
    CHECK(zt_filter_name((ZtFilter)LENGTH_OF(filters) + 1) == NULL);
}

/* ---------------------------------------------------------------- the last error */

static void *fail_on_another_thread(void *user) {
    pthread_barrier_t *barrier = (pthread_barrier_t *)user;
    ZtDtype dtype = 0;
    intptr_t problems = 0;
    const char *message = zt_last_error_message();
    /* What failed on the main thread is none of this thread's business. */
    problems += !is_text(message, "");
    problems += zt_dtype_from_name("thread", &dtype) != ZT_ERR_UNKNOWN_DTYPE;
    pthread_barrier_wait(barrier);
    /* Now both have failed. */
    pthread_barrier_wait(barrier);
    problems += strstr(zt_last_error_message(), "\"thread\"") == NULL;
    return (void *)problems;
}

static void test_last_error(void) {
    pthread_barrier_t barrier;
    pthread_t thread;
    void *problems = NULL;
    ZtDtype dtype;
    ZtReader *reader;
    ZtBuffer *buffer;
    const char *message;

    CHECK(is_text(zt_last_error_message(), ""));
    CHECK_STATUS(zt_dtype_from_name("first", &dtype), ZT_ERR_UNKNOWN_DTYPE);
    message = zt_last_error_message();
    CHECK(strstr(message, "first") != NULL);

    /* Calls that succeed, getters and _free leave the text where it is. */
    reader = open_sample();
    CHECK(zt_reader_count(reader) == SAMPLE_COUNT);
    CHECK(is_text(zt_reader_format(reader), "zt/1") && zt_reader_format(NULL) == NULL);
    CHECK(zt_reader_count(NULL) == 0 && zt_buffer_len(NULL) == 0 && zt_dtype_name(-1) == NULL);
    CHECK_STATUS(zt_reader_read(reader, DENSE, 0, ZT_VERIFY_ON, &buffer), ZT_OK);
    zt_buffer_free(buffer);
    zt_reader_free(reader);
    zt_reader_free(NULL);
    zt_writer_free(NULL);
    CHECK(zt_last_error_message() == message);
    CHECK(strstr(message, "first") != NULL);

    CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
    CHECK(pthread_create(&thread, NULL, fail_on_another_thread, &barrier) == 0);
    pthread_barrier_wait(&barrier);
    CHECK(zt_last_error_message() == message && strstr(message, "first") != NULL);
    CHECK_STATUS(zt_dtype_from_name("second", &dtype), ZT_ERR_UNKNOWN_DTYPE);
    pthread_barrier_wait(&barrier);
    CHECK(pthread_join(thread, &problems) == 0);
    CHECK(problems == NULL);
    CHECK(strstr(zt_last_error_message(), "second") != NULL);
    pthread_barrier_destroy(&barrier);
}

/* Number and file of the last failure, which the C library's own errno has no part in. */
static void test_details_of_errors(void) {
    ZtReader *reader;
    ZtWriter *writer;
    ZtDtype dtype;

    CHECK_STATUS(zt_dtype_from_name("first", &dtype), ZT_ERR_UNKNOWN_DTYPE);
    CHECK(zt_last_error_errno() == 0 && is_text(zt_last_error_file(), ""));
    errno = EDOM;
    CHECK_STATUS(zt_reader_open("nowhere/none.zt", ZT_READ_MMAP, 0, &reader), ZT_ERR_FILE_NOT_FOUND);
    CHECK(zt_last_error_errno() == ENOENT && is_text(zt_last_error_file(), "nowhere/none.zt"));
    errno = EDOM;
    CHECK_STATUS(zt_reader_open(".", ZT_READ_OWNED, 0, &reader), ZT_ERR_IO);
    CHECK(zt_last_error_errno() == EISDIR && is_text(zt_last_error_file(), "."));
    CHECK_STATUS(zt_reader_open("/dev/null/model.zt", ZT_READ_MMAP, 0, &reader), ZT_ERR_IO);
    CHECK(zt_last_error_errno() == ENOTDIR);
    CHECK_STATUS(zt_writer_create(".", ZT_FSYNC_AUTO, 0, NULL, &writer), ZT_ERR_IO);
    CHECK(zt_last_error_errno() == EISDIR && is_text(zt_last_error_file(), "."));
    CHECK_STATUS(zt_reader_open_memory("text", 4, ZT_READ_MMAP, 0, &reader), ZT_ERR_SIGNATURE);
    CHECK(zt_last_error_errno() == 0 && is_text(zt_last_error_file(), "<memory>"));
}

/* Whether the last message begins so. */
static int tells(const char *place) {
    return strncmp(zt_last_error_message(), place, strlen(place)) == 0;
}

/* The message names the file, the tensor and the component where they are known. */
static void test_messages_name_the_place(void) {
    ZtTensor tensor;
    ZtComponent components[2];
    size_t len;
    unsigned char *bytes = copy_sample(&len);
    ZtReader *reader = open_memory(bytes, len, 0);
    const ZtTensor *tensors;
    size_t count;
    ZtBuffer *buffer = UNTOUCHED(ZtBuffer);
    CHECK_STATUS(zt_reader_tensors(reader, &tensors, &count), ZT_OK);
    bytes[tensors[CSR].components[1].offset] ^= 1;
    CHECK_REFUSED(zt_reader_read(reader, CSR, 1, ZT_VERIFY_ON, &buffer), buffer, ZT_ERR_CHECKSUM);
    CHECK(tells("<memory>: tensor \"csr\", component \"indices\": "));
    CHECK_STATUS(zt_reader_describe(reader, CSR, &tensor, components, 2), ZT_ERR_SIZE);
    CHECK(tells("<memory>: tensor \"csr\": "));
    CHECK_REFUSED(zt_reader_read(reader, CSR, 1, 99, &buffer), buffer, ZT_ERR_ARGUMENT);
    CHECK(tells("<memory>: "));
    zt_reader_free(reader);
    free(bytes);
    reader = UNTOUCHED(ZtReader);
    CHECK_REFUSED(zt_reader_open("no-such-file.zt", 0, 0, &reader), reader, ZT_ERR_FILE_NOT_FOUND);
    CHECK(tells("no-such-file.zt: "));
    CHECK_REFUSED(zt_reader_open("no-such-file.zt", 99, 0, &reader), reader, ZT_ERR_ARGUMENT);
    CHECK(tells("no-such-file.zt: "));
    CHECK_REFUSED(zt_reader_open_memory("", 0, 99, 0, &reader), reader, ZT_ERR_ARGUMENT);
    CHECK(tells("<memory>: "));
}

/* What is wrong with the arguments of a writer is told with its file too. */
static void test_messages_of_writers_name_the_place(void) {
    ZtWriter *writer = UNTOUCHED(ZtWriter);
    ZtBuffer *file = UNTOUCHED(ZtBuffer);
    ZtComponentSpec parts[3];
    ZtTensorSpec spec;
    CHECK_REFUSED(zt_writer_create("told.zt", 99, 0, NULL, &writer), writer, ZT_ERR_ARGUMENT);
    CHECK(tells("told.zt: "));
    CHECK_REFUSED(zt_writer_create("told.zt", 0, 0, "[", &writer), writer, ZT_ERR_ARGUMENT);
    CHECK(tells("told.zt: metadata: "));
    CHECK_REFUSED(zt_writer_create("told.zt", 0, 0, "{\"\377\":1}", &writer), writer, ZT_ERR_UTF8);
    CHECK(tells("told.zt: "));
    CHECK_REFUSED(zt_writer_create_memory(0, 0, "{\"a\":1,\"a\":1}", &writer), writer, ZT_ERR_ARGUMENT);
    CHECK(tells("<memory>: metadata: "));
    CHECK_STATUS(zt_writer_create("told.zt", 0, 1, NULL, &writer), ZT_OK);
#define REFUSED(change, wanted, place)                         \
    do {                                                       \
        spec = sample_spec(&sample[CSR], CSR, parts);          \
        change;                                                \
        CHECK_STATUS(zt_writer_add(writer, &spec, 1), wanted); \
        CHECK(tells("told.zt: " place));                       \
    } while (0)
    REFUSED(spec.dtype = 99, ZT_ERR_UNKNOWN_DTYPE, "tensor \"csr\": ");
    REFUSED(spec.layout = 99, ZT_ERR_UNKNOWN_LAYOUT, "tensor \"csr\": ");
    REFUSED(spec.reserved = 1, ZT_ERR_ARGUMENT, "tensor \"csr\": ");
    REFUSED(spec.components = NULL, ZT_ERR_NULL, "tensor \"csr\": ");
    REFUSED((spec.attributes = "[", spec.attributes_len = 1), ZT_ERR_ARGUMENT, "tensor \"csr\": attributes: ");
    REFUSED(spec.name = "cs\377", ZT_ERR_UTF8, "a tensor's name ");
    REFUSED(parts[1].dtype = 99, ZT_ERR_UNKNOWN_DTYPE, "tensor \"csr\", component \"indices\": ");
    REFUSED(parts[2].reserved = 1, ZT_ERR_ARGUMENT, "tensor \"csr\", component \"indptr\": ");
    REFUSED(parts[0].data = NULL, ZT_ERR_NULL, "tensor \"csr\", component \"values\": ");
    REFUSED((parts[0].data = NULL, spec.layout = 99), ZT_ERR_NULL, "tensor \"csr\": ");
#undef REFUSED
    CHECK_STATUS(zt_writer_add(writer, NULL, 1), ZT_ERR_NULL);
    CHECK(tells("told.zt: "));
    CHECK_REFUSED(zt_writer_finish_memory(writer, &file), file, ZT_ERR_ARGUMENT);
    CHECK(tells("told.zt: "));
    zt_writer_free(writer);
}

/* ---------------------------------------------------------------- what a reader tells */

static void check_component(const ZtComponent *found, const SamplePart *expected, int is_packed) {
    CHECK(is_text(found->role_name, zt_role_name(expected->role)));
    CHECK(is_text(found->dtype_name, zt_dtype_name(expected->dtype)));
    CHECK(is_text(found->encoding_name, is_packed ? "zstd" : "raw"));
    CHECK(found->offset % 64 == 0);
    CHECK(found->len == expected->len);
    CHECK(is_packed ? found->stored_len < found->len : found->stored_len == found->len);
    /* 16 MiB is for data that repeats itself, as this does where it is long enough for a sample to show it. */
    CHECK(!is_packed || found->chunk_len == 1024 * 1024 || found->chunk_len == 16 * 1024 * 1024);
    CHECK(is_packed || found->chunk_len == 0);
    CHECK(found->has_crc32 == 1);
    CHECK(found->role == expected->role);
    CHECK(found->dtype == expected->dtype);
    CHECK(found->encoding == (is_packed ? ZT_ZSTD : ZT_RAW));
    CHECK(found->filter == (is_packed ? ZT_FILTER_FLOAT : 0));
}

static void check_tensor(const ZtTensor *found, int number) {
    const SampleTensor *expected = &sample[number];
    uint64_t len = 0;
    size_t i;
    CHECK(is_text(found->name, expected->name));
    CHECK(found->name_len == strlen(expected->name));
    CHECK(found->ndim == expected->ndim);
    for (i = 0; i < found->ndim; i++) {
        CHECK(found->shape[i] == expected->shape[i]);
    }
    CHECK(found->component_count == expected->part_count);
    for (i = 0; i < found->component_count; i++) {
        check_component(&found->components[i], &expected->parts[i], number == PACKED);
        len += found->components[i].len;
    }
    CHECK(found->len == len);
    CHECK(is_text(found->dtype_name, zt_dtype_name(expected->parts[0].dtype)));
    CHECK(is_text(found->layout_name, zt_layout_name(expected->layout)));
    CHECK(found->dtype == expected->parts[0].dtype);
    CHECK(found->layout == expected->layout);
    CHECK(found->has_attributes == (number == DENSE || number == BSR || number == BSC));
    CHECK(found->reserved == 0);
}

static void test_descriptions(void) {
    ZtReader *reader = open_sample();
    const ZtTensor *tensors = NULL, *again = NULL;
    ZtTensor one;
    ZtComponent components[4];
    const char *names = NULL;
    const uint64_t *shares = NULL;
    size_t count = 0, names_len = 0, shares_count = 0, number, i;
    CHECK(zt_reader_count(reader) == SAMPLE_COUNT);
    CHECK_STATUS(zt_reader_tensors(reader, &tensors, &count), ZT_OK);
    CHECK(count == SAMPLE_COUNT);
    CHECK_STATUS(zt_reader_tensors(reader, &again, &count), ZT_OK);
    CHECK(again == tensors);
    CHECK_STATUS(zt_reader_names(reader, &names, &names_len), ZT_OK);
    for (i = 0; i < count; i++) {
        check_tensor(&tensors[i], (int)i);
        CHECK_STATUS(zt_reader_describe(reader, i, &one, components, 3), ZT_OK);
        CHECK(one.components == components);
        check_tensor(&one, (int)i);
        CHECK_STATUS(zt_reader_find(reader, sample[i].name, &number), ZT_OK);
        CHECK(number == i);
        CHECK(names_len > strlen(names) && is_text(names, sample[i].name));
        names_len -= strlen(names) + 1;
        names += strlen(names) + 1;
    }
    CHECK(names_len == 0);
    /* Shapes stand behind each other, and so do components. */
    for (i = 1; i < count; i++) {
        CHECK(tensors[i].shape == tensors[i - 1].shape + tensors[i - 1].ndim);
        CHECK(tensors[i].components == tensors[i - 1].components + tensors[i - 1].component_count);
    }
    /* Tied tensors are one blob. */
    CHECK(tensors[TIED].components[0].offset == tensors[LARGE].components[0].offset);
    CHECK(tensors[TIED].components[0].crc32 == tensors[LARGE].components[0].crc32);
    CHECK(tensors[TIED].components[0].crc32 ==
          crc32_of((const unsigned char *)sample[TIED].parts[0].data, sample[TIED].parts[0].len));

    CHECK_STATUS(zt_reader_shares(reader, &shares, &shares_count), ZT_OK);
    for (number = 0, i = 0; i < count; i++) {
        size_t first = (size_t)(tensors[i].components - tensors[0].components);
        CHECK(first == number);
        number += tensors[i].component_count;
        CHECK((shares[first] != 0) == (i == TIED || i == LARGE));
    }
    CHECK(shares_count == number);
    CHECK(shares[tensors[TIED].components - tensors[0].components] ==
          shares[tensors[LARGE].components - tensors[0].components]);

    /* Failures write nothing. */
    memset(&one, 0x55, sizeof one);
    memset(components, 0x55, sizeof components);
    CHECK_STATUS(zt_reader_describe(reader, count, &one, components, 4), ZT_ERR_RANGE);
    CHECK_STATUS(zt_reader_describe(reader, CSR, &one, components, 2), ZT_ERR_SIZE);
    CHECK_STATUS(zt_reader_describe(reader, DENSE, &one, components, 0), ZT_ERR_SIZE);
    CHECK(one.reserved == 0x55555555 && components[0].filter == 0x55555555);
    number = UNTOUCHED_NUMBER;
    CHECK_STATUS(zt_reader_find(reader, "nothing", &number), ZT_ERR_NOT_FOUND);
    CHECK_STATUS(zt_reader_find(reader, "", &number), ZT_ERR_NOT_FOUND);
    CHECK_STATUS(zt_reader_find(reader, "dens", &number), ZT_ERR_NOT_FOUND);
    CHECK_STATUS(zt_reader_find(reader, "densely", &number), ZT_ERR_NOT_FOUND);
    CHECK(number == UNTOUCHED_NUMBER);
    zt_reader_free(reader);
}

static void test_checksums(void) {
    ZtReader *reader = open_sample();
    ZtBuffer *text = NULL;
    ZtTensor tensor;
    ZtComponent components[3];
    char expected[32];
    CHECK_STATUS(zt_reader_describe(reader, CSR, &tensor, components, 3), ZT_OK);
    snprintf(expected, sizeof expected, "crc32:%08x", (unsigned)components[2].crc32);
    CHECK_STATUS(zt_reader_checksum(reader, CSR, 2, &text), ZT_OK);
    CHECK(is_json(text, expected));
    text = UNTOUCHED(ZtBuffer);
    CHECK_REFUSED(zt_reader_checksum(reader, CSR, 3, &text), text, ZT_ERR_RANGE);
    CHECK_REFUSED(zt_reader_checksum(reader, SAMPLE_COUNT, 0, &text), text, ZT_ERR_RANGE);
    zt_reader_free(reader);
}

static void test_key_values(void) {
    ZtReader *reader = open_sample();
    ZtBuffer *json = NULL;
    CHECK_STATUS(zt_reader_metadata(reader, &json), ZT_OK);
    CHECK(is_json(json, "{\"answer\":42,\"title\":\"sample \303\251\"}"));
    CHECK_STATUS(zt_reader_attributes(reader, DENSE, &json), ZT_OK);
    CHECK(is_json(json, sample_attributes));
    CHECK_STATUS(zt_reader_attributes(reader, SCALAR, &json), ZT_OK);
    CHECK(is_json(json, "{}"));
    CHECK_STATUS(zt_reader_attributes(reader, BSC, &json), ZT_OK);
    CHECK(is_json(json, "{\"blocksize\":[2,3]}"));
    json = UNTOUCHED(ZtBuffer);
    CHECK_REFUSED(zt_reader_attributes(reader, SAMPLE_COUNT, &json), json, ZT_ERR_RANGE);
    zt_reader_free(reader);
}

/* Values that JSON cannot spell stand as objects of one key. */
static void test_key_values_beyond_json(void) {
    static const char text[] =
        "{\"bytes\":{\"$bytes\":\"00ff\"},\"ext\":{\"$ext\":[5,\"0102\"]},\"float\":{\"$float\":\"-inf\"},"
        "\"nested\":[{\"a\":null,\"b\":[true,1.5,18446744073709551615]}],\"nothing\":{}}";
    static const char *const refused[] = {"",       "[]",     "1",         "{",
                                          "{} {}",  "{'a'}",  "{\"a\":}",  "{\"a\":{\"$bytes\":\"0\"}}",
                                          "{\"a\":{\"$other\":1}}", "{\"a\":1,\"a\":2}",
                                          "{\"o\":[{\"a\":1,\"a\":1}]}"};
    ZtWriter *writer = NULL;
    ZtBuffer *file = NULL, *json = NULL;
    ZtReader *reader;
    size_t i;
    char deep[600] = "{\"a\":";
    CHECK_STATUS(zt_writer_create_memory(0, 1, text, &writer), ZT_OK);
    CHECK_STATUS(zt_writer_finish_memory(writer, &file), ZT_OK);
    zt_writer_free(writer);
    reader = open_memory(zt_buffer_data(file), zt_buffer_len(file), 0);
    CHECK_STATUS(zt_reader_metadata(reader, &json), ZT_OK);
    CHECK(is_json(json, text));
    zt_reader_free(reader);
    zt_buffer_free(file);

    writer = UNTOUCHED(ZtWriter);
    for (i = 0; i < LENGTH_OF(refused); i++) {
        CHECK_REFUSED(zt_writer_create_memory(0, 1, refused[i], &writer), writer, ZT_ERR_ARGUMENT);
    }
    CHECK_REFUSED(zt_writer_create_memory(0, 1, "{\"\377\":1}", &writer), writer, ZT_ERR_UTF8);
    memset(deep + 5, '[', 250);
    memset(deep + 255, ']', 250);
    deep[505] = '}';
    CHECK_REFUSED(zt_writer_create_memory(0, 1, deep, &writer), writer, ZT_ERR_ARGUMENT);
    CHECK_REFUSED(zt_writer_create("deep.zt", 0, 1, deep, &writer), writer, ZT_ERR_ARGUMENT);
    CHECK(count_files() == 0);
}

static void test_a_file_without_tensors(void) {
    ZtWriter *writer = NULL;
    ZtBuffer *file = NULL, *json = NULL;
    ZtReader *reader;
    ZtBatch *batch = NULL;
    const ZtTensor *tensors = NULL;
    const ZtSpan *spans = NULL;
    const char *names = NULL;
    size_t count = UNTOUCHED_NUMBER;
    CHECK_STATUS(zt_writer_create_memory(0, 1, NULL, &writer), ZT_OK);
    CHECK_STATUS(zt_writer_add(writer, NULL, 0), ZT_OK);
    CHECK_STATUS(zt_writer_finish_memory(writer, &file), ZT_OK);
    zt_writer_free(writer);
    reader = open_memory(zt_buffer_data(file), zt_buffer_len(file), 0);
    CHECK(zt_reader_count(reader) == 0);
    CHECK_STATUS(zt_reader_tensors(reader, &tensors, &count), ZT_OK);
    CHECK(count == 0);
    count = UNTOUCHED_NUMBER;
    CHECK_STATUS(zt_reader_names(reader, &names, &count), ZT_OK);
    CHECK(count == 0);
    CHECK_STATUS(zt_reader_metadata(reader, &json), ZT_OK);
    CHECK(is_json(json, "{}"));
    CHECK_STATUS(zt_reader_read_many(reader, NULL, 0, ZT_VERIFY_ON, &batch), ZT_OK);
    CHECK(zt_batch_memory_count(batch) == 0);
    count = UNTOUCHED_NUMBER;
    CHECK_STATUS(zt_batch_spans(batch, &spans, &count), ZT_OK);
    CHECK(count == 0);
    zt_batch_free(batch);
    CHECK_STATUS(zt_reader_verify(reader, NULL, NULL), ZT_OK);
    zt_reader_free(reader);
    zt_buffer_free(file);
}

/* ---------------------------------------------------------------- reading */

/* Reads everything of the sample, in every way. */
static void check_contents(const ZtReader *reader, int32_t verify) {
    size_t i, j, k;
    for (i = 0; i < SAMPLE_COUNT; i++) {
        for (j = 0; j < sample[i].part_count; j++) {
            const SamplePart *part = &sample[i].parts[j];
            size_t size = zt_dtype_size(part->dtype), count = part->len / size;
            /* From the middle, over a border of chunks where there are any. */
            size_t first = count / 3, some = count / 2;
            ZtBuffer *buffer = NULL;
            unsigned char *memory = (unsigned char *)malloc(part->len + 1);
            ZtTarget target;

            CHECK_STATUS(zt_reader_read(reader, i, j, verify, &buffer), ZT_OK);
            CHECK(is_part(buffer, part));
            CHECK((uintptr_t)zt_buffer_data(buffer) % 64 == 0);
            zt_buffer_free(buffer);

            CHECK_STATUS(zt_reader_read_range(reader, i, j, first, some, verify, &buffer), ZT_OK);
            CHECK(holds(buffer, (const unsigned char *)part->data + first * size, some * size));
            zt_buffer_free(buffer);
            CHECK_STATUS(zt_reader_read_range(reader, i, j, count, 0, verify, &buffer), ZT_OK);
            CHECK(zt_buffer_len(buffer) == 0 && zt_buffer_data(buffer) != NULL);
            zt_buffer_free(buffer);

            memset(memory, 0x55, part->len + 1);
            target.tensor = i;
            target.component = j;
            target.data = memory;
            target.len = part->len;
            CHECK_STATUS(zt_reader_read_into(reader, &target, 1, verify), ZT_OK);
            CHECK(part->len == 0 || memcmp(memory, part->data, part->len) == 0);
            CHECK(memory[part->len] == 0x55);

            memset(memory, 0x55, part->len + 1);
            CHECK_STATUS(zt_reader_read_range_into(reader, i, j, first, some, verify, memory, some * size), ZT_OK);
            CHECK(some == 0 || memcmp(memory, (const unsigned char *)part->data + first * size, some * size) == 0);
            CHECK(memory[some * size] == 0x55);
            free(memory);

            CHECK_STATUS(zt_reader_read_stored(reader, i, j, verify, &buffer), ZT_OK);
            CHECK(i == PACKED ? zt_buffer_len(buffer) < part->len : is_part(buffer, part));
            zt_buffer_free(buffer);
        }
    }
    /* All at once: all of the file, and a choice in another order. */
    for (k = 0; k < 2; k++) {
        static const size_t choice[] = {PACKED, COO, EMPTY, DENSE, PACKED, SCALAR};
        size_t tensors = k == 0 ? (size_t)SAMPLE_COUNT : LENGTH_OF(choice);
        const ZtSpan *spans = NULL;
        size_t count = 0, at = 0;
        ZtBatch *batch = NULL;
        CHECK_STATUS(zt_reader_read_many(reader, k == 0 ? NULL : choice, k == 0 ? 0 : tensors, verify, &batch), ZT_OK);
        CHECK_STATUS(zt_batch_spans(batch, &spans, &count), ZT_OK);
        for (i = 0; i < tensors; i++) {
            const SampleTensor *tensor = &sample[k == 0 ? i : choice[i]];
            for (j = 0; j < tensor->part_count && at < count; j++, at++) {
                ZtBuffer *memory = NULL;
                CHECK_STATUS(zt_batch_memory(batch, spans[at].memory, &memory), ZT_OK);
                CHECK(spans[at].len == tensor->parts[j].len);
                CHECK(spans[at].start <= zt_buffer_len(memory) &&
                      spans[at].len <= zt_buffer_len(memory) - spans[at].start);
                CHECK(spans[at].len == 0 ||
                      memcmp(data_of(memory) + spans[at].start, tensor->parts[j].data, spans[at].len) == 0);
                CHECK((uintptr_t)(data_of(memory) + spans[at].start) % 64 == 0);
                zt_buffer_free(memory);
            }
        }
        CHECK(at == count);
        zt_batch_free(batch);
    }
}

static void test_reading_in_every_mode(void) {
    static const uint32_t modes[] = {ZT_READ_MMAP, ZT_READ_OWNED, ZT_READ_MMAP | ZT_READ_VERIFY,
                                     ZT_READ_OWNED | ZT_READ_VERIFY};
    size_t i;
    int32_t verify;
    ZtReader *reader = NULL;
    CHECK(put_bytes("sample.zt", zt_buffer_data(sample_bytes), zt_buffer_len(sample_bytes)));
    for (i = 0; i < LENGTH_OF(modes); i++) {
        for (verify = ZT_VERIFY_AS_OPENED; verify <= ZT_VERIFY_OFF; verify++) {
            CHECK_STATUS(zt_reader_open("sample.zt", modes[i], i, &reader), ZT_OK);
            check_contents(reader, verify);
            zt_reader_free(reader);
        }
    }
    reader = open_sample();
    check_contents(reader, ZT_VERIFY_ON);
    zt_reader_free(reader);
    CHECK(remove("sample.zt") == 0);
}

static void test_numbers_out_of_range(void) {
    ZtReader *reader = open_sample();
    ZtBuffer *buffer = UNTOUCHED(ZtBuffer);
    ZtBatch *batch = UNTOUCHED(ZtBatch);
    static const size_t tensors[] = {DENSE, SAMPLE_COUNT};
    float values[12];
    ZtTarget target = {SAMPLE_COUNT, 0, NULL, 0};
    target.data = values;
    target.len = sizeof values;
    CHECK_REFUSED(zt_reader_read(reader, SAMPLE_COUNT, 0, 0, &buffer), buffer, ZT_ERR_RANGE);
    CHECK_REFUSED(zt_reader_read(reader, DENSE, 1, 0, &buffer), buffer, ZT_ERR_RANGE);
    CHECK_REFUSED(zt_reader_read_stored(reader, SAMPLE_COUNT, 0, 0, &buffer), buffer, ZT_ERR_RANGE);
    CHECK_REFUSED(zt_reader_read_stored(reader, COO, 2, 0, &buffer), buffer, ZT_ERR_RANGE);
    CHECK_REFUSED(zt_reader_read_range(reader, SAMPLE_COUNT, 0, 0, 1, 0, &buffer), buffer, ZT_ERR_RANGE);
    CHECK_REFUSED(zt_reader_read_range(reader, DENSE, 0, 0, 13, 0, &buffer), buffer, ZT_ERR_RANGE);
    CHECK_REFUSED(zt_reader_read_range(reader, DENSE, 0, 13, 0, 0, &buffer), buffer, ZT_ERR_RANGE);
    CHECK_REFUSED(zt_reader_read_range(reader, DENSE, 0, 12, 1, 0, &buffer), buffer, ZT_ERR_RANGE);
    CHECK_REFUSED(zt_reader_read_range(reader, DENSE, 0, UINT64_MAX, 2, 0, &buffer), buffer, ZT_ERR_RANGE);
    CHECK_STATUS(zt_reader_read_range_into(reader, DENSE, 0, 8, 5, 0, values, 20), ZT_ERR_RANGE);
    CHECK_STATUS(zt_reader_read_into(reader, &target, 1, 0), ZT_ERR_RANGE);
    target.tensor = DENSE;
    target.component = 1;
    CHECK_STATUS(zt_reader_read_into(reader, &target, 1, 0), ZT_ERR_RANGE);
    CHECK_REFUSED(zt_reader_read_many(reader, tensors, 2, 0, &batch), batch, ZT_ERR_RANGE);
    CHECK_STATUS(zt_reader_read_many(reader, tensors, 1, 0, &batch), ZT_OK);
    CHECK_REFUSED(zt_batch_memory(batch, zt_batch_memory_count(batch), &buffer), buffer, ZT_ERR_RANGE);
    zt_batch_free(batch);
    zt_reader_free(reader);
}

static void test_targets_of_the_wrong_size(void) {
    ZtReader *reader = open_sample();
    static const size_t wrong[] = {0, 1, 47, 49};
    unsigned char memory[64];
    int64_t scalar = 0;
    ZtTarget targets[3] = {{DENSE, 0, NULL, 48}, {SCALAR, 0, NULL, 8}, {EMPTY, 0, NULL, 0}};
    size_t i;
    targets[0].data = memory;
    targets[1].data = &scalar;
    CHECK_STATUS(zt_reader_read_into(reader, targets, 3, ZT_VERIFY_ON), ZT_OK);
    CHECK(memcmp(memory, sample[DENSE].parts[0].data, 48) == 0 && scalar == -7);
    CHECK_STATUS(zt_reader_read_into(reader, NULL, 0, ZT_VERIFY_ON), ZT_OK);
    for (i = 0; i < LENGTH_OF(wrong); i++) {
        targets[0].len = wrong[i];
        CHECK_STATUS(zt_reader_read_into(reader, targets, 3, 0), ZT_ERR_SIZE);
        CHECK_STATUS(zt_reader_read_range_into(reader, DENSE, 0, 0, 12, 0, memory, wrong[i]), ZT_ERR_SIZE);
    }
    CHECK_STATUS(zt_reader_read_range_into(reader, DENSE, 0, 4, 4, 0, memory, 12), ZT_ERR_SIZE);
    CHECK_STATUS(zt_reader_read_range_into(reader, DENSE, 0, 4, 0, 0, memory, 1), ZT_ERR_SIZE);
    CHECK_STATUS(zt_reader_read_range_into(reader, DENSE, 0, 4, 0, 0, NULL, 0), ZT_OK);
    zt_reader_free(reader);
}

/* Buffers belong to their holder: they live as long as he wants, and his writes are his alone. */
static void test_buffers_are_the_callers(void) {
    static const uint32_t modes[] = {ZT_READ_MMAP, ZT_READ_OWNED};
    static const int numbers[] = {DENSE, LARGE, PACKED}; /* small raw, large raw, compressed */
    size_t i, j;
    int k;
    CHECK(put_bytes("sample.zt", zt_buffer_data(sample_bytes), zt_buffer_len(sample_bytes)));
    for (i = 0; i < LENGTH_OF(modes); i++) {
        for (j = 0; j < LENGTH_OF(numbers); j++) {
            const SamplePart *part = &sample[numbers[j]].parts[0];
            ZtBuffer *buffers[3] = {NULL, NULL, NULL}, *stored = NULL;
            ZtReader *reader = NULL;
            CHECK_STATUS(zt_reader_open("sample.zt", modes[i], 0, &reader), ZT_OK);
            for (k = 0; k < 3; k++) {
                CHECK_STATUS(zt_reader_read(reader, (size_t)numbers[j], 0, ZT_VERIFY_ON, &buffers[k]), ZT_OK);
                CHECK(is_part(buffers[k], part));
                /* Written over at once: the next read is not to see it. */
                memset(zt_buffer_data(buffers[k]), k + 1, part->len);
            }
            CHECK_STATUS(zt_reader_read_stored(reader, (size_t)numbers[j], 0, ZT_VERIFY_ON, &stored), ZT_OK);
            memset(zt_buffer_data(stored), 9, zt_buffer_len(stored));
            CHECK_STATUS(zt_reader_verify(reader, NULL, NULL), ZT_OK);
            zt_reader_free(reader);
            for (k = 0; k < 3; k++) {
                CHECK(data_of(buffers[k])[0] == k + 1 && data_of(buffers[k])[part->len - 1] == k + 1);
                zt_buffer_free(buffers[k]);
            }
            CHECK(data_of(stored)[0] == 9);
            zt_buffer_free(stored);
        }
    }
    /* Nothing of that reached the file. */
    {
        ZtReader *reader = NULL;
        CHECK_STATUS(zt_reader_open("sample.zt", 0, 0, &reader), ZT_OK);
        CHECK_STATUS(zt_reader_verify(reader, NULL, NULL), ZT_OK);
        check_contents(reader, ZT_VERIFY_ON);
        zt_reader_free(reader);
    }
    CHECK(remove("sample.zt") == 0);
}

static void test_buffers_outlive_a_memory_reader(void) {
    size_t len;
    unsigned char *bytes = copy_sample(&len);
    ZtReader *reader = open_memory(bytes, len, ZT_READ_VERIFY);
    ZtBuffer *buffer = NULL;
    CHECK_STATUS(zt_reader_read(reader, LARGE, 0, 0, &buffer), ZT_OK);
    zt_reader_free(reader);
    free(bytes);
    CHECK(is_part(buffer, &sample[LARGE].parts[0]));
    zt_buffer_free(buffer);
}

/* Copies are the buffer's bytes, for any number of threads, and touch nothing around the target. */
static void test_copies_of_buffers(void) {
    const size_t lens[] = {1, 4097, (size_t)9 << 20};
    size_t i, at, threads;
    for (i = 0; i < LENGTH_OF(lens); i++) {
        ZtReader *reader = NULL;
        ZtWriter *writer = NULL;
        ZtBuffer *file = NULL, *buffer = NULL;
        uint64_t shape = lens[i];
        unsigned char *bytes = (unsigned char *)malloc(lens[i]), *copy = (unsigned char *)malloc(lens[i] + 128);
        ZtComponentSpec component = component_spec(bytes, lens[i], ZT_UINT8);
        ZtTensorSpec spec = tensor_spec("bytes", ZT_DENSE, &shape, 1, &component, 1);
        CHECK(bytes != NULL && copy != NULL);
        for (at = 0; at < lens[i]; at++) {
            bytes[at] = (unsigned char)(at * 2654435761u >> 13);
        }
        CHECK_STATUS(zt_writer_create_memory(0, 1, NULL, &writer), ZT_OK);
        CHECK_STATUS(zt_writer_add(writer, &spec, 1), ZT_OK);
        CHECK_STATUS(zt_writer_finish_memory(writer, &file), ZT_OK);
        zt_writer_free(writer);
        reader = open_memory(zt_buffer_data(file), zt_buffer_len(file), 0);
        CHECK_STATUS(zt_reader_read(reader, 0, 0, 0, &buffer), ZT_OK);
        for (threads = 0; threads < 4; threads++) {
            memset(copy, 0x33, lens[i] + 128);
            CHECK_STATUS(zt_buffer_copy(buffer, copy + 64, lens[i], threads), ZT_OK);
            CHECK(memcmp(copy + 64, bytes, lens[i]) == 0);
            for (at = 0; at < 64; at++) {
                CHECK(copy[at] == 0x33 && copy[64 + lens[i] + at] == 0x33);
            }
        }
        zt_buffer_free(buffer);
        zt_reader_free(reader);
        zt_buffer_free(file);
        free(bytes);
        free(copy);
    }
}

/* Tied tensors share their memory in a batch, in every mode and whether they are large, small or compressed. */
static void test_batches(void) {
    static const size_t tensors[] = {TIED, DENSE, LARGE, DENSE, PACKED, PACKED};
    static const size_t same[][2] = {{0, 2}, {1, 3}, {4, 5}};
    static const uint32_t modes[] = {ZT_READ_MMAP, ZT_READ_OWNED};
    size_t i, j, count;
    CHECK(put_bytes("sample.zt", zt_buffer_data(sample_bytes), zt_buffer_len(sample_bytes)));
    for (i = 0; i < LENGTH_OF(modes); i++) {
        ZtReader *reader = NULL;
        ZtBatch *batch = NULL, *other = NULL;
        const ZtSpan *spans = NULL;
        ZtBuffer *first = NULL, *second = NULL;
        CHECK_STATUS(zt_reader_open("sample.zt", modes[i], 0, &reader), ZT_OK);
        CHECK_STATUS(zt_reader_read_many(reader, tensors, LENGTH_OF(tensors), ZT_VERIFY_ON, &batch), ZT_OK);
        CHECK_STATUS(zt_reader_read_many(reader, tensors, LENGTH_OF(tensors), ZT_VERIFY_ON, &other), ZT_OK);
        zt_reader_free(reader);
        CHECK_STATUS(zt_batch_spans(batch, &spans, &count), ZT_OK);
        CHECK(count == LENGTH_OF(tensors));
        for (j = 0; j < LENGTH_OF(same); j++) {
            const ZtSpan *a = &spans[same[j][0]], *b = &spans[same[j][1]];
            CHECK(a->memory == b->memory && a->start == b->start && a->len == b->len);
        }
        CHECK(zt_batch_memory_count(batch) >= 1 && zt_batch_memory_count(batch) <= 3);

        /* Two buffers of one block are the same memory, and one more batch is other memory. */
        CHECK_STATUS(zt_batch_memory(batch, spans[0].memory, &first), ZT_OK);
        CHECK_STATUS(zt_batch_memory(batch, spans[0].memory, &second), ZT_OK);
        CHECK(zt_buffer_data(first) == zt_buffer_data(second) && zt_buffer_len(first) == zt_buffer_len(second));
        data_of(first)[spans[0].start] = 0xee;
        CHECK(data_of(second)[spans[2].start] == 0xee);
        zt_buffer_free(second);
        CHECK_STATUS(zt_batch_spans(other, &spans, &count), ZT_OK);
        CHECK_STATUS(zt_batch_memory(other, spans[0].memory, &second), ZT_OK);
        CHECK(memcmp(data_of(second) + spans[0].start, sample[TIED].parts[0].data, spans[0].len) == 0);

        /* Freed in any order. */
        zt_batch_free(batch);
        CHECK(data_of(first)[spans[0].start] == 0xee);
        zt_buffer_free(first);
        zt_buffer_free(second);
        zt_batch_free(other);
    }
    /* An array of no tensors is none, not all. */
    {
        ZtReader *reader = open_sample();
        ZtBatch *batch = NULL;
        const ZtSpan *spans = NULL;
        CHECK_STATUS(zt_reader_read_many(reader, tensors, 0, 0, &batch), ZT_OK);
        CHECK_STATUS(zt_batch_spans(batch, &spans, &count), ZT_OK);
        CHECK(count == 0 && zt_batch_memory_count(batch) == 0);
        zt_batch_free(batch);
        zt_reader_free(reader);
    }
    CHECK(remove("sample.zt") == 0);
}

/* ---------------------------------------------------------------- verifying */

typedef struct {
    pthread_t thread;
    int calls;
    int stop_at;
    int problems;
    uint64_t done;
    uint64_t total;
} Progress;

static int32_t watch(uint64_t done, uint64_t total, void *user) {
    Progress *progress = (Progress *)user;
    progress->calls++;
    progress->problems += !pthread_equal(progress->thread, pthread_self());
    progress->problems += done < progress->done || done > total;
    progress->problems += progress->total != 0 && progress->total != total;
    progress->done = done;
    progress->total = total;
    return progress->calls == progress->stop_at ? -1 : 0;
}

static void test_tensors_of_another_library(void) {
    ZtReader *reader = NULL;
    ZtBatch *batch = NULL;
    void *objects[SAMPLE_COUNT];
    int i;
    CHECK_STATUS(zt_reader_open_memory(zt_buffer_data(sample_bytes), zt_buffer_len(sample_bytes), 0, 2, &reader), ZT_OK);
    CHECK_STATUS(zt_reader_read_many(reader, NULL, 0, ZT_VERIFY_ON, &batch), ZT_OK);
    CHECK_STATUS(zt_dlpack_tensors(reader, NULL, 0, batch, dlpack_make, objects), ZT_OK);
    zt_reader_free(reader);
    zt_batch_free(batch);
    for (i = 0; i < SAMPLE_COUNT; i++) {
        const Made *made = (const Made *)objects[i];
        size_t at;
        int64_t stride = 1;
        /* Sparse tensors are left to the caller, and so is the second of two that are the same bytes. */
        CHECK((made != NULL) == (sample[i].layout == ZT_DENSE && i != TIED));
        if (made == NULL) {
            continue;
        }
        CHECK(made->major == 1 && made->flags == 0 && made->shown.device == 1 && made->shown.byte_offset == 0);
        CHECK(made->shown.ndim == (int32_t)sample[i].ndim);
        for (at = sample[i].ndim; at-- > 0;) {
            CHECK(made->shown.shape[at] == (int64_t)sample[i].shape[at] && made->shown.strides[at] == stride);
            stride *= made->shown.shape[at] > 0 ? made->shown.shape[at] : 1;
        }
        if (sample[i].parts[0].len > 0) {
            CHECK(memcmp(made->shown.data, sample[i].parts[0].data, sample[i].parts[0].len) == 0);
            memset(made->shown.data, 0x5a, sample[i].parts[0].len);
        }
    }
    /* Given up in whatever order, those that are left stay whole. */
    for (i = 0; i < SAMPLE_COUNT; i++) {
        Made *made = (Made *)objects[(i + LARGE) % SAMPLE_COUNT];
        if (made != NULL) {
            CHECK(made->shown.ndim == 0 || made->shown.shape[0] >= 0);
            made->deleter(made);
        }
    }
}

static void test_verify(void) {
    ZtReader *reader = open_sample();
    Progress progress;
    memset(&progress, 0, sizeof progress);
    progress.thread = pthread_self();
    CHECK_STATUS(zt_reader_verify(reader, watch, &progress), ZT_OK);
    CHECK(progress.problems == 0);
    CHECK(progress.calls >= 1 && progress.done == progress.total && progress.total > sample[LARGE].parts[0].len);
    CHECK_STATUS(zt_reader_verify(reader, NULL, NULL), ZT_OK);
    /* The end is reported in any case, and even then the call can be stopped. */
    memset(&progress, 0, sizeof progress);
    progress.thread = pthread_self();
    progress.stop_at = 1;
    CHECK_STATUS(zt_reader_verify(reader, watch, &progress), ZT_ERR_CANCELLED);
    CHECK(progress.calls == 1 && progress.problems == 0);
    /* So it is with the callback of the thread, which reads use too. */
    memset(&progress, 0, sizeof progress);
    progress.thread = pthread_self();
    progress.stop_at = 1;
    zt_set_progress(watch, &progress);
    CHECK_STATUS(zt_reader_verify(reader, NULL, NULL), ZT_ERR_CANCELLED);
    CHECK(progress.calls == 1 && progress.problems == 0);
    zt_set_progress(NULL, NULL);
    /* That has no consequences. */
    CHECK_STATUS(zt_reader_verify(reader, NULL, NULL), ZT_OK);
    zt_reader_free(reader);
}

/* Noise of few symbols, that compresses at high levels and slowly. */
static unsigned char *noise_of_few_symbols(size_t len) {
    unsigned char *bytes = (unsigned char *)malloc(len);
    uint32_t state = 1;
    size_t i;
    for (i = 0; bytes != NULL && i < len; i++) {
        state = state * 1664525u + 1013904223u;
        bytes[i] = (unsigned char)((state >> 24) & 31);
    }
    return bytes;
}

/* Adds `len` bytes to a new file with a callback that stops at its call number `stop_at`, and abandons the file. */
static void add_slowly(const unsigned char *bytes, size_t len, size_t threads, int stop_at, Progress *progress) {
    const uint64_t shape = len;
    ZtWriter *writer = NULL;
    ZtComponentSpec component;
    ZtTensorSpec spec;
    ZtStatus status;
    memset(&component, 0, sizeof component);
    memset(&spec, 0, sizeof spec);
    memset(progress, 0, sizeof *progress);
    component.data = bytes;
    component.len = len;
    component.dtype = spec.dtype = ZT_UINT8;
    spec.layout = ZT_DENSE;
    spec.name = "slow";
    spec.name_len = 4;
    spec.shape = &shape;
    spec.ndim = 1;
    spec.components = &component;
    spec.component_count = 1;
    spec.level = 12;
    progress->thread = pthread_self();
    progress->stop_at = stop_at;
    CHECK_STATUS(zt_writer_create("slow.zt", 0, threads, NULL, &writer), ZT_OK);
    zt_set_progress(watch, progress);
    status = zt_writer_add(writer, &spec, 1);
    zt_set_progress(NULL, NULL);
    CHECK(progress->problems == 0);
    if (stop_at == 0) {
        CHECK(status == ZT_OK);
    } else {
        /* It can only be freed, and has left nothing. */
        CHECK(status == ZT_ERR_CANCELLED && progress->calls == stop_at && count_files() == 0);
        CHECK_STATUS(zt_writer_add(writer, &spec, 1), ZT_ERR_STATE);
        CHECK_STATUS(zt_writer_finish(writer), ZT_ERR_STATE);
    }
    zt_writer_free(writer);
    CHECK(count_files() == 0);
}

static void test_progress_of_long_calls(void) {
    const size_t longest = (size_t)64 * 1024 * 1024;
    unsigned char *bytes = noise_of_few_symbols(longest);
    size_t threads;
    CHECK(bytes != NULL);
    for (threads = 1; threads <= 2; threads++) {
        /* As much as takes some reports, however fast the machine is. */
        size_t len = 512 * 1024;
        Progress progress;
        add_slowly(bytes, len, threads, 0, &progress);
        while (progress.calls < 4 && len < longest) {
            len *= 2;
            add_slowly(bytes, len, threads, 0, &progress);
        }
        CHECK(progress.calls >= 4 && progress.done == len && progress.total == len);
        add_slowly(bytes, len, threads, 1, &progress);
        CHECK(progress.done < len);
        add_slowly(bytes, len, threads, 2, &progress);
    }
    free(bytes);
}

static void test_damaged_data(void) {
    static const struct {
        size_t tensor, component;
        int is_always_checked;
    } places[] = {{DENSE, 0, 0}, {LARGE, 0, 0}, {COO, 0, 0}, {PACKED, 0, 1}};
    static const uint32_t modes[] = {0, ZT_READ_VERIFY};
    size_t i, j, len, count;
    for (i = 0; i < LENGTH_OF(places); i++) {
        for (j = 0; j < LENGTH_OF(modes); j++) {
            unsigned char *bytes = copy_sample(&len);
            ZtReader *reader = open_memory(bytes, len, modes[j]);
            const ZtTensor *tensors = NULL;
            const ZtComponent *part;
            size_t tensor = places[i].tensor, component = places[i].component;
            int is_always_checked = places[i].is_always_checked;
            ZtBuffer *buffer = UNTOUCHED(ZtBuffer);
            ZtBatch *batch = UNTOUCHED(ZtBatch);
            void *memory;
            ZtTarget target;
            CHECK_STATUS(zt_reader_tensors(reader, &tensors, &count), ZT_OK);
            part = &tensors[tensor].components[component];
            bytes[part->offset + part->stored_len / 2] ^= 0x10;
            memory = malloc((size_t)part->len);
            target.tensor = tensor;
            target.component = component;
            target.data = memory;
            target.len = (size_t)part->len;

            CHECK_REFUSED(zt_reader_read(reader, tensor, component, ZT_VERIFY_ON, &buffer), buffer, ZT_ERR_CHECKSUM);
            CHECK_REFUSED(zt_reader_read_stored(reader, tensor, component, ZT_VERIFY_ON, &buffer), buffer,
                          ZT_ERR_CHECKSUM);
            CHECK_REFUSED(zt_reader_read_many(reader, &tensor, 1, ZT_VERIFY_ON, &batch), batch, ZT_ERR_CHECKSUM);
            CHECK_STATUS(zt_reader_read_into(reader, &target, 1, ZT_VERIFY_ON), ZT_ERR_CHECKSUM);
            CHECK_STATUS(zt_reader_verify(reader, NULL, NULL), ZT_ERR_CHECKSUM);
            if (is_always_checked) {
                CHECK_REFUSED(zt_reader_read(reader, tensor, component, ZT_VERIFY_OFF, &buffer), buffer,
                              ZT_ERR_CHECKSUM);
                CHECK_REFUSED(zt_reader_read_many(reader, &tensor, 1, ZT_VERIFY_OFF, &batch), batch, ZT_ERR_CHECKSUM);
                CHECK_STATUS(zt_reader_read_into(reader, &target, 1, ZT_VERIFY_OFF), ZT_ERR_CHECKSUM);
            } else {
                CHECK_STATUS(zt_reader_read(reader, tensor, component, ZT_VERIFY_OFF, &buffer), ZT_OK);
                zt_buffer_free(buffer);
                buffer = UNTOUCHED(ZtBuffer);
                /* With verification, a range checks the whole raw component. */
                CHECK_REFUSED(zt_reader_read_range(reader, tensor, component, 0, 1, ZT_VERIFY_ON, &buffer), buffer,
                              ZT_ERR_CHECKSUM);
                CHECK_STATUS(zt_reader_read_range_into(reader, tensor, component, 0, 1, ZT_VERIFY_ON, memory,
                                                       zt_dtype_size(part->dtype)),
                             ZT_ERR_CHECKSUM);
            }
            if (modes[j] == ZT_READ_VERIFY || is_always_checked) {
                CHECK_REFUSED(zt_reader_read(reader, tensor, component, ZT_VERIFY_AS_OPENED, &buffer), buffer,
                              ZT_ERR_CHECKSUM);
            } else {
                CHECK_STATUS(zt_reader_read(reader, tensor, component, ZT_VERIFY_AS_OPENED, &buffer), ZT_OK);
                zt_buffer_free(buffer);
            }
            zt_reader_free(reader);
            free(memory);
            free(bytes);
        }
    }
}

/* Damage whose checksum fits: only what it says can tell. */
static void test_damage_with_a_fitting_checksum(void) {
    size_t len, count;
    unsigned char *bytes = copy_sample(&len);
    ZtReader *reader = open_memory(bytes, len, 0);
    const ZtTensor *tensors = NULL;
    static const int numbers[] = {CSR, PACKED};
    int i, j;
    ZtBuffer *buffer = UNTOUCHED(ZtBuffer);
    CHECK_STATUS(zt_reader_tensors(reader, &tensors, &count), ZT_OK);
    for (i = 0; i < 2; i++) {
        /* An index value of CSR becomes 255; a compressed chunk gets a wrong byte. */
        const ZtComponent *part = &tensors[numbers[i]].components[i == 0 ? 1 : 0];
        unsigned char *blob = bytes + part->offset;
        unsigned char before[4], after[4];
        uint32_t crc = part->crc32;
        blob[i == 0 ? 0 : part->stored_len / 2] ^= 0xff;
        for (j = 0; j < 4; j++) {
            before[3 - j] = (unsigned char)(crc >> (8 * j));
        }
        crc = crc32_of(blob, (size_t)part->stored_len);
        for (j = 0; j < 4; j++) {
            after[3 - j] = (unsigned char)(crc >> (8 * j));
        }
        CHECK(patch_index(bytes, len, before, after, 4) == 1);
    }
    zt_reader_free(reader);
    reader = open_memory(bytes, len, ZT_READ_VERIFY);
    CHECK_REFUSED(zt_reader_read(reader, CSR, 1, 0, &buffer), buffer, ZT_ERR_SPARSE);
    CHECK_REFUSED(zt_reader_read_range(reader, CSR, 1, 0, 1, 0, &buffer), buffer, ZT_ERR_SPARSE);
    CHECK_REFUSED(zt_reader_read(reader, PACKED, 0, 0, &buffer), buffer, ZT_ERR_FRAME);
    CHECK_STATUS(zt_reader_verify(reader, NULL, NULL), ZT_OK);
    /* As it is stored, it can be read. */
    CHECK_STATUS(zt_reader_read_stored(reader, CSR, 1, 0, &buffer), ZT_OK);
    zt_buffer_free(buffer);
    zt_reader_free(reader);
    free(bytes);
}

static void test_files_that_are_refused(void) {
    static const char *const texts[] = {"", "\x89", "not a tensor file", "\x89ZTM\r\n\x1a\n"};
    static const ZtStatus wanted[] = {ZT_ERR_SIGNATURE, ZT_ERR_SIGNATURE, ZT_ERR_SIGNATURE, ZT_ERR_TRUNCATED};
    size_t i, len, index_len;
    unsigned char *bytes = copy_sample(&len), *index = index_of(bytes, len, &index_len);
    ZtReader *reader = UNTOUCHED(ZtReader);
    for (i = 0; i < LENGTH_OF(texts); i++) {
        CHECK_REFUSED(zt_reader_open_memory(texts[i], strlen(texts[i]), 0, 0, &reader), reader, wanted[i]);
        CHECK(put_bytes("refused.zt", texts[i], strlen(texts[i])));
        CHECK_REFUSED(zt_reader_open("refused.zt", ZT_READ_MMAP, 0, &reader), reader, wanted[i]);
        CHECK_REFUSED(zt_reader_open("refused.zt", ZT_READ_OWNED, 0, &reader), reader, wanted[i]);
    }
    CHECK(remove("refused.zt") == 0);
    CHECK_REFUSED(zt_reader_open("", 0, 0, &reader), reader, ZT_ERR_FILE_NOT_FOUND);
    CHECK_REFUSED(zt_reader_open("missing/file.zt", 0, 0, &reader), reader, ZT_ERR_FILE_NOT_FOUND);
    CHECK_REFUSED(zt_reader_open(".", 0, 0, &reader), reader, ZT_ERR_IO);

    CHECK_REFUSED(zt_reader_open_memory(bytes, len - 1, 0, 0, &reader), reader, ZT_ERR_TRUNCATED);
    CHECK_REFUSED(zt_reader_open_memory(bytes, 100, 0, 0, &reader), reader, ZT_ERR_TRUNCATED);
    bytes[len - 20] ^= 1;
    CHECK_REFUSED(zt_reader_open_memory(bytes, len, 0, 0, &reader), reader, ZT_ERR_FOOTER);
    bytes[len - 20] ^= 1;
    index[index_len / 2] ^= 1;
    CHECK_REFUSED(zt_reader_open_memory(bytes, len, 0, 0, &reader), reader, ZT_ERR_INDEX_CHECKSUM);
    index[index_len / 2] ^= 1;
    index[0] ^= 0x10; /* a map becomes an array */
    sign(bytes, len);
    CHECK_REFUSED(zt_reader_open_memory(bytes, len, 0, 0, &reader), reader, ZT_ERR_INDEX);
    index[0] ^= 0x10;
    bytes[len - 64 + 28]++;
    sign(bytes, len);
    CHECK_REFUSED(zt_reader_open_memory(bytes, len, 0, 0, &reader), reader, ZT_ERR_VERSION);
    bytes[len - 64 + 28]--;
    sign(bytes, len);
    /* In the index, a text of less than 32 bytes comes after a byte of 0xa0 + its length. */
    CHECK(patch_index(bytes, len, "\245dense\247", "\245den\0e\247", 7) == 1);
    CHECK_REFUSED(zt_reader_open_memory(bytes, len, 0, 0, &reader), reader, ZT_ERR_NAME);
    CHECK(patch_index(bytes, len, "\245den\0e\247", "\245dense\247", 7) == 1);
    CHECK(patch_index(bytes, len, "\243csc", "\243csr", 4) == 1);
    CHECK_REFUSED(zt_reader_open_memory(bytes, len, 0, 0, &reader), reader, ZT_ERR_DUPLICATE);
    free(bytes);
}

/* What a later version may bring: it is listed, and its stored bytes can be read. */
static void test_unknown_types_layouts_and_encodings(void) {
    size_t len, count;
    unsigned char *bytes = copy_sample(&len);
    static const size_t coo = COO, csr = CSR, packed = PACKED;
    ZtReader *reader;
    const ZtTensor *tensors = NULL;
    ZtTensor one;
    ZtComponent parts[3];
    ZtBuffer *buffer = UNTOUCHED(ZtBuffer);
    ZtBatch *batch = UNTOUCHED(ZtBatch);
    CHECK(patch_index(bytes, len, "\247float32", "\247float99", 8) > 0);
    CHECK(patch_index(bytes, len, "\252sparse_csr", "\252sparse_xyz", 11) == 1);
    CHECK(patch_index(bytes, len, "\244zstd", "\244zzzz", 5) == 1);
    reader = open_memory(bytes, len, ZT_READ_VERIFY);
    CHECK_STATUS(zt_reader_tensors(reader, &tensors, &count), ZT_OK);
    CHECK(tensors[COO].dtype == 0 && is_text(tensors[COO].dtype_name, "float99") && tensors[COO].layout == ZT_SPARSE_COO);
    CHECK(tensors[COO].components[0].dtype == 0 && is_text(tensors[COO].components[0].dtype_name, "float99"));
    CHECK(tensors[CSR].layout == 0 && is_text(tensors[CSR].layout_name, "sparse_xyz"));
    CHECK(tensors[CSR].component_count == 3);
    CHECK(tensors[PACKED].components[0].encoding == 0 && is_text(tensors[PACKED].components[0].encoding_name, "zzzz"));
    CHECK(tensors[PACKED].components[0].len == tensors[PACKED].components[0].stored_len);
    CHECK_STATUS(zt_reader_describe(reader, CSR, &one, parts, 3), ZT_OK);
    CHECK(one.layout == 0 && is_text(one.layout_name, "sparse_xyz") && parts[0].dtype == 0);

    CHECK_STATUS(zt_reader_read(reader, COO, 0, 0, &buffer), ZT_OK);
    CHECK(is_part(buffer, &sample[COO].parts[0]));
    zt_buffer_free(buffer);
    CHECK_STATUS(zt_reader_read(reader, CSR, 2, 0, &buffer), ZT_OK);
    CHECK(is_part(buffer, &sample[CSR].parts[2]));
    zt_buffer_free(buffer);
    CHECK_STATUS(zt_reader_read_stored(reader, PACKED, 0, 0, &buffer), ZT_OK);
    CHECK(zt_buffer_len(buffer) == tensors[PACKED].components[0].stored_len);
    zt_buffer_free(buffer);

    buffer = UNTOUCHED(ZtBuffer);
    CHECK_REFUSED(zt_reader_read_range(reader, COO, 0, 0, 1, 0, &buffer), buffer, ZT_ERR_UNKNOWN_DTYPE);
    CHECK_REFUSED(zt_reader_read(reader, PACKED, 0, 0, &buffer), buffer, ZT_ERR_UNKNOWN_ENCODING);
    CHECK_REFUSED(zt_reader_read_range(reader, PACKED, 0, 0, 1, 0, &buffer), buffer, ZT_ERR_UNKNOWN_ENCODING);
    CHECK_REFUSED(zt_reader_read_many(reader, &coo, 1, 0, &batch), batch, ZT_ERR_UNKNOWN_DTYPE);
    CHECK_REFUSED(zt_reader_read_many(reader, &csr, 1, 0, &batch), batch, ZT_ERR_UNKNOWN_LAYOUT);
    CHECK_REFUSED(zt_reader_read_many(reader, &packed, 1, 0, &batch), batch, ZT_ERR_UNKNOWN_ENCODING);
    CHECK_STATUS(zt_reader_verify(reader, NULL, NULL), ZT_OK);
    zt_reader_free(reader);
    free(bytes);
}

/* Without mappings, a file that is truncated while it is open is an error and not a signal. */
static void test_truncation_while_open(void) {
    ZtReader *reader = NULL;
    ZtBuffer *buffer = UNTOUCHED(ZtBuffer);
    CHECK(put_bytes("cut.zt", zt_buffer_data(sample_bytes), zt_buffer_len(sample_bytes)));
    CHECK_STATUS(zt_reader_open("cut.zt", ZT_READ_OWNED, 0, &reader), ZT_OK);
    CHECK(truncate("cut.zt", 64) == 0);
    CHECK_REFUSED(zt_reader_read(reader, LARGE, 0, 0, &buffer), buffer, ZT_ERR_TRUNCATED);
    CHECK_REFUSED(zt_reader_read_stored(reader, PACKED, 0, 0, &buffer), buffer, ZT_ERR_TRUNCATED);
    CHECK_STATUS(zt_reader_verify(reader, NULL, NULL), ZT_ERR_TRUNCATED);
    zt_reader_free(reader);
    CHECK(remove("cut.zt") == 0);
}

/* ---------------------------------------------------------------- writing */

static void test_written_files_are_the_same(void) {
    /* In memory and on disk, in one call and in many, with one thread and with several. */
    static const size_t threads[] = {0, 1, 5};
    size_t i;
    int in_one_call;
    for (i = 0; i < LENGTH_OF(threads); i++) {
        for (in_one_call = 0; in_one_call < 2; in_one_call++) {
            ZtWriter *writer = NULL;
            ZtReader *reader = NULL;
            FILE *file;
            size_t len = zt_buffer_len(sample_bytes);
            unsigned char *found = (unsigned char *)malloc(len + 1);
            CHECK_STATUS(zt_writer_create("same.zt", (uint32_t)i, threads[i], sample_metadata, &writer), ZT_OK);
            CHECK_STATUS(sample_add(writer, 1, in_one_call), ZT_OK);
            CHECK_STATUS(zt_writer_finish(writer), ZT_OK);
            zt_writer_free(writer);
            file = fopen("same.zt", "rb");
            CHECK(file != NULL && fread(found, 1, len + 1, file) == len);
            CHECK(memcmp(found, zt_buffer_data(sample_bytes), len) == 0);
            if (file != NULL) {
                fclose(file);
            }
            free(found);
            CHECK_STATUS(zt_reader_open("same.zt", 0, threads[i], &reader), ZT_OK);
            CHECK_STATUS(zt_reader_verify(reader, NULL, NULL), ZT_OK);
            zt_reader_free(reader);
        }
    }
    CHECK(remove("same.zt") == 0 && count_files() == 0);
}

static void test_every_element_type(void) {
    enum { COUNT = 300 };
    unsigned char data[COUNT * 16];
    static const uint64_t shape[] = {3, COUNT / 3};
    ZtWriter *writer = NULL;
    ZtBuffer *file = NULL;
    ZtReader *reader;
    size_t i, number;
    int level;
    for (i = 0; i < sizeof data; i++) {
        data[i] = (unsigned char)(i % 7 == 0); /* fine for bool too */
    }
    CHECK_STATUS(zt_writer_create_memory(0, 0, NULL, &writer), ZT_OK);
    for (i = 0; i < LENGTH_OF(dtypes); i++) {
        for (level = 0; level <= 22; level += 11) {
            ZtComponentSpec component = component_spec(data, COUNT * dtypes[i].size, dtypes[i].dtype);
            char name[64];
            ZtTensorSpec spec;
            snprintf(name, sizeof name, "%s at level %d", dtypes[i].name, level);
            spec = tensor_spec(name, ZT_DENSE, shape, 2, &component, 1);
            spec.level = level;
            CHECK_STATUS(zt_writer_add(writer, &spec, 1), ZT_OK);
        }
    }
    CHECK_STATUS(zt_writer_finish_memory(writer, &file), ZT_OK);
    zt_writer_free(writer);
    reader = open_memory(zt_buffer_data(file), zt_buffer_len(file), ZT_READ_VERIFY);
    number = 0;
    for (i = 0; i < LENGTH_OF(dtypes); i++) {
        for (level = 0; level <= 22; level += 11, number++) {
            ZtTensor tensor;
            ZtComponent component;
            ZtBuffer *buffer = NULL;
            CHECK_STATUS(zt_reader_describe(reader, number, &tensor, &component, 1), ZT_OK);
            CHECK(tensor.dtype == dtypes[i].dtype && component.dtype == dtypes[i].dtype);
            CHECK(component.encoding == (level == 0 ? ZT_RAW : ZT_ZSTD));
            CHECK((zt_filter_name(component.filter) != NULL) == (level > 0));
            CHECK_STATUS(zt_reader_read(reader, number, 0, 0, &buffer), ZT_OK);
            CHECK(holds(buffer, data, COUNT * dtypes[i].size));
            zt_buffer_free(buffer);
            CHECK_STATUS(zt_reader_read_range(reader, number, 0, 100, 7, 0, &buffer), ZT_OK);
            CHECK(holds(buffer, data + 100 * dtypes[i].size, 7 * dtypes[i].size));
            zt_buffer_free(buffer);
        }
    }
    CHECK(number == zt_reader_count(reader));
    zt_reader_free(reader);
    zt_buffer_free(file);
}

/* Index components may be of any integer type, and keep it. */
static void test_every_type_of_index(void) {
    static const ZtDtype types[] = {ZT_INT8,  ZT_INT16,  ZT_INT32,  ZT_INT64,
                                    ZT_UINT8, ZT_UINT16, ZT_UINT32, ZT_UINT64};
    static const double values[] = {1, 2};
    static const uint64_t shape[] = {2, 3};
    ZtWriter *writer = NULL;
    ZtBuffer *file = NULL, *buffer = NULL;
    ZtReader *reader;
    size_t i, j;
    CHECK_STATUS(zt_writer_create_memory(0, 1, NULL, &writer), ZT_OK);
    for (i = 0; i < LENGTH_OF(types); i++) {
        unsigned char indices[16] = {0}, indptr[24] = {0};
        size_t size = zt_dtype_size(types[i]);
        ZtComponentSpec parts[3];
        ZtTensorSpec spec;
        indices[0] = 2;
        for (j = 0; j < 3; j++) {
            indptr[j * size] = (unsigned char)j;
        }
        parts[0] = component_spec(values, sizeof values, ZT_FLOAT64);
        parts[1] = component_spec(indices, 2 * size, types[i]);
        parts[2] = component_spec(indptr, 3 * size, types[i]);
        spec = tensor_spec(zt_dtype_name(types[i]), ZT_SPARSE_CSR, shape, 2, parts, 3);
        CHECK_STATUS(zt_writer_add(writer, &spec, 1), ZT_OK);
        indices[0] = 3; /* column 3 of 3 */
        spec.name = "x";
        spec.name_len = 1;
        CHECK_STATUS(zt_writer_add(writer, &spec, 1), ZT_ERR_SPARSE);
    }
    CHECK_STATUS(zt_writer_finish_memory(writer, &file), ZT_OK);
    zt_writer_free(writer);
    reader = open_memory(zt_buffer_data(file), zt_buffer_len(file), 0);
    CHECK(zt_reader_count(reader) == LENGTH_OF(types));
    for (i = 0; i < LENGTH_OF(types); i++) {
        CHECK_STATUS(zt_reader_read(reader, i, 2, ZT_VERIFY_ON, &buffer), ZT_OK);
        CHECK(zt_buffer_len(buffer) == 3 * zt_dtype_size(types[i]));
        zt_buffer_free(buffer);
    }
    zt_reader_free(reader);
    zt_buffer_free(file);
}

/* Adding a tensor must fail with this status, and the writer must go on as if nothing had happened. */
#define CHECK_NOT_ADDED(writer, spec, wanted)                 \
    do {                                                      \
        CHECK_STATUS(zt_writer_add(writer, &(spec), 1), wanted); \
        spec = good;                                          \
    } while (0)

static void test_tensors_that_are_refused(void) {
    static const float values[12] = {0};
    static const uint64_t shape[] = {3, 4};
    static const uint64_t huge_shape[] = {(uint64_t)1 << 62, 2};
    uint64_t many_dims[65];
    static char long_name[4097];
    ZtComponentSpec data = component_spec(values, sizeof values, ZT_FLOAT32), parts[2];
    ZtTensorSpec good = tensor_spec("good", ZT_DENSE, shape, 2, &data, 1), spec = good, specs[3];
    ZtWriter *writer = NULL;
    ZtBuffer *file = NULL;
    ZtReader *reader;
    size_t i;
    for (i = 0; i < 65; i++) {
        many_dims[i] = 1;
    }
    many_dims[0] = 12;
    memset(long_name, 'n', sizeof long_name);
    CHECK_STATUS(zt_writer_create_memory(0, 1, NULL, &writer), ZT_OK);

    /* Names. */
    spec.name_len = 0;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_NAME);
    spec.name = "a\0b";
    spec.name_len = 3;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_NAME);
    spec.name = long_name;
    spec.name_len = 4097;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_NAME);
    spec.name = "\377";
    spec.name_len = 1;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_UTF8);

    /* Shapes and sizes. */
    spec.shape = many_dims;
    spec.ndim = 65;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_SHAPE);
    spec.shape = huge_shape;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_SHAPE);
    spec.ndim = 1; /* 3 elements, not 12 */
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_SIZE);
    data.len--;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_SIZE);
    data.len++;

    /* Types, layouts, levels, attributes. */
    spec.dtype = 0;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_UNKNOWN_DTYPE);
    spec.dtype = ZT_INT32;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_LAYOUT);
    data.dtype = 1000;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_UNKNOWN_DTYPE);
    data.dtype = ZT_FLOAT32;
    spec.layout = 0;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_UNKNOWN_LAYOUT);
    spec.layout = 7;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_UNKNOWN_LAYOUT);
    spec.layout = ZT_SPARSE_CSR; /* one component of three */
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_LAYOUT);
    parts[0] = parts[1] = data;
    spec.components = parts;
    spec.component_count = 2;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_LAYOUT);
    spec.component_count = 0;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_LAYOUT);
    spec.level = 23;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_ARGUMENT);
    spec.level = -1;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_ARGUMENT);
    spec.reserved = 1;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_ARGUMENT);
    data.reserved = 1;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_ARGUMENT);
    data.reserved = 0;
    spec.attributes = "[]";
    spec.attributes_len = 2;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_ARGUMENT);
    spec.attributes = "{}\377";
    spec.attributes_len = 3;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_UTF8);

    /* One that is refused keeps the others of its call out. */
    specs[0] = specs[1] = specs[2] = good;
    specs[1].name = "other";
    specs[1].name_len = 5;
    specs[2].level = 99;
    CHECK_STATUS(zt_writer_add(writer, specs, 3), ZT_ERR_ARGUMENT);
    /* A name is there once, in one call and over calls. */
    specs[2].level = 0;
    CHECK_STATUS(zt_writer_add(writer, specs, 3), ZT_ERR_DUPLICATE);
    CHECK_STATUS(zt_writer_add(writer, specs, 2), ZT_OK);
    CHECK_STATUS(zt_writer_add(writer, &good, 1), ZT_ERR_DUPLICATE);
    CHECK(strstr(zt_last_error_message(), "good") != NULL);

    /* The limits themselves are fine. */
    spec.name = long_name;
    spec.name_len = 4096;
    spec.shape = many_dims;
    spec.ndim = 64;
    CHECK_STATUS(zt_writer_add(writer, &spec, 1), ZT_OK);

    CHECK_STATUS(zt_writer_finish_memory(writer, &file), ZT_OK);
    zt_writer_free(writer);
    reader = open_memory(zt_buffer_data(file), zt_buffer_len(file), 0);
    CHECK(zt_reader_count(reader) == 3);
    zt_reader_free(reader);
    zt_buffer_free(file);
}

static void test_sparse_tensors_that_are_refused(void) {
    SampleTensor tensor;
    ZtComponentSpec parts[3];
    ZtTensorSpec good, spec;
    ZtWriter *writer = NULL;
    static const int32_t indices_outside[] = {0, 1, 3, 6, 4, 5};
    static const int32_t indices_negative[] = {0, 1, -3, 5, 4, 5};
    static const int64_t not_from_0[] = {1, 1, 2, 4, 6};
    static const int64_t decreasing[] = {0, 2, 1, 4, 6};
    static const int64_t not_to_the_end[] = {0, 1, 2, 4, 5};
    static const uint64_t cube[] = {4, 6, 1};
    CHECK_STATUS(zt_writer_create_memory(0, 1, NULL, &writer), ZT_OK);

    tensor = sample[CSR];
    good = spec = sample_spec(&tensor, CSR, parts);
    parts[1].data = indices_outside;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_SPARSE);
    CHECK(strstr(zt_last_error_message(), "indices") != NULL);
    parts[1].data = indices_negative;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_SPARSE);
    parts[1].data = tensor.parts[1].data;
    parts[2].data = not_from_0;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_SPARSE);
    parts[2].data = decreasing;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_SPARSE);
    parts[2].data = not_to_the_end;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_SPARSE);
    parts[2].data = tensor.parts[2].data;
    parts[2].len -= 8;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_SIZE);
    parts[2].len += 8;
    parts[1].len -= 4;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_SIZE);
    parts[1].len += 4;
    parts[1].dtype = ZT_FLOAT32;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_LAYOUT);
    parts[1].dtype = ZT_INT32;
    spec.ndim = 1;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_LAYOUT);
    spec.shape = cube;
    spec.ndim = 3;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_LAYOUT);

    tensor = sample[COO];
    good = spec = sample_spec(&tensor, COO, parts);
    spec.ndim = 0;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_LAYOUT);
    spec.ndim = 1;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_SIZE);

    tensor = sample[BSR];
    good = spec = sample_spec(&tensor, BSR, parts);
    spec.blocksize[0] = 0;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_LAYOUT);
    spec.blocksize[0] = 3; /* does not divide 4 rows */
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_LAYOUT);
    spec.blocksize[0] = 4;
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_SIZE);
    spec.attributes = "{\"blocksize\":[2,3]}";
    spec.attributes_len = strlen(spec.attributes);
    CHECK_NOT_ADDED(writer, spec, ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_writer_add(writer, &spec, 1), ZT_OK);
    zt_writer_free(writer);
}

static void test_share(void) {
    static const int32_t values[] = {1, 2, 3, 4};
    static const uint64_t four[] = {4}, two[] = {2};
    ZtComponentSpec data = component_spec(values, sizeof values, ZT_INT32);
    ZtTensorSpec specs[2];
    ZtWriter *writer = NULL;
    ZtBuffer *file = NULL;
    ZtReader *reader;
    const ZtTensor *tensors = NULL;
    size_t count = 0;
    CHECK_STATUS(zt_writer_create_memory(0, 1, NULL, &writer), ZT_OK);
    /* In one call, and over calls. */
    data.share = UINT64_MAX;
    specs[0] = tensor_spec("a", ZT_DENSE, four, 1, &data, 1);
    specs[1] = tensor_spec("b", ZT_DENSE, four, 1, &data, 1);
    CHECK_STATUS(zt_writer_add(writer, specs, 2), ZT_OK);
    specs[0].name = "c";
    CHECK_STATUS(zt_writer_add(writer, specs, 1), ZT_OK);
    /* 0 shares nothing. */
    data.share = 0;
    specs[0].name = "d";
    specs[1].name = "e";
    CHECK_STATUS(zt_writer_add(writer, specs, 2), ZT_OK);
    /* What has another length cannot be the same. */
    data.share = UINT64_MAX;
    data.len = 8;
    specs[0] = tensor_spec("f", ZT_DENSE, two, 1, &data, 1);
    CHECK_STATUS(zt_writer_add(writer, specs, 1), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_writer_finish_memory(writer, &file), ZT_OK);
    zt_writer_free(writer);
    reader = open_memory(zt_buffer_data(file), zt_buffer_len(file), 0);
    CHECK_STATUS(zt_reader_tensors(reader, &tensors, &count), ZT_OK);
    CHECK(count == 5);
    CHECK(tensors[1].components[0].offset == tensors[0].components[0].offset);
    CHECK(tensors[2].components[0].offset == tensors[0].components[0].offset);
    CHECK(tensors[3].components[0].offset != tensors[0].components[0].offset);
    CHECK(tensors[4].components[0].offset != tensors[3].components[0].offset);
    zt_reader_free(reader);
    zt_buffer_free(file);
}

static void test_writers_that_are_finished(void) {
    static const float value = 1;
    ZtComponentSpec data = component_spec(&value, sizeof value, ZT_FLOAT32);
    ZtTensorSpec spec = tensor_spec("scalar", ZT_DENSE, NULL, 0, &data, 1);
    ZtWriter *writer = NULL;
    ZtBuffer *file = UNTOUCHED(ZtBuffer);

    CHECK_STATUS(zt_writer_create("finished.zt", 0, 1, NULL, &writer), ZT_OK);
    CHECK_REFUSED(zt_writer_finish_memory(writer, &file), file, ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_writer_add(writer, &spec, 1), ZT_OK);
    CHECK(!exists("finished.zt"));
    CHECK_STATUS(zt_writer_finish(writer), ZT_OK);
    CHECK(exists("finished.zt") && count_files() == 1);
    CHECK_STATUS(zt_writer_finish(writer), ZT_ERR_STATE);
    CHECK_STATUS(zt_writer_add(writer, &spec, 1), ZT_ERR_STATE);
    CHECK_STATUS(zt_writer_add(writer, NULL, 0), ZT_ERR_STATE);
    zt_writer_free(writer);
    CHECK(remove("finished.zt") == 0);

    CHECK_STATUS(zt_writer_create_memory(0, 1, NULL, &writer), ZT_OK);
    CHECK_STATUS(zt_writer_finish(writer), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_writer_add(writer, &spec, 1), ZT_OK);
    CHECK_STATUS(zt_writer_finish_memory(writer, &file), ZT_OK);
    zt_buffer_free(file);
    file = UNTOUCHED(ZtBuffer);
    CHECK_REFUSED(zt_writer_finish_memory(writer, &file), file, ZT_ERR_STATE);
    CHECK_STATUS(zt_writer_add(writer, &spec, 1), ZT_ERR_STATE);
    zt_writer_free(writer);
}

/* A file in memory goes where the caller says, if it fits there, with the same bytes. */
static void test_lent_memory(void) {
    ZtBuffer *own = sample_file(0), *file = NULL;
    const size_t len = zt_buffer_len(own), size = 2 * len;
    const size_t rooms[] = {0, 1, 63, 64, len / 2, len - 1, len, len + 1, size};
    unsigned char *memory = (unsigned char *)malloc(size), wide[64];
    ZtWriter *writer = NULL;
    size_t at, byte;
    CHECK(len > 100 && memory != NULL);
    for (at = 0; at < sizeof rooms / sizeof *rooms; at++) {
        memset(memory, 0xa5, size);
        CHECK_STATUS(zt_writer_create_memory(0, 2, sample_metadata, &writer), ZT_OK);
        CHECK_STATUS(zt_writer_lend(writer, memory, rooms[at]), ZT_OK);
        CHECK_STATUS(sample_add(writer, 0, 1), ZT_OK);
        CHECK_STATUS(zt_writer_finish_memory(writer, &file), ZT_OK);
        zt_writer_free(writer);
        CHECK(zt_buffer_len(file) == len && memcmp(zt_buffer_data(file), zt_buffer_data(own), len) == 0);
        CHECK((zt_buffer_data(file) == (void *)memory) == (rooms[at] >= len));
        for (byte = rooms[at]; byte < size; byte++) {
            CHECK(memory[byte] == 0xa5);
        }
        zt_buffer_free(file);
    }
    /* At any time, and then other memory. */
    CHECK_STATUS(zt_writer_create_memory(0, 2, sample_metadata, &writer), ZT_OK);
    CHECK_STATUS(zt_writer_lend(writer, wide, sizeof wide), ZT_OK);
    CHECK_STATUS(sample_add(writer, 0, 1), ZT_OK);
    CHECK_STATUS(zt_writer_lend(writer, memory, size), ZT_OK);
    CHECK_STATUS(zt_writer_finish_memory(writer, &file), ZT_OK);
    CHECK(zt_buffer_data(file) == (void *)memory && memcmp(memory, zt_buffer_data(own), len) == 0);
    CHECK_STATUS(zt_writer_lend(writer, memory, size), ZT_ERR_STATE);
    zt_buffer_free(file);
    zt_writer_free(writer);
    zt_buffer_free(own);
    free(memory);
}

/* The bytes of a file in memory may outlive its writer. */
static void test_memory_file_outlives_its_writer(void) {
    ZtWriter *writer = NULL;
    ZtBuffer *file = NULL;
    ZtReader *reader;
    CHECK_STATUS(zt_writer_create_memory(0, 1, NULL, &writer), ZT_OK);
    CHECK_STATUS(sample_add(writer, 0, 1), ZT_OK);
    CHECK_STATUS(zt_writer_finish_memory(writer, &file), ZT_OK);
    zt_writer_free(writer);
    reader = open_memory(zt_buffer_data(file), zt_buffer_len(file), 0);
    CHECK(zt_reader_count(reader) == SAMPLE_COUNT);
    CHECK_STATUS(zt_reader_verify(reader, NULL, NULL), ZT_OK);
    zt_reader_free(reader);
    zt_buffer_free(file);
}

static void test_abandoned_files_leave_nothing(void) {
    ZtWriter *writer = NULL;
    /* Nothing was there. */
    CHECK_STATUS(zt_writer_create("abandoned.zt", 0, 1, NULL, &writer), ZT_OK);
    CHECK_STATUS(sample_add(writer, 1, 1), ZT_OK);
    /* The temporary file has a name only where the filesystem has no files without one. */
    CHECK(!exists("abandoned.zt") && count_files() <= 1);
    zt_writer_free(writer);
    CHECK(count_files() == 0);
    /* Something was there: it stays. */
    CHECK(put_bytes("abandoned.zt", "before", 6));
    CHECK_STATUS(zt_writer_create("abandoned.zt", 0, 1, NULL, &writer), ZT_OK);
    CHECK_STATUS(sample_add(writer, 0, 1), ZT_OK);
    CHECK(has_bytes("abandoned.zt", "before"));
    zt_writer_free(writer);
    CHECK(has_bytes("abandoned.zt", "before") && count_files() == 1);
    CHECK(remove("abandoned.zt") == 0);
}

/* The file itself is written, and a new one that is abandoned goes. */
static void test_writing_in_place(void) {
    ZtWriter *writer = NULL;
    ZtReader *reader = NULL;
    struct stat before, after;
    CHECK_STATUS(zt_writer_create("in-place.zt", ZT_FSYNC_ALWAYS | ZT_WRITE_IN_PLACE, 1, NULL, &writer), ZT_OK);
    CHECK_STATUS(sample_add(writer, 1, 1), ZT_OK);
    zt_writer_free(writer);
    CHECK(count_files() == 0);
    CHECK(put_bytes("in-place.zt", "before", 6) && stat("in-place.zt", &before) == 0);
    CHECK_STATUS(zt_writer_create("in-place.zt", ZT_FSYNC_NEVER | ZT_WRITE_IN_PLACE, 1, NULL, &writer), ZT_OK);
    CHECK(has_bytes("in-place.zt", "before"));
    CHECK_STATUS(sample_add(writer, 1, 1), ZT_OK);
    CHECK_STATUS(zt_writer_finish(writer), ZT_OK);
    zt_writer_free(writer);
    CHECK(stat("in-place.zt", &after) == 0 && after.st_ino == before.st_ino && count_files() == 1);
    CHECK_STATUS(zt_reader_open("in-place.zt", 0, 1, &reader), ZT_OK);
    CHECK_STATUS(zt_reader_verify(reader, NULL, NULL), ZT_OK);
    /* It is mapped. */
    writer = UNTOUCHED(ZtWriter);
    CHECK_REFUSED(zt_writer_create("in-place.zt", ZT_WRITE_IN_PLACE, 1, NULL, &writer), writer, ZT_ERR_IO);
    zt_reader_free(reader);
    CHECK(remove("in-place.zt") == 0);
}

static void test_paths(void) {
    static const char strange[] = "\377 not UTF-8\n.zt"; /* the filesystem's bytes, whatever they are */
    ZtWriter *writer = UNTOUCHED(ZtWriter);
    ZtReader *reader = NULL;
    CHECK_REFUSED(zt_writer_create("missing/file.zt", 0, 1, NULL, &writer), writer, ZT_ERR_FILE_NOT_FOUND);
    CHECK_REFUSED(zt_writer_create(".", 0, 1, NULL, &writer), writer, ZT_ERR_IO);
    /* What is no regular file is not opened, and a pipe is not waited for. */
    CHECK(mkfifo("pipe", 0600) == 0);
    reader = UNTOUCHED(ZtReader);
    CHECK_REFUSED(zt_reader_open(".", 0, 1, &reader), reader, ZT_ERR_IO);
    CHECK_REFUSED(zt_reader_open("pipe", 0, 1, &reader), reader, ZT_ERR_IO);
    CHECK_REFUSED(zt_reader_open("/dev/zero", ZT_READ_OWNED, 1, &reader), reader, ZT_ERR_IO);
    CHECK(remove("pipe") == 0);
    CHECK_REFUSED(zt_writer_create("", 0, 1, NULL, &writer), writer, ZT_ERR_IO);
    CHECK_REFUSED(zt_writer_create("file.zt", 3, 1, NULL, &writer), writer, ZT_ERR_ARGUMENT);
    CHECK_REFUSED(zt_writer_create("file.zt", 3 | ZT_WRITE_IN_PLACE, 1, NULL, &writer), writer, ZT_ERR_ARGUMENT);
    CHECK_REFUSED(zt_writer_create("file.zt", 8, 1, NULL, &writer), writer, ZT_ERR_ARGUMENT);
    CHECK(count_files() == 0);
    CHECK_STATUS(zt_writer_create(strange, ZT_FSYNC_NEVER, 1, NULL, &writer), ZT_OK);
    CHECK_STATUS(zt_writer_finish(writer), ZT_OK);
    zt_writer_free(writer);
    CHECK(exists(strange));
    CHECK_STATUS(zt_reader_open(strange, 0, 0, &reader), ZT_OK);
    zt_reader_free(reader);
    CHECK(remove(strange) == 0);
}

/* A file that is replaced while a reader has it mapped: the reader goes on with the old one. */
static void test_replacing_an_open_file(void) {
    ZtWriter *writer = NULL;
    ZtReader *before = NULL, *after = NULL;
    CHECK(put_bytes("model.zt", zt_buffer_data(sample_bytes), zt_buffer_len(sample_bytes)));
    CHECK_STATUS(zt_reader_open("model.zt", ZT_READ_MMAP, 0, &before), ZT_OK);
    CHECK_STATUS(zt_writer_create("model.zt", ZT_FSYNC_AUTO, 0, NULL, &writer), ZT_OK);
    CHECK_STATUS(zt_writer_finish(writer), ZT_OK);
    zt_writer_free(writer);
    CHECK_STATUS(zt_reader_open("model.zt", ZT_READ_MMAP, 0, &after), ZT_OK);
    CHECK(zt_reader_count(after) == 0);
    check_contents(before, ZT_VERIFY_ON);
    zt_reader_free(before);
    zt_reader_free(after);
    CHECK(remove("model.zt") == 0 && count_files() == 0);
}

/* A write that the system refuses: the writer can only be freed, and leaves nothing. */
static void test_writers_that_failed(void) {
    ZtWriter *writer = NULL;
    struct rlimit before, limit;
    static const float value = 1;
    ZtComponentSpec data = component_spec(&value, sizeof value, ZT_FLOAT32);
    ZtTensorSpec spec = tensor_spec("scalar", ZT_DENSE, NULL, 0, &data, 1);
    fflush(stdout);
    signal(SIGXFSZ, SIG_IGN);
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
    CHECK_STATUS(zt_writer_create("failed.zt", 0, 0, NULL, &writer), ZT_OK);
    limit = before;
    limit.rlim_cur = 100 * 1024;
    if (setrlimit(RLIMIT_FSIZE, &limit) == 0) {
        ZtStatus status = sample_add(writer, 1, 1);
        setrlimit(RLIMIT_FSIZE, &before);
        CHECK_STATUS(status, ZT_ERR_IO);
        CHECK(strstr(zt_last_error_message(), "failed.zt") != NULL);
        CHECK_STATUS(zt_writer_add(writer, &spec, 1), ZT_ERR_STATE);
        CHECK_STATUS(zt_writer_finish(writer), ZT_ERR_STATE);
    }
    zt_writer_free(writer);
    CHECK(count_files() == 0);

    /* The name is taken by a directory before the file is finished. */
    CHECK_STATUS(zt_writer_create("failed.zt", 0, 0, NULL, &writer), ZT_OK);
    CHECK_STATUS(zt_writer_add(writer, &spec, 1), ZT_OK);
    CHECK(mkdir("failed.zt", 0700) == 0);
    CHECK_STATUS(zt_writer_finish(writer), ZT_ERR_IO);
    CHECK_STATUS(zt_writer_finish(writer), ZT_ERR_STATE);
    CHECK_STATUS(zt_writer_add(writer, &spec, 1), ZT_ERR_STATE);
    zt_writer_free(writer);
    CHECK(count_files() == 1 && rmdir("failed.zt") == 0);
}

/* ---------------------------------------------------------------- threads */

#define THREADS 8
#define ROUNDS 6

typedef struct {
    const ZtReader *reader;
    pthread_barrier_t *barrier;
    int number;
    int problems;
} Worker;

static void *read_on_a_thread(void *user) {
    Worker *worker = (Worker *)user;
    const ZtReader *reader = worker->reader;
    int round;
    pthread_barrier_wait(worker->barrier);
    for (round = 0; round < ROUNDS; round++) {
        /* Each thread begins with another tensor. */
        size_t at = (size_t)(worker->number + round) % SAMPLE_COUNT, j, count = 0, number = 0;
        const SampleTensor *expected = &sample[at];
        const ZtTensor *tensors = NULL;
        ZtBuffer *buffer = NULL;
        ZtBatch *batch = NULL;
        worker->problems += zt_reader_tensors(reader, &tensors, &count) != ZT_OK || count != SAMPLE_COUNT;
        worker->problems += !is_text(tensors[at].name, expected->name);
        worker->problems += zt_reader_find(reader, expected->name, &number) != ZT_OK || number != at;
        for (j = 0; j < expected->part_count; j++) {
            worker->problems += zt_reader_read(reader, at, j, ZT_VERIFY_ON, &buffer) != ZT_OK;
            worker->problems += !is_part(buffer, &expected->parts[j]);
            if (zt_buffer_len(buffer) > 0) {
                memset(zt_buffer_data(buffer), worker->number, zt_buffer_len(buffer));
            }
            zt_buffer_free(buffer);
        }
        buffer = NULL;
        worker->problems += zt_reader_read_range(reader, PACKED, 0, 500000, 100000, 0, &buffer) != ZT_OK;
        worker->problems += !holds(buffer, (const uint16_t *)sample[PACKED].parts[0].data + 500000, 200000);
        zt_buffer_free(buffer);
        worker->problems += zt_reader_read_many(reader, NULL, 0, ZT_VERIFY_OFF, &batch) != ZT_OK;
        zt_batch_free(batch);
        /* Failures on one thread are not seen by the others. */
        worker->problems += zt_reader_find(reader, worker->number % 2 ? "odd" : "even", &number) != ZT_ERR_NOT_FOUND;
        worker->problems += strstr(zt_last_error_message(), worker->number % 2 ? "odd" : "even") == NULL;
        worker->problems += zt_reader_verify(reader, NULL, NULL) != ZT_OK;
    }
    return NULL;
}

static void test_eight_threads_and_one_reader(void) {
    static const uint32_t modes[] = {ZT_READ_MMAP, ZT_READ_OWNED};
    size_t i;
    int k;
    CHECK(put_bytes("sample.zt", zt_buffer_data(sample_bytes), zt_buffer_len(sample_bytes)));
    for (i = 0; i < LENGTH_OF(modes); i++) {
        pthread_t threads[THREADS];
        Worker workers[THREADS];
        pthread_barrier_t barrier;
        ZtReader *reader = NULL;
        CHECK_STATUS(zt_reader_open("sample.zt", modes[i], 2, &reader), ZT_OK);
        CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
        for (k = 0; k < THREADS; k++) {
            workers[k].reader = reader;
            workers[k].barrier = &barrier;
            workers[k].number = k;
            workers[k].problems = 0;
            CHECK(pthread_create(&threads[k], NULL, read_on_a_thread, &workers[k]) == 0);
        }
        for (k = 0; k < THREADS; k++) {
            CHECK(pthread_join(threads[k], NULL) == 0);
            CHECK(workers[k].problems == 0);
        }
        pthread_barrier_destroy(&barrier);
        zt_reader_free(reader);
    }
    CHECK(remove("sample.zt") == 0);
}

/* A buffer that one thread reads may be freed by another, and a writer may be handed on. */
static void *finish_on_a_thread(void *user) {
    ZtWriter *writer = (ZtWriter *)user;
    ZtBuffer *file = NULL;
    if (zt_writer_finish_memory(writer, &file)) {
        file = NULL;
    }
    zt_writer_free(writer);
    return file;
}

static void test_handles_are_handed_on(void) {
    ZtWriter *writer = NULL;
    pthread_t thread;
    void *file = NULL;
    CHECK_STATUS(zt_writer_create_memory(0, 2, sample_metadata, &writer), ZT_OK);
    CHECK_STATUS(sample_add(writer, 1, 0), ZT_OK);
    CHECK(pthread_create(&thread, NULL, finish_on_a_thread, writer) == 0);
    CHECK(pthread_join(thread, &file) == 0);
    CHECK(holds((ZtBuffer *)file, zt_buffer_data(sample_bytes), zt_buffer_len(sample_bytes)));
    zt_buffer_free((ZtBuffer *)file);
}

static void test_freeing_null(void) {
    zt_buffer_free(NULL);
    zt_batch_free(NULL);
    zt_reader_free(NULL);
    zt_writer_free(NULL);
    CHECK(zt_buffer_data(NULL) == NULL && zt_buffer_len(NULL) == 0);
    CHECK(zt_batch_memory_count(NULL) == 0);
    CHECK(zt_reader_count(NULL) == 0);
}

int main(void) {
    char directory[] = "test_api.XXXXXX";
    if (mkdtemp(directory) == NULL || chdir(directory) != 0) {
        perror("a new directory");
        return 1;
    }
    sample_bytes = sample_file(1);
    if (sample_bytes == NULL) {
        printf("the sample cannot be written: %s\n", zt_last_error_message());
        return 1;
    }
    sample_tensors(sample, 1);

    test_last_error(); /* first, since nothing may have failed before it */
    test_details_of_errors();
    test_version();
    test_status_names();
    test_names_of_codes();
    test_messages_name_the_place();
    test_messages_of_writers_name_the_place();
    test_descriptions();
    test_checksums();
    test_key_values();
    test_key_values_beyond_json();
    test_a_file_without_tensors();
    test_reading_in_every_mode();
    test_numbers_out_of_range();
    test_targets_of_the_wrong_size();
    test_buffers_are_the_callers();
    test_buffers_outlive_a_memory_reader();
    test_copies_of_buffers();
    test_batches();
    test_tensors_of_another_library();
    test_verify();
    test_progress_of_long_calls();
    test_damaged_data();
    test_damage_with_a_fitting_checksum();
    test_files_that_are_refused();
    test_unknown_types_layouts_and_encodings();
    test_truncation_while_open();
    test_written_files_are_the_same();
    test_every_element_type();
    test_every_type_of_index();
    test_tensors_that_are_refused();
    test_sparse_tensors_that_are_refused();
    test_share();
    test_writers_that_are_finished();
    test_lent_memory();
    test_memory_file_outlives_its_writer();
    test_abandoned_files_leave_nothing();
    test_writing_in_place();
    test_paths();
    test_replacing_an_open_file();
    test_writers_that_failed();
    test_eight_threads_and_one_reader();
    test_handles_are_handed_on();
    test_freeing_null();

    zt_buffer_free(sample_bytes);
    CHECK(count_files() == 0);
    CHECK(chdir("..") == 0 && rmdir(directory) == 0);
    return check_report("test_api");
}
