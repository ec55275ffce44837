/* Eight threads read one reader, mapped and not, everything with verification; and children after fork() read with what
 * their parent opened, while its threads are at rest and while they read, but cannot harm what their parent writes. The
 * threads go on for ZTENSOR_SOAK_SECONDS, or through the file ten times. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sample.h"

enum { THREADS = 8, FORKS = 5 };

static ZtReader *reader;
static time_t end;
static int all_forked;

/* Reads every tensor once; gives how many calls did not give what they should. */
static int read_all(void) {
    const ZtTensor *tensors = NULL;
    size_t count = 0, i, j;
    int problems = zt_reader_tensors(reader, &tensors, &count) != ZT_OK;
    for (i = 0; i < count; i++) {
        for (j = 0; j < tensors[i].component_count; j++) {
            ZtBuffer *one = NULL, *other = NULL;
            ZtStatus status = zt_reader_read(reader, i, j, ZT_VERIFY_ON, &one);
            problems += status != zt_reader_read(reader, i, j, ZT_VERIFY_OFF, &other);
            problems += status != ZT_OK;
            if (status == ZT_OK) {
                size_t len = zt_buffer_len(one);
                problems += len != zt_buffer_len(other);
                problems += len > 0 && memcmp(zt_buffer_data(one), zt_buffer_data(other), len) != 0;
            }
            zt_buffer_free(one);
            zt_buffer_free(other);
        }
    }
    return problems + (zt_reader_verify(reader, NULL, NULL) != ZT_OK);
}

static void *work(void *rounds) {
    int *done = (int *)rounds, problems = 0;
    for (*done = 0; *done < 10 || time(NULL) < end || !__atomic_load_n(&all_forked, __ATOMIC_SEQ_CST); ++*done) {
        problems += read_all();
    }
    return problems == 0 ? NULL : rounds;
}

static void test_fork(int others_read) {
    int status = -1;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int problems;
        /* A deadlock ends here. */
        alarm(60);
        problems = read_all();
        if (others_read) {
            /* What the threads held that this process does not have is nobody's, and a search for leaks would find it. A
             * process that becomes another program is not searched. */
            execlp(problems == 0 ? "true" : "false", "child", (char *)NULL);
        }
        _exit(problems == 0 ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(read_all() == 0);
}

static void test_threads(void) {
    pthread_t threads[THREADS];
    int rounds[THREADS], i, total = 0;
    void *problems;
    all_forked = 0;
    for (i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, work, &rounds[i]) == 0);
    }
    /* They stand anywhere in the library at these moments. */
    for (i = 0; i < FORKS; i++) {
        test_fork(1);
    }
    __atomic_store_n(&all_forked, 1, __ATOMIC_SEQ_CST);
    for (i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], &problems) == 0);
        CHECK(problems == NULL);
        CHECK(rounds[i] > 0);
        total += rounds[i];
    }
    printf("%d threads, the whole file %d times, %d forks meanwhile\n", THREADS, total, FORKS);
}

/* Runs a part of the test in a child, which may do nothing to the parent's file. */
static void in_child(int (*problems)(ZtWriter *), ZtWriter *writer) {
    int status = -1;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(60);
        _exit(problems(writer));
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int misuse_in_child(ZtWriter *writer) {
    int problems = zt_writer_add(writer, NULL, 0) != ZT_ERR_STATE;
    problems += sample_add(writer, 0, 1) != ZT_ERR_STATE;
    problems += strstr(zt_last_error_message(), "forked.zt: the writer belongs to") == NULL;
    problems += zt_writer_finish(writer) != ZT_ERR_STATE;
    zt_writer_free(writer);
    return problems;
}

static int finish_in_child(ZtWriter *writer) {
    ZtBuffer *file = NULL;
    int problems = zt_writer_finish_memory(writer, &file) != ZT_OK;
    problems += zt_buffer_len(file) == 0;
    zt_buffer_free(file);
    zt_writer_free(writer);
    return problems;
}

static void test_fork_while_writing(void) {
    ZtWriter *writer = NULL;
    ZtReader *written = NULL;
    ZtBuffer *file = NULL;
    CHECK_STATUS(zt_writer_create("forked.zt", ZT_FSYNC_NEVER, 2, NULL, &writer), ZT_OK);
    in_child(misuse_in_child, writer);
    CHECK_STATUS(sample_add(writer, 0, 1), ZT_OK);
    in_child(misuse_in_child, writer);
    CHECK_STATUS(zt_writer_finish(writer), ZT_OK);
    zt_writer_free(writer);
    CHECK_STATUS(zt_reader_open("forked.zt", ZT_READ_MMAP, 2, &written), ZT_OK);
    CHECK(zt_reader_count(written) == SAMPLE_COUNT);
    CHECK_STATUS(zt_reader_verify(written, NULL, NULL), ZT_OK);
    zt_reader_free(written);
    CHECK(remove("forked.zt") == 0);

    CHECK_STATUS(zt_writer_create_memory(0, 2, NULL, &writer), ZT_OK);
    CHECK_STATUS(sample_add(writer, 0, 1), ZT_OK);
    in_child(finish_in_child, writer);
    CHECK_STATUS(zt_writer_finish_memory(writer, &file), ZT_OK);
    zt_buffer_free(file);
    zt_writer_free(writer);
}

enum { ADDED = 200 };

static void *add_many(void *own) {
    ZtWriter *writer = *(ZtWriter **)own;
    uint64_t shape[] = {2};
    int i;
    for (i = 0; i < ADDED; i++) {
        /* The address of a thread's own pointer tells its tensors from those of others. */
        uint64_t data[2];
        char name[40];
        ZtComponentSpec part;
        ZtTensorSpec spec;
        data[0] = data[1] = (uint64_t)(uintptr_t)own + (uint64_t)i;
        memset(&part, 0, sizeof part);
        part.data = data;
        part.len = sizeof data;
        part.dtype = ZT_UINT64;
        memset(&spec, 0, sizeof spec);
        spec.name = name;
        spec.name_len = (size_t)snprintf(name, sizeof name, "%llu", (unsigned long long)data[0]);
        spec.shape = shape;
        spec.ndim = 1;
        spec.components = &part;
        spec.component_count = 1;
        spec.dtype = ZT_UINT64;
        spec.layout = ZT_DENSE;
        if (zt_writer_add(writer, &spec, 1) != ZT_OK) {
            return own;
        }
    }
    return NULL;
}

static void test_threads_that_write_one_file(void) {
    pthread_t threads[THREADS];
    /* Far enough apart for the names. */
    ZtWriter *writers[THREADS * ADDED], *writer = NULL;
    const ZtTensor *tensors = NULL;
    size_t count = 0, i;
    void *problem;
    CHECK_STATUS(zt_writer_create("threads.zt", ZT_FSYNC_NEVER, 1, NULL, &writer), ZT_OK);
    for (i = 0; i < THREADS; i++) {
        writers[i * ADDED] = writer;
        CHECK(pthread_create(&threads[i], NULL, add_many, &writers[i * ADDED]) == 0);
    }
    for (i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], &problem) == 0);
        CHECK(problem == NULL);
    }
    CHECK_STATUS(zt_writer_finish(writer), ZT_OK);
    zt_writer_free(writer);

    CHECK_STATUS(zt_reader_open("threads.zt", ZT_READ_MMAP, 1, &reader), ZT_OK);
    CHECK_STATUS(zt_reader_tensors(reader, &tensors, &count), ZT_OK);
    CHECK(count == (size_t)THREADS * ADDED);
    for (i = 0; i < count; i++) {
        ZtBuffer *found = NULL;
        CHECK_STATUS(zt_reader_read(reader, i, 0, ZT_VERIFY_ON, &found), ZT_OK);
        CHECK(*(const uint64_t *)zt_buffer_data(found) == strtoull(tensors[i].name, NULL, 10));
        zt_buffer_free(found);
    }
    zt_reader_free(reader);
    CHECK(remove("threads.zt") == 0);
}

int main(void) {
    static const uint32_t modes[] = {ZT_READ_MMAP, ZT_READ_OWNED};
    const char *seconds = getenv("ZTENSOR_SOAK_SECONDS");
    ZtBuffer *bytes = sample_file(0);
    FILE *file = fopen("threads.zt", "wb");
    size_t i;
    CHECK(bytes != NULL && file != NULL);
    CHECK(fwrite(zt_buffer_data(bytes), 1, zt_buffer_len(bytes), file) == zt_buffer_len(bytes));
    CHECK(fclose(file) == 0);
    zt_buffer_free(bytes);
    for (i = 0; i < LENGTH_OF(modes); i++) {
        CHECK_STATUS(zt_reader_open("threads.zt", modes[i], 2, &reader), ZT_OK);
        CHECK(read_all() == 0);
        end = seconds != NULL ? time(NULL) + atol(seconds) / 2 : 0;
        test_threads();
        test_fork(0);
        zt_reader_free(reader);
    }
    CHECK(remove("threads.zt") == 0);
    test_threads_that_write_one_file();
    test_fork_while_writing();
    return check_report("test_threads");
}
