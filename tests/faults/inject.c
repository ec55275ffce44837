/* A library that is loaded before all others (LD_PRELOAD) and makes calls of the system fail. tests/faults/main.rs
 * says where and how:
 *
 *   ZT_FAULT_DIRECTORY  only calls count that work on files below this directory
 *   ZT_FAULT_KIND       ENOSPC, EIO or EINTR: the call fails so; `short`: it transfers half of what it is asked for;
 *                       `full`: every call that writes fails with ENOSPC from there on; `rewrite`, `truncate`: the file
 *                       ZT_FAULT_VICTIM is overwritten with ZT_FAULT_OTHER, or cut in half, before the call; `none`: no
 *                       call fails, and all are logged
 *   ZT_FAULT_AT         the number of the call, from 1; 0 for every other one
 *   ZT_FAULT_NAMED      if set, no file without a name can be created (O_TMPFILE), as on NFS and FUSE filesystems
 *   ZT_FAULT_REFUSE     calls that always fail: `rename`, `linkat`, `fchmod`, `flock`, `ftruncate`, and `fsync` of a directory
 *   ZT_FAULT_LOG        the name of each call that was made to fail is appended here, one a line
 *
 * Calls by other names for the same thing count too, so that no other way of writing goes unseen. fcntl and mmap are left
 * out: they wait for nothing, and on a plain file they do not fail. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The function of this name that would have been called. */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

enum { READS = 1, WRITES = 2, OTHERS = 4 };
enum { PASSES = 0, IS_SHORT = -1 };

static unsigned long calls;

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value == NULL ? "" : value;
}

static int is_kind(const char *kind) {
    return strcmp(setting("ZT_FAULT_KIND"), kind) == 0;
}

static int is_below(const char *path) {
    const char *directory = setting("ZT_FAULT_DIRECTORY");
    size_t len = strlen(directory);
    return len > 0 && strncmp(path, directory, len) == 0;
}

static int fd_is_below(int fd) {
    char link[64], path[PATH_MAX];
    ssize_t len;
    if (fd < 0) {
        return 0;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    len = REAL(readlink)(link, path, sizeof path - 1);
    if (len < 0) {
        return 0;
    }
    path[len] = 0;
    return is_below(path);
}

/* Whether the filesystem lacks a call. */
static int is_refused(const char *call) {
    return strstr(setting("ZT_FAULT_REFUSE"), call) != NULL;
}

static void log_call(const char *call) {
    char line[64];
    int fd = REAL(open)(setting("ZT_FAULT_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    int len = snprintf(line, sizeof line, "%s\n", call);
    if (fd < 0 || REAL(write)(fd, line, (size_t)len) != len) {
        abort();
    }
    REAL(close)(fd);
}

/* Does to the victim what a process beside this one could do at this moment. */
static void change_victim(void) {
    int victim = REAL(open)(setting("ZT_FAULT_VICTIM"), O_WRONLY);
    struct stat status;
    if (victim < 0 || REAL(fstat)(victim, &status) != 0) {
        abort();
    }
    if (is_kind("truncate")) {
        if (REAL(ftruncate)(victim, status.st_size / 2) != 0) {
            abort();
        }
    } else {
        size_t size = (size_t)status.st_size;
        char *bytes = malloc(size);
        int other = REAL(open)(setting("ZT_FAULT_OTHER"), O_RDONLY);
        if (bytes == NULL || REAL(pread)(other, bytes, size, 0) != status.st_size ||
            REAL(pwrite)(victim, bytes, size, 0) != status.st_size) {
            abort();
        }
        REAL(close)(other);
        free(bytes);
    }
    REAL(close)(victim);
}

/* Whether a call fails: PASSES, IS_SHORT, or the number of the error. */
static int judge(const char *call, int sort, size_t len) {
    unsigned long at = strtoul(setting("ZT_FAULT_AT"), NULL, 10), number;
    int is_change = is_kind("rewrite") || is_kind("truncate");
    int sorts = is_kind("short") ? READS | WRITES : is_kind("full") ? WRITES : is_change ? READS : READS | WRITES | OTHERS;
    if (is_kind("none")) {
        log_call(call);
        return PASSES;
    }
    if ((sort & sorts) == 0 || (is_kind("short") && len < 2)) {
        return PASSES;
    }
    number = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (at == 0 ? number % 2 == 0 : is_kind("full") ? number < at : number != at) {
        return PASSES;
    }
    log_call(call);
    if (is_change) {
        change_victim();
        return PASSES;
    }
    return is_kind("short") ? IS_SHORT : is_kind("EIO") ? EIO : is_kind("EINTR") ? EINTR : ENOSPC;
}

static int judge_fd(const char *call, int fd, int sort, size_t len) {
    return fd_is_below(fd) ? judge(call, sort, len) : PASSES;
}

static int judge_path(const char *call, const char *path) {
    return path != NULL && is_below(path) ? judge(call, OTHERS, 0) : PASSES;
}

#define REFUSE(call, number) \
    do {                     \
        if (is_refused(call)) { \
            errno = number;  \
            return -1;       \
        }                    \
    } while (0)

#define FAIL_IF(judgement)       \
    do {                         \
        int verdict = judgement; \
        if (verdict != PASSES) { \
            errno = verdict;     \
            return -1;           \
        }                        \
    } while (0)

/* ---------------------------------------------------------------- bytes */

#define TRANSFER(name, sort, pointer)                      \
    ssize_t name(int fd, pointer bytes, size_t len) {      \
        int fault = judge_fd(#name, fd, sort, len);        \
        if (fault == IS_SHORT) {                           \
            return REAL(name)(fd, bytes, len / 2);         \
        }                                                  \
        FAIL_IF(fault);                                    \
        return REAL(name)(fd, bytes, len);                 \
    }

#define TRANSFER_AT(name, sort, pointer, offset)                  \
    ssize_t name(int fd, pointer bytes, size_t len, offset at) {  \
        int fault = judge_fd(#name, fd, sort, len);               \
        if (fault == IS_SHORT) {                                  \
            return REAL(name)(fd, bytes, len / 2, at);            \
        }                                                         \
        FAIL_IF(fault);                                           \
        return REAL(name)(fd, bytes, len, at);                    \
    }

/* A short one takes half of the first part. */
#define TRANSFER_PARTS(name, sort)                                                 \
    ssize_t name(int fd, const struct iovec *parts, int count) {                   \
        int fault = judge_fd(#name, fd, sort, count > 0 ? parts[0].iov_len : 0);   \
        if (fault == IS_SHORT) {                                                   \
            struct iovec half = {parts[0].iov_base, parts[0].iov_len / 2};         \
            return REAL(name)(fd, &half, 1);                                       \
        }                                                                          \
        FAIL_IF(fault);                                                            \
        return REAL(name)(fd, parts, count);                                       \
    }

#define TRANSFER_PARTS_AT(name, sort, offset)                                      \
    ssize_t name(int fd, const struct iovec *parts, int count, offset at) {        \
        int fault = judge_fd(#name, fd, sort, count > 0 ? parts[0].iov_len : 0);   \
        if (fault == IS_SHORT) {                                                   \
            struct iovec half = {parts[0].iov_base, parts[0].iov_len / 2};         \
            return REAL(name)(fd, &half, 1, at);                                   \
        }                                                                          \
        FAIL_IF(fault);                                                            \
        return REAL(name)(fd, parts, count, at);                                   \
    }

TRANSFER(read, READS, void *)
TRANSFER(write, WRITES, const void *)
TRANSFER_AT(pread, READS, void *, off_t)
TRANSFER_AT(pread64, READS, void *, off64_t)
TRANSFER_AT(pwrite, WRITES, const void *, off_t)
TRANSFER_AT(pwrite64, WRITES, const void *, off64_t)
TRANSFER_PARTS(readv, READS)
TRANSFER_PARTS(writev, WRITES)
TRANSFER_PARTS_AT(preadv, READS, off_t)
TRANSFER_PARTS_AT(preadv64, READS, off64_t)
TRANSFER_PARTS_AT(pwritev, WRITES, off_t)
TRANSFER_PARTS_AT(pwritev64, WRITES, off64_t)

ssize_t sendfile(int to, int from, off_t *at, size_t len) {
    FAIL_IF(judge_fd("sendfile", to, OTHERS, 0));
    return REAL(sendfile)(to, from, at, len);
}

ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *to_at, size_t len, unsigned flags) {
    FAIL_IF(judge_fd("copy_file_range", to, OTHERS, 0));
    return REAL(copy_file_range)(from, at, to, to_at, len, flags);
}

/* ---------------------------------------------------------------- handles */

#define ON_FD(name, parameters, arguments)              \
    int name parameters {                               \
        FAIL_IF(judge_fd(#name, fd, OTHERS, 0));        \
        return REAL(name) arguments;                    \
    }

int fsync(int fd) {
    struct stat status;
    if (is_refused("fsync") && REAL(fstat)(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
        errno = EINVAL;
        return -1;
    }
    FAIL_IF(judge_fd("fsync", fd, OTHERS, 0));
    return REAL(fsync)(fd);
}

ON_FD(fdatasync, (int fd), (fd))
#define ON_FD_REFUSED(name, call, number, parameters, arguments) \
    int name parameters {                                        \
        REFUSE(call, number);                                    \
        FAIL_IF(judge_fd(#name, fd, OTHERS, 0));                 \
        return REAL(name) arguments;                             \
    }

ON_FD_REFUSED(ftruncate, "ftruncate", ENOSYS, (int fd, off_t len), (fd, len))
ON_FD_REFUSED(ftruncate64, "ftruncate", ENOSYS, (int fd, off64_t len), (fd, len))
ON_FD(fallocate, (int fd, int mode, off_t at, off_t len), (fd, mode, at, len))
ON_FD(fallocate64, (int fd, int mode, off64_t at, off64_t len), (fd, mode, at, len))
ON_FD_REFUSED(fchmod, "fchmod", EPERM, (int fd, mode_t mode), (fd, mode))
ON_FD_REFUSED(flock, "flock", ENOSYS, (int fd, int what), (fd, what))
ON_FD(fstat, (int fd, struct stat *status), (fd, status))
ON_FD(fstat64, (int fd, struct stat64 *status), (fd, status))

off_t lseek(int fd, off_t at, int from) {
    FAIL_IF(judge_fd("lseek", fd, OTHERS, 0));
    return REAL(lseek)(fd, at, from);
}

off64_t lseek64(int fd, off64_t at, int from) {
    FAIL_IF(judge_fd("lseek64", fd, OTHERS, 0));
    return REAL(lseek64)(fd, at, from);
}

/* A close that fails has closed all the same. */
int close(int fd) {
    int fault = judge_fd("close", fd, OTHERS, 0);
    int status = REAL(close)(fd);
    FAIL_IF(fault);
    return status;
}

/* ---------------------------------------------------------------- names */

#define ON_PATH(name, type, path, parameters, arguments) \
    type name parameters {                               \
        FAIL_IF(judge_path(#name, path));                \
        return REAL(name) arguments;                     \
    }

static int judge_unnamed(int flags) {
    return (flags & __O_TMPFILE) != 0 && *setting("ZT_FAULT_NAMED") != 0 ? EOPNOTSUPP : PASSES;
}

#define OPEN(name)                                       \
    int name(const char *path, int flags, ...) {         \
        mode_t mode = 0;                                 \
        if (flags & (O_CREAT | __O_TMPFILE)) {           \
            va_list rest;                                \
            va_start(rest, flags);                       \
            mode = (mode_t)va_arg(rest, int);            \
            va_end(rest);                                \
        }                                                \
        FAIL_IF(judge_path(#name, path));                \
        FAIL_IF(judge_unnamed(flags));                   \
        return REAL(name)(path, flags, mode);            \
    }

#define OPEN_AT(name)                                        \
    int name(int directory, const char *path, int flags, ...) { \
        mode_t mode = 0;                                     \
        if (flags & (O_CREAT | __O_TMPFILE)) {               \
            va_list rest;                                    \
            va_start(rest, flags);                           \
            mode = (mode_t)va_arg(rest, int);                \
            va_end(rest);                                    \
        }                                                    \
        FAIL_IF(judge_path(#name, path));                    \
        return REAL(name)(directory, path, flags, mode);     \
    }

OPEN(open)
OPEN(open64)
OPEN_AT(openat)
OPEN_AT(openat64)
int rename(const char *from, const char *to) {
    REFUSE("rename", ENOSYS);
    FAIL_IF(judge_path("rename", to));
    return REAL(rename)(from, to);
}

ON_PATH(renameat, int, to, (int a, const char *from, int b, const char *to), (a, from, b, to))
ON_PATH(renameat2, int, to, (int a, const char *from, int b, const char *to, unsigned flags), (a, from, b, to, flags))
ON_PATH(link, int, to, (const char *from, const char *to), (from, to))
int linkat(int a, const char *from, int b, const char *to, int flags) {
    REFUSE("linkat", EACCES);
    FAIL_IF(judge_path("linkat", to));
    return REAL(linkat)(a, from, b, to, flags);
}

ON_PATH(unlink, int, path, (const char *path), (path))
ON_PATH(unlinkat, int, path, (int directory, const char *path, int flags), (directory, path, flags))
ON_PATH(stat, int, path, (const char *path, struct stat *status), (path, status))
ON_PATH(stat64, int, path, (const char *path, struct stat64 *status), (path, status))
ON_PATH(lstat, int, path, (const char *path, struct stat *status), (path, status))
ON_PATH(lstat64, int, path, (const char *path, struct stat64 *status), (path, status))
ON_PATH(readlink, ssize_t, path, (const char *path, char *target, size_t len), (path, target, len))

int statx(int directory, const char *path, int flags, unsigned mask, struct statx *status) {
    /* Of a handle, if the path is empty. The compiler is not to know that it is never NULL: the standard library
     * passes that to see whether the call exists. */
    const char *volatile given = path;
    if (given != NULL && *given == 0) {
        FAIL_IF(judge_fd("statx", directory, OTHERS, 0));
    } else {
        FAIL_IF(judge_path("statx", given));
    }
    return REAL(statx)(directory, path, flags, mask, status);
}

/* ---------------------------------------------------------------- calls by number */

static const long of_fd[] = {SYS_read,      SYS_write,    SYS_pread64,   SYS_pwrite64, SYS_readv, SYS_writev,
                             SYS_preadv,    SYS_pwritev,  SYS_preadv2,   SYS_pwritev2, SYS_fsync, SYS_fdatasync,
                             SYS_ftruncate, SYS_fallocate, SYS_sendfile, SYS_close,    SYS_fchmod, SYS_flock,
                             SYS_lseek};

long syscall(long number, ...) {
    long a[6];
    size_t i;
    va_list rest;
    va_start(rest, number);
    for (i = 0; i < 6; i++) {
        a[i] = va_arg(rest, long);
    }
    va_end(rest);
    for (i = 0; i < sizeof of_fd / sizeof of_fd[0]; i++) {
        if (number == of_fd[i]) {
            FAIL_IF(judge_fd("syscall", (int)a[0], OTHERS, 0));
        }
    }
    if (number == SYS_copy_file_range) {
        FAIL_IF(judge_fd("syscall", (int)a[2], OTHERS, 0));
    }
    if (number == SYS_openat || number == SYS_unlinkat) {
        FAIL_IF(judge_path("syscall", (const char *)a[1]));
    }
    if (number == SYS_renameat2 || number == SYS_linkat) {
        FAIL_IF(judge_path("syscall", (const char *)a[3]));
    }
    return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
