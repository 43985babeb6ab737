/*
 * What SQLite's failures mean (sqlite_error.h). Any thread that has the
 * connection; no state.
 */
#define _GNU_SOURCE
#include "base/sqlite_error.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum rota_error
error_of_sqlite(int code)
{
    switch (code & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return ROTA_OK;
    case SQLITE_NOMEM:
        return ROTA_NOMEM;
    case SQLITE_FULL:
        return ROTA_FULL;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
        return ROTA_BUSY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return ROTA_CORRUPT;
    default:
        return ROTA_STORE;
    }
}

/* Whether it is a reason for not writing, and not what came of tidying up
 * after the failure, which takes its place. */
static bool
is_reason(int reason)
{
    switch (reason) {
    case EDQUOT:
    case EFBIG:
    case EIO:
    case EMFILE:
    case ENFILE:
    case ENOSPC:
    case EROFS:
        return true;
    default:
        return false;
    }
}

/* The last one that the log, or the journal, met, else the file itself. */
static int
reason_of_files(sqlite3 *db)
{
    sqlite3_file *journal = NULL;
    int reason = 0;

    (void)sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER,
                               &journal);
    if (journal != NULL && journal->pMethods != NULL)
        (void)journal->pMethods->xFileControl(journal, SQLITE_FCNTL_LAST_ERRNO,
                                              &reason);
    if (reason == 0)
        (void)sqlite3_file_control(db, "main", SQLITE_FCNTL_LAST_ERRNO,
                                   &reason);
    return reason;
}

/* The system's reason for SQLite's failure; 0: none is known. */
static int
reason_of(sqlite3 *db, int code)
{
    int reason = 0;

    if ((code & 0xff) == SQLITE_CANTOPEN)
        return sqlite3_system_errno(db);
    if ((code & 0xff) != SQLITE_IOERR)
        return 0;
    reason = sqlite3_system_errno(db);
    if (!is_reason(reason))
        reason = reason_of_files(db);
    return is_reason(reason) ? reason : 0;
}

/* What a process may make of a file, in words; "": anything. */
static void
file_limit(char text[64])
{
    struct rlimit limit;

    text[0] = '\0';
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        (void)snprintf(text, 64, ", beyond the %ju bytes of ulimit -f",
                       (uintmax_t)limit.rlim_cur);
}

enum rota_error
error_of_connection(sqlite3 *db, int code, char *text, size_t size)
{
    int reason = reason_of(db, code);
    char limit[64] = "";

    if (reason == EFBIG)
        file_limit(limit);
    (void)snprintf(text, size, "%s%s%s%s (SQLite %d)", sqlite3_errmsg(db),
                   reason != 0 ? ": " : "", reason != 0 ? strerror(reason) : "",
                   limit, code);
    if (reason == ENOSPC || reason == EDQUOT || reason == EFBIG)
        return ROTA_FULL;
    return error_of_sqlite(code);
}
