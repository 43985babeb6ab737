/* See statement.h. */
#include "jobs/statement.h"

int
statement_prepare(struct rota_job *job, sqlite3 *db, const char *text,
                  sqlite3_stmt **ret_statement)
{
    const char *queue = rota_instance(rota_job_rota(job));
    int code = sqlite3_prepare_v2(db, text, -1, ret_statement, NULL);

    if (code != SQLITE_OK)
        return code;
    (void)sqlite3_bind_text(*ret_statement, 1, queue, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(*ret_statement, 2, rota_job_id(job));
    return SQLITE_OK;
}
