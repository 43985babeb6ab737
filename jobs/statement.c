/* See statement.h. */
#include "jobs/statement.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int
statement_prepare(struct rota_job *job, sqlite3 *db, const char *text,
                  sqlite3_stmt **ret_statement)
{
    const char *queue = rota_job_instance(job);
    int code = sqlite3_prepare_v2(db, text, -1, ret_statement, NULL);

    if (code != SQLITE_OK)
        return code;
    (void)sqlite3_bind_text(*ret_statement, 1, queue, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(*ret_statement, 2, rota_job_id(job));
    return SQLITE_OK;
}

void
statement_says(sqlite3 *db, char *text, size_t size)
{
    bool is_io = (sqlite3_errcode(db) & 0xff) == SQLITE_IOERR;
    int reason = is_io ? sqlite3_system_errno(db) : 0;

    (void)snprintf(text, size, "%s%s%s", sqlite3_errmsg(db),
                   reason == EFBIG || reason == ENOSPC ? ": " : "",
                   reason == EFBIG || reason == ENOSPC ? strerror(reason) : "");
}
