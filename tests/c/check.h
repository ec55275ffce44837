/* A harness of a few lines for test programs. It is used instead of assert(), which vanishes under NDEBUG and ends
 * the program at the first failure. */
#ifndef ZT_CHECK_H
#define ZT_CHECK_H

#include <stdio.h>

#include "ztensor.h"

static int checks_passed, checks_failed;

/* Counts one check; prints it if it failed. */
static inline void check(int holds, const char *what, const char *file, int line) {
    if (holds) {
        checks_passed++;
    } else {
        checks_failed++;
        printf("%s:%d: failed: %s\n", file, line, what);
    }
}

/* Counts one check of a status; prints both statuses and the library's message if it failed. */
static inline void check_status(ZtStatus found, ZtStatus wanted, const char *call, const char *file, int line) {
    const char *name = zt_status_name(found);
    check(found == wanted, call, file, line);
    if (found != wanted) {
        printf("    status %d (%s) instead of %d; last message: %s\n", (int)found, name ? name : "unknown",
               (int)wanted, zt_last_error_message());
    }
}

/* The expression must be true. */
#define CHECK(expression) check((expression) ? 1 : 0, #expression, __FILE__, __LINE__)
/* The call must return this status. */
#define CHECK_STATUS(call, wanted) check_status((call), (wanted), #call, __FILE__, __LINE__)

/* The last line of main: `return check_report("name");` */
static inline int check_report(const char *program) {
    printf("%s: %d checks passed, %d failed\n", program, checks_passed, checks_failed);
    return checks_failed == 0 ? 0 : 1;
}

#endif
