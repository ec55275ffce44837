/* Where the bytes go, on Linux: a raw tensor of 1 GiB is viewed without being read, and a compressed one is decoded straight
 * into memory of the caller. Seen in addresses and in resident memory, as /proc/self tells them.
 *
 *     test_zero_copy FOLDER     the folder has to have 1.3 GB free, or the test is skipped */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)
#define RAW_LEN (1024 * MIB)
#define PACKED_LEN (256 * MIB)
#define NEEDED (RAW_LEN + PACKED_LEN + 20 * MIB)

/* A field of /proc/self/status, in bytes. */
static size_t memory(const char *field) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    size_t kib = 0;
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, field, strlen(field)) == 0) {
            kib = strtoul(line + strlen(field) + 1, NULL, 10);
        }
    }
    if (file) {
        fclose(file);
    }
    return kib * KIB;
}

/* Sets the peak of resident memory to what is resident now. */
static void reset_peak(void) {
    FILE *file = fopen("/proc/self/clear_refs", "w");
    CHECK(file != NULL);
    if (file) {
        fputs("5", file);
        fclose(file);
    }
}

/* The mapping that an address lies in. */
typedef struct {
    size_t start, end, rss;
    unsigned long inode;
    char mode[5];
} Mapping;

static Mapping mapping_of(const void *address) {
    FILE *file = fopen("/proc/self/smaps", "r");
    Mapping found, line_of;
    char line[512];
    int is_it = 0;
    memset(&found, 0, sizeof found);
    while (file && fgets(line, sizeof line, file)) {
        size_t rss;
        if (sscanf(line, "%zx-%zx %4s %*x %*s %lu", &line_of.start, &line_of.end, line_of.mode, &line_of.inode) == 4) {
            is_it = line_of.start <= (size_t)address && (size_t)address < line_of.end;
            if (is_it) {
                line_of.rss = 0;
                found = line_of;
            }
        } else if (is_it && sscanf(line, "Rss: %zu kB", &rss) == 1) {
            found.rss = rss * KIB;
        }
    }
    if (file) {
        fclose(file);
    }
    return found;
}

static void add(ZtWriter *writer, const char *name, const void *data, size_t len, int32_t level) {
    uint64_t shape = len;
    ZtComponentSpec part;
    ZtTensorSpec spec;
    memset(&part, 0, sizeof part);
    memset(&spec, 0, sizeof spec);
    part.data = data;
    part.len = len;
    part.dtype = spec.dtype = ZT_UINT8;
    spec.name = name;
    spec.name_len = strlen(name);
    spec.shape = &shape;
    spec.ndim = 1;
    spec.layout = ZT_DENSE;
    spec.components = &part;
    spec.component_count = 1;
    spec.level = level;
    CHECK_STATUS(zt_writer_add(writer, &spec, 1), ZT_OK);
}

/* The elements of the compressed tensor: they compress well, and no two blocks of memory are the same by accident. */
static void fill(uint64_t *data) {
    size_t i;
    for (i = 0; i < PACKED_LEN / sizeof *data; i++) {
        data[i] = i / 512;
    }
}

static void write_file(const char *path) {
    ZtWriter *writer = NULL;
    /* Zeros that take no memory: pages of a read-only mapping that nobody wrote to. */
    void *zeros = mmap(NULL, RAW_LEN, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint64_t *data = (uint64_t *)malloc(PACKED_LEN);
    CHECK(zeros != MAP_FAILED && data != NULL);
    fill(data);
    CHECK_STATUS(zt_writer_create(path, ZT_FSYNC_NEVER, 0, NULL, &writer), ZT_OK);
    add(writer, "raw", zeros, RAW_LEN, 0);
    add(writer, "packed", data, PACKED_LEN, 1);
    CHECK_STATUS(zt_writer_finish(writer), ZT_OK);
    zt_writer_free(writer);
    free(data);
    munmap(zeros, RAW_LEN);
}

static void test_view(const ZtReader *reader, unsigned long inode) {
    ZtBuffer *buffer = NULL;
    unsigned char *data;
    Mapping mapping;
    size_t before, rise;
    reset_peak();
    before = memory("VmRSS");
    CHECK_STATUS(zt_reader_read(reader, 0, 0, ZT_VERIFY_OFF, &buffer), ZT_OK);
    rise = memory("VmHWM") - before;
    printf("viewing 1 GiB raised resident memory by %zu KiB\n", rise / KIB);
    CHECK(rise < MIB);

    /* All of it lies in one mapping of the file, and none of it is here yet. */
    data = (unsigned char *)zt_buffer_data(buffer);
    CHECK(zt_buffer_len(buffer) == RAW_LEN);
    mapping = mapping_of(data);
    CHECK(mapping.inode == inode);
    CHECK(strcmp(mapping.mode, "rw-p") == 0);
    CHECK(mapping.start <= (size_t)data && (size_t)data + RAW_LEN <= mapping.end);
    CHECK(mapping.rss < MIB);

    /* A byte brings in its surroundings, and a write makes a copy of one page. */
    CHECK(data[RAW_LEN / 2] == 0);
    data[RAW_LEN - 1] = 1;
    mapping = mapping_of(data);
    CHECK(mapping.rss > 0 && mapping.rss < 8 * MIB);
    zt_buffer_free(buffer);
    CHECK(mapping_of(data).inode != inode || mapping_of(data).mode[1] != 'w');
}

static void test_read_into(const ZtReader *reader) {
    unsigned char *data = (unsigned char *)malloc(PACKED_LEN);
    uint64_t *wanted = (uint64_t *)malloc(PACKED_LEN);
    ZtTarget target;
    size_t before, rise;
    CHECK(data != NULL && wanted != NULL);
    fill(wanted);
    memset(data, 0xaa, PACKED_LEN);
    target.tensor = 1;
    target.component = 0;
    target.data = data;
    target.len = PACKED_LEN;
    /* With four threads at the most, each of which holds a chunk or two. */
    reset_peak();
    before = memory("VmRSS");
    CHECK_STATUS(zt_reader_read_into(reader, &target, 1, ZT_VERIFY_OFF), ZT_OK);
    rise = memory("VmHWM") - before;
    printf("decoding 256 MiB into the caller's memory raised the peak by %zu KiB\n", rise / KIB);
    CHECK(rise < 32 * MIB);
    CHECK(memcmp(data, wanted, PACKED_LEN) == 0);
    /* And a part of it, to a place in the middle. */
    memset(data, 0xaa, PACKED_LEN);
    CHECK_STATUS(zt_reader_read_range_into(reader, 1, 0, MIB + 1, MIB, ZT_VERIFY_OFF, data + 64, MIB), ZT_OK);
    CHECK(memcmp(data + 64, (unsigned char *)wanted + MIB + 1, MIB) == 0);
    CHECK(data[63] == 0xaa && data[64 + MIB] == 0xaa);
    free(wanted);
    free(data);
}

int main(int argc, char **argv) {
    char path[4096];
    struct statvfs space;
    struct stat about;
    ZtReader *reader = NULL;
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    if (statvfs(argv[1], &space) != 0 || (uint64_t)space.f_bavail * space.f_frsize < NEEDED) {
        printf("test_zero_copy: skipped, %s has no %zu MiB free\n", argv[1], (size_t)(NEEDED / MIB));
        return 0;
    }
    snprintf(path, sizeof path, "%s/zero-copy.zt", argv[1]);
    write_file(path);
    CHECK(stat(path, &about) == 0 && (size_t)about.st_size > RAW_LEN && (size_t)about.st_size < RAW_LEN + PACKED_LEN / 4);
    CHECK_STATUS(zt_reader_open(path, ZT_READ_MMAP, 4, &reader), ZT_OK);
    if (checks_failed == 0) {
        test_view(reader, (unsigned long)about.st_ino);
        test_read_into(reader);
    }
    zt_reader_free(reader);
    CHECK(remove(path) == 0);
    return check_report("test_zero_copy");
}
