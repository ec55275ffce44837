/* A handle that was freed is refused, by every function that takes one, as long as its memory holds nothing else. Here it
 * never does: this program has a malloc of its own that gives no memory out twice, so it is no error either to look at what
 * was freed. Under valgrind and sanitizers, which have a malloc of theirs, it is not run. */

#include "check.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sample.h"

/* ---------------------------------------------------------------- memory */

static unsigned char arena[256 * 1024 * 1024];
static size_t used;

/* The length of a block stands in front of it. */
void *memalign(size_t alignment, size_t len) {
    const size_t smallest = 2 * sizeof(void *);
    size_t at, needed;
    uintptr_t block;
    alignment = alignment < smallest ? smallest : alignment;
    needed = smallest + alignment + len;
    if (len > sizeof arena || alignment > sizeof arena) {
        errno = ENOMEM;
        return NULL;
    }
    at = __atomic_fetch_add(&used, needed, __ATOMIC_SEQ_CST);
    if (at > sizeof arena - needed) {
        errno = ENOMEM;
        return NULL;
    }
    block = ((uintptr_t)(arena + at) + smallest + alignment - 1) & ~(uintptr_t)(alignment - 1);
    ((size_t *)block)[-1] = len;
    return (void *)block;
}

void *malloc(size_t len) {
    return memalign(0, len);
}

/* Nobody wrote to the memory before. */
void *calloc(size_t count, size_t len) {
    return len > 0 && count > SIZE_MAX / len ? NULL : memalign(0, count * len);
}

void *realloc(void *block, size_t len) {
    void *moved = memalign(0, len);
    if (block != NULL && moved != NULL) {
        size_t before = ((size_t *)block)[-1];
        memcpy(moved, block, before < len ? before : len);
    }
    return moved;
}

void *aligned_alloc(size_t alignment, size_t len) {
    return memalign(alignment, len);
}

int posix_memalign(void **block, size_t alignment, size_t len) {
    *block = memalign(alignment, len);
    return *block == NULL ? ENOMEM : 0;
}

static size_t freed;

void free(void *block) {
    (void)block;
    __atomic_fetch_add(&freed, 1, __ATOMIC_SEQ_CST);
}

/* ---------------------------------------------------------------- handles */

static char marker;

/* An out-pointer that must stay as it is. */
#define UNTOUCHED(type) ((type *)(void *)&marker)

static void test_reader(const ZtBuffer *file) {
    static const size_t number = 0;
    float memory[12];
    ZtTarget target = {0, 0, NULL, sizeof memory};
    ZtReader *reader = NULL;
    const ZtTensor *tensors = UNTOUCHED(ZtTensor);
    const uint64_t *shares = UNTOUCHED(uint64_t);
    const char *names = &marker;
    ZtBuffer *buffer = UNTOUCHED(ZtBuffer);
    ZtBatch *batch = UNTOUCHED(ZtBatch);
    ZtTensor tensor;
    ZtComponent components[3];
    size_t count = 77;
    target.data = memory;
    CHECK_STATUS(zt_reader_open_memory(zt_buffer_data(file), zt_buffer_len(file), 0, 1, &reader), ZT_OK);
    CHECK(zt_reader_count(reader) == SAMPLE_COUNT);
    zt_reader_free(reader);

    CHECK(zt_reader_count(reader) == 0);
    CHECK(zt_reader_format(reader) == NULL);
    CHECK_STATUS(zt_reader_tensors(reader, &tensors, &count), ZT_ERR_ARGUMENT);
    CHECK(strstr(zt_last_error_message(), "freed") != NULL);
    CHECK_STATUS(zt_reader_describe(reader, 0, &tensor, components, 3), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_reader_shares(reader, &shares, &count), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_reader_names(reader, &names, &count), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_reader_find(reader, "dense", &count), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_reader_metadata(reader, &buffer), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_reader_attributes(reader, 0, &buffer), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_reader_checksum(reader, 0, 0, &buffer), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_reader_read(reader, 0, 0, 0, &buffer), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_reader_read_range(reader, 0, 0, 0, 1, 0, &buffer), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_reader_read_stored(reader, 0, 0, 0, &buffer), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_reader_read_many(reader, &number, 1, 0, &batch), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_reader_read_into(reader, &target, 1, 0), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_reader_read_range_into(reader, 0, 0, 0, 12, 0, memory, sizeof memory), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_reader_verify(reader, NULL, NULL), ZT_ERR_ARGUMENT);
    CHECK(tensors == UNTOUCHED(ZtTensor) && shares == UNTOUCHED(uint64_t) && names == &marker && count == 77);
    CHECK(buffer == UNTOUCHED(ZtBuffer) && batch == UNTOUCHED(ZtBatch));
    zt_reader_free(reader);
}

static int32_t wrap_nothing(void *managed, void **out_object) {
    (void)managed;
    (void)out_object;
    return 1;
}

static void test_buffer_and_batch(const ZtBuffer *file) {
    static const size_t number = 0;
    ZtReader *reader = NULL;
    ZtBuffer *buffer = NULL, *memory = UNTOUCHED(ZtBuffer);
    ZtBatch *batch = NULL;
    const ZtSpan *spans = UNTOUCHED(ZtSpan);
    size_t count = 77;
    char copy[48];
    void *object = &marker;
    CHECK_STATUS(zt_reader_open_memory(zt_buffer_data(file), zt_buffer_len(file), 0, 1, &reader), ZT_OK);
    CHECK_STATUS(zt_reader_read(reader, 0, 0, 0, &buffer), ZT_OK);
    CHECK_STATUS(zt_reader_read_many(reader, &number, 1, 0, &batch), ZT_OK);
    CHECK(zt_buffer_len(buffer) == 48 && zt_batch_memory_count(batch) == 1);
    zt_buffer_free(buffer);
    zt_batch_free(batch);
    CHECK_STATUS(zt_dlpack_tensors(reader, &number, 1, batch, wrap_nothing, &object), ZT_ERR_ARGUMENT);
    zt_reader_free(reader);
    CHECK_STATUS(zt_dlpack_tensors(reader, &number, 1, batch, wrap_nothing, &object), ZT_ERR_ARGUMENT);
    CHECK(object == NULL);

    CHECK(zt_buffer_data(buffer) == NULL);
    CHECK(zt_buffer_len(buffer) == 0);
    CHECK_STATUS(zt_buffer_copy(buffer, copy, sizeof copy, 1), ZT_ERR_ARGUMENT);
    CHECK(zt_batch_memory_count(batch) == 0);
    CHECK_STATUS(zt_batch_spans(batch, &spans, &count), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_batch_memory(batch, 0, &memory), ZT_ERR_ARGUMENT);
    CHECK(spans == UNTOUCHED(ZtSpan) && count == 77 && memory == UNTOUCHED(ZtBuffer));
    zt_buffer_free(buffer);
    zt_batch_free(batch);
}

static void test_writer(void) {
    ZtWriter *writer = NULL;
    ZtBuffer *bytes = UNTOUCHED(ZtBuffer);
    CHECK_STATUS(zt_writer_create_memory(0, 1, NULL, &writer), ZT_OK);
    zt_writer_free(writer);
    CHECK_STATUS(zt_writer_add(writer, NULL, 0), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_writer_lend(writer, NULL, 0), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_writer_finish(writer), ZT_ERR_ARGUMENT);
    CHECK_STATUS(zt_writer_finish_memory(writer, &bytes), ZT_ERR_ARGUMENT);
    CHECK(bytes == UNTOUCHED(ZtBuffer));
    zt_writer_free(writer);
}

int main(void) {
    ZtBuffer *file = sample_file(0);
    size_t before = freed;
    CHECK(file != NULL);
    test_reader(file);
    test_buffer_and_batch(file);
    test_writer();
    /* What is above was about this program's memory, and not about another one's. */
    CHECK(freed > before);
    zt_buffer_free(file);
    return check_report("test_freed");
}
