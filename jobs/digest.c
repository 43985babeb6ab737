/* See digest.h. */
#include "jobs/digest.h"

#include <xxhash.h>

#include "jobs/statement.h"

uint64_t
digest_add(uint64_t digest, const void *data, size_t size)
{
    return XXH3_64bits_withSeed(data, size, digest);
}

int
digest_keep(struct rota_job *job, sqlite3 *db, uint64_t digest)
{
    sqlite3_stmt *statement;
    int code;

    code = sqlite3_exec(db,
                        "CREATE TABLE IF NOT EXISTS main._rota_read(queue TEXT,"
                        " job INTEGER, digest INTEGER,"
                        " PRIMARY KEY(queue, job)) WITHOUT ROWID",
                        NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = statement_prepare(
            job, db,
            "INSERT OR REPLACE INTO main._rota_read VALUES(?1, ?2, ?3)",
            &statement);
    if (code != SQLITE_OK)
        return code;
    (void)sqlite3_bind_int64(statement, 3, (sqlite3_int64)digest);
    (void)sqlite3_step(statement);
    return sqlite3_finalize(statement);
}

bool
digest_differs(struct rota_job *job, sqlite3 *db, uint64_t digest)
{
    sqlite3_stmt *statement;
    bool differs;

    /* no such table: nobody has been here */
    if (statement_prepare(job, db,
                          "SELECT digest FROM main._rota_read"
                          " WHERE queue = ?1 AND job = ?2",
                          &statement) != SQLITE_OK)
        return false;
    differs = sqlite3_step(statement) == SQLITE_ROW &&
              sqlite3_column_int64(statement, 0) != (sqlite3_int64)digest;
    (void)sqlite3_finalize(statement);
    return differs;
}
