/*
 * The moves that time makes, of jobs that wait:
 *
 *   promote  scheduled -> ready                            when it is due
 *   expire   blocked | scheduled | ready | held -> failed  when its deadline
 *                                                          passes
 *
 * One thread at a time, inside a transaction; due_next() on any connection.
 */
#include "base/base.h"
#include "store/sqlite/schema.h"
#include "store/sqlite/sqlite.h"

/* So many of each in one transaction; the statements' LIMIT. */
#define DUE_MAX 1000

/* NULL: nothing is due ever. */
STATEMENT(NEXT_DUE) = {
    "SELECT min(at) FROM (SELECT min(run_at) AS at FROM _scheduled"
    " UNION ALL SELECT min(at) FROM _deadline)"};
STATEMENT(DUE_JOBS) = {"SELECT run_at, id FROM _scheduled WHERE run_at <= ?1"
                       " ORDER BY run_at, id LIMIT " TEXT_OF(DUE_MAX)};
STATEMENT(DUE_DEADLINES) = {"SELECT at, id FROM _deadline WHERE at <= ?1"
                            " ORDER BY at, id LIMIT " TEXT_OF(DUE_MAX)};
enum { DUE_AT, DUE_ID };
STATEMENT(DELETE_SCHEDULED) = {
    "DELETE FROM _scheduled WHERE run_at = ?1 AND id = ?2"};
STATEMENT(DELETE_DEADLINE) = {
    "DELETE FROM _deadline WHERE at = ?1 AND id = ?2"};
/* A deadline that passes between two runs hides nothing of why there was to be
 * another: what the last one that failed, or died, came to is said before. */
STATEMENT(EXPIRE_JOB) = {
    "INSERT INTO _done(id, state, lease, attempt, finished_at, code, cause)"
    " SELECT id, " STATE_FAILED ", lease, failures, ?2, 2,"
    "  iif(failures + crashes > 0, coalesce((SELECT message || '; '"
    "   FROM _attempt WHERE job = id AND outcome IN ('failed', 'crashed')"
    "   ORDER BY lease DESC LIMIT 1), ''), '')"
    "  || 'its deadline passed before it ran' || iif(lease > 0, ' again', '')"
    " FROM _job WHERE id = ?1"};
_Static_assert(ROTA_DEADLINE == 2, "as written above");

struct due {
    int64_t at, id;
};

/* What statement says is due by now. They are read before any is moved: a move
 * changes what the statement walks over. */
static enum rota_error
due_read(struct sqlite_store *store, const struct statement *statement,
         struct due *due, int *ret_n)
{
    struct stmt stmt = stmt_of(&store->connection, statement);

    *ret_n = 0;
    (void)sqlite3_bind_int64(stmt.s, 1, store->now);
    while (stmt_next(&stmt))
        due[(*ret_n)++] = (struct due){stmt_integer(&stmt, DUE_AT),
                                       stmt_integer(&stmt, DUE_ID)};
    return stmt_end(&stmt);
}

enum rota_error
due_expire(struct sqlite_store *store, int64_t id)
{
    enum rota_error error = RUN_ONE(store, EXPIRE_JOB, id, store->now);

    if (error == ROTA_OK)
        error = end_tell(store, id, ROTA_JOB_FAILED);
    return error == ROTA_OK ? key_release_after(store, id) : error;
}

/* What waits beyond its deadline fails. What runs ends by its context. */
static enum rota_error
expire(struct sqlite_store *store, const struct due *due)
{
    enum rota_error error = RUN_ONE(store, DELETE_DEADLINE, due->at, due->id);
    bool has_waited = false;

    if (error == ROTA_OK)
        error = job_leave_line(store, due->id, &has_waited);
    return error == ROTA_OK && has_waited ? due_expire(store, due->id) : error;
}

static enum rota_error
promote(struct sqlite_store *store, const struct due *due)
{
    enum rota_error error = RUN_ONE(store, DELETE_SCHEDULED, due->at, due->id);

    return error == ROTA_OK ? job_make_ready(store, due->id) : error;
}

enum rota_error
due_promote(struct sqlite_store *store, int64_t *ret_next)
{
    struct due due[DUE_MAX];
    enum rota_error error;
    int n;

    error = due_read(store, &DUE_DEADLINES, due, &n);
    for (int i = 0; error == ROTA_OK && i < n; i++)
        error = expire(store, &due[i]);
    if (error == ROTA_OK)
        error = due_read(store, &DUE_JOBS, due, &n);
    for (int i = 0; error == ROTA_OK && i < n; i++)
        error = promote(store, &due[i]);
    return error == ROTA_OK ? due_next(&store->connection, ret_next) : error;
}

enum rota_error
due_next(struct connection *connection, int64_t *ret_next)
{
    struct stmt stmt = stmt_of(connection, &NEXT_DUE);

    *ret_next = INT64_MAX;
    return stmt_number(&stmt, ret_next);
}
