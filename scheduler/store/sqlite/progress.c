/*
 * How far a run has got, and that it has started. Guarded by (id, lease): a run
 * that lost its job writes nothing. One thread at a time, inside a transaction.
 */
#include "base/base.h"
#include "store/sqlite/sqlite.h"

/* advanced: the cursor has risen in this run; it decides whether its deaths
 * count together (outcome.h) */
STATEMENT(RECORD_PROGRESS) = {
    "INSERT INTO _progress SELECT id, lease, ?3, ?4, ?5, ?6, ?7, ?3 > 0"
    " FROM _running WHERE id = ?1 AND lease = ?2"
    " ON CONFLICT(id) DO UPDATE SET"
    " advanced = (lease = excluded.lease AND advanced)"
    "  OR excluded.cursor > cursor,"
    " lease = excluded.lease, cursor = excluded.cursor,"
    " total = excluded.total, base = excluded.base,"
    " base_at = excluded.base_at, updated_at = excluded.updated_at"};
STATEMENT(RECORD_START) = {"UPDATE _running SET started_at = ?3,"
                           " stuck_since = nullif(?4, 0)"
                           " WHERE id = ?1 AND lease = ?2"
                           " AND (started_at IS NULL OR ?4 > 0)"};

enum rota_error
progress_record(struct sqlite_store *store, const struct progress *progress)
{
    struct stmt stmt = stmt_of(&store->connection, &RECORD_PROGRESS);
    enum rota_error error;
    int64_t changed = 0;

    (void)sqlite3_bind_int64(stmt.s, 1, progress->id);
    (void)sqlite3_bind_int64(stmt.s, 2, progress->lease);
    (void)sqlite3_bind_int64(stmt.s, 3, progress->cursor);
    if (progress->total >= 0)
        (void)sqlite3_bind_int64(stmt.s, 4, progress->total);
    else
        (void)sqlite3_bind_null(stmt.s, 4);
    (void)sqlite3_bind_int64(stmt.s, 5, progress->base);
    (void)sqlite3_bind_int64(stmt.s, 6, progress->base_at);
    (void)sqlite3_bind_int64(stmt.s, 7, store->now);
    error = stmt_run(&stmt, &changed);
    if (error == ROTA_OK && changed == 0) {
        message_set("a later run of job %jd has taken over",
                    (intmax_t)progress->id);
        return ROTA_LOST;
    }
    return error == ROTA_OK
               ? RUN(store, RECORD_START, NULL, progress->id, progress->lease,
                     progress->started_at, progress->stuck_since)
               : error;
}
