/* What happens where memory ends: functions whose memory follows the file or the number of tensors are called by children
 * that may have ever less of it. Each answers ZT_OK or ZT_ERR_MEMORY, and no child is ended by the library. The file goes to
 * the directory in which the program runs. */

#if !defined(_GNU_SOURCE) /* C++ compilers on Linux define it */
#define _GNU_SOURCE
#endif

#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__linux__) && defined(__GLIBC__)
#include <malloc.h>

enum { COUNT = 100000, NAME_LEN = 24, STEPS = 48, STEP = (2 << 20) + 4096 };

static const char path[] = "many.zt";
static ZtReader *mapped, *owned;
static ZtWriter *filled;
static ZtTensorSpec *specs;
static const uint64_t shape = 2;
static const float values[2] = {1, 2};

/* ---------------------------------------------------------------- what is called */

static ZtStatus open_mapped(void) {
    ZtReader *reader = NULL;
    return zt_reader_open(path, ZT_READ_MMAP, 1, &reader);
}

static ZtStatus open_owned(void) {
    ZtReader *reader = NULL;
    return zt_reader_open(path, ZT_READ_OWNED, 1, &reader);
}

static ZtStatus describe(void) {
    const ZtTensor *tensors;
    size_t count;
    return zt_reader_tensors(mapped, &tensors, &count);
}

static ZtStatus shares(void) {
    const uint64_t *shares;
    size_t count;
    return zt_reader_shares(mapped, &shares, &count);
}

static ZtStatus metadata(void) {
    ZtBuffer *json = NULL;
    return zt_reader_metadata(mapped, &json);
}

static ZtStatus read_mapped(void) {
    ZtBatch *batch = NULL;
    return zt_reader_read_many(mapped, NULL, 0, ZT_VERIFY_ON, &batch);
}

static ZtStatus read_owned(void) {
    ZtBatch *batch = NULL;
    return zt_reader_read_many(owned, NULL, 0, ZT_VERIFY_ON, &batch);
}

static ZtStatus verify(void) {
    return zt_reader_verify(owned, NULL, NULL);
}

static ZtStatus add(void) {
    ZtWriter *writer = NULL;
    ZtStatus status = zt_writer_create_memory(0, 1, NULL, &writer);
    return status ? status : zt_writer_add(writer, specs, COUNT);
}

static ZtStatus finish(void) {
    ZtBuffer *file = NULL;
    return zt_writer_finish_memory(filled, &file);
}

static const struct {
    const char *name;
    ZtStatus (*call)(void);
} calls[] = {{"open, mapped", open_mapped}, {"open, owned", open_owned}, {"tensors", describe},
             {"shares", shares},            {"metadata", metadata},      {"read_many, mapped", read_mapped},
             {"read_many, owned", read_owned}, {"verify", verify},       {"add", add},
             {"finish", finish}};

/* ---------------------------------------------------------------- the file */

static void make_file(void) {
    enum { TEXT_LEN = 4 << 20 };
    static ZtComponentSpec part;
    char *names = (char *)malloc((size_t)COUNT * NAME_LEN), *json = (char *)malloc(TEXT_LEN + 16);
    ZtWriter *writer = NULL;
    size_t i;
    specs = (ZtTensorSpec *)calloc(COUNT, sizeof *specs);
    if (names == NULL || json == NULL || specs == NULL) {
        exit(2);
    }
    part.data = values;
    part.len = sizeof values;
    part.dtype = ZT_FLOAT32;
    for (i = 0; i < COUNT; i++) {
        char *name = names + i * NAME_LEN;
        specs[i].name = name;
        specs[i].name_len = (size_t)snprintf(name, NAME_LEN, "layers.%d.weight", (int)i);
        specs[i].shape = &shape;
        specs[i].ndim = 1;
        specs[i].components = &part;
        specs[i].component_count = 1;
        specs[i].dtype = ZT_FLOAT32;
        specs[i].layout = ZT_DENSE;
    }
    strcpy(json, "{\"text\":\"");
    memset(json + 9, 'x', TEXT_LEN);
    strcpy(json + 9 + TEXT_LEN, "\"}");
    CHECK_STATUS(zt_writer_create(path, ZT_FSYNC_NEVER, 1, json, &writer), ZT_OK);
    CHECK_STATUS(zt_writer_add(writer, specs, COUNT), ZT_OK);
    CHECK_STATUS(zt_writer_finish(writer), ZT_OK);
    zt_writer_free(writer);
    CHECK_STATUS(zt_writer_create_memory(0, 1, NULL, &filled), ZT_OK);
    CHECK_STATUS(zt_writer_add(filled, specs, COUNT), ZT_OK);
    CHECK_STATUS(zt_reader_open(path, ZT_READ_MMAP, 1, &mapped), ZT_OK);
    CHECK_STATUS(zt_reader_open(path, ZT_READ_OWNED, 1, &owned), ZT_OK);
    free(json);
}

/* ---------------------------------------------------------------- memory that ends */

/* Gives the heap room for small blocks, which the library takes for granted, but none for long lists: those are mapped, each
 * by itself. */
static void prepare_heap(void) {
    enum { PIECES = 2000, PIECE = 4096 };
    static void *pieces[PIECES];
    size_t i;
    for (i = 0; i < PIECES; i++) {
        pieces[i] = malloc(PIECE);
        CHECK(malloc(32) != NULL); /* kept, so that the pieces do not join */
    }
    for (i = 0; i < PIECES; i++) {
        free(pieces[i]);
    }
}

/* Bytes of address space that this process has. */
static rlim_t address_space(void) {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%lu", &pages) != 1) {
        _exit(3);
    }
    fclose(file);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* Calls a function in a child that may have so much more memory. */
static ZtStatus call_within(ZtStatus (*call)(void), size_t more) {
    static volatile ZtStatus *answer;
    int status = 0;
    pid_t child;
    if (answer == NULL) {
        answer = (volatile ZtStatus *)mmap(NULL, sizeof *answer, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    }
    *answer = -1;
    child = fork();
    if (child == 0) {
        struct rlimit limit;
        limit.rlim_cur = limit.rlim_max = address_space() + more;
        if (setrlimit(RLIMIT_AS, &limit) != 0) {
            _exit(3);
        }
        *answer = call();
        _exit(0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return *answer;
}

int main(void) {
    size_t at, step;
    /* From the start, so that what making the file took is given back, and is no room that functions find later. */
    CHECK(mallopt(M_MMAP_THRESHOLD, 16 * 1024) == 1 && mallopt(M_TRIM_THRESHOLD, 1 << 30) == 1);
    make_file();
    prepare_heap();
    for (at = 0; at < sizeof calls / sizeof *calls; at++) {
        int good = 0, refused = 0;
        for (step = 0; step <= STEPS; step++) {
            ZtStatus status = call_within(calls[at].call, step * STEP);
            good += status == ZT_OK;
            refused += status == ZT_ERR_MEMORY;
        }
        printf("%s: %d limits were enough, %d too little, of %d\n", calls[at].name, good, refused, STEPS + 1);
        /* Every limit ended in one or the other, the first in an error, the last in success. */
        CHECK(good > 0 && refused > 0 && good + refused == STEPS + 1);
    }
    zt_reader_free(mapped);
    zt_reader_free(owned);
    zt_writer_free(filled);
    CHECK(remove(path) == 0);
    return check_report("test_memory");
}
#else
int main(void) {
    printf("skipped: the limits are those of Linux and its C library\n");
    return check_report("test_memory");
}
#endif
