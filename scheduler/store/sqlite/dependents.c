/*
 * What a job's end, or its return, means to others:
 *
 *   blocked   -> ready | scheduled   the last job that it waited for succeeded
 *   blocked   -> cancelled           one that it waited for did not: skipped
 *   cancelled -> blocked             skipped for one that has been retried
 *   any       -> cancelled           its parent was cancelled
 *
 * A trigger (schema_commands.c) leaves a row in _settle for the job; here its
 * dependents or children are gone through in the order of their ids, some at a
 * time, and what is done to them may leave further rows. What is done depends
 * on where the job stands by then, not on what happened to it: so doing it
 * twice, or late, changes nothing.
 *
 * One thread at a time, inside a transaction.
 */
#include <stdio.h>

#include "base/base.h"
#include "store/sqlite/schema.h"
#include "store/sqlite/sqlite.h"

/* At most so many are read at a time. */
#define CHUNK 256

/* -- Whom a row of _settle concerns --------------------------------------- */

STATEMENT(NEXT_SETTLE) = {
    "SELECT s.job, s.what, s.last,"
    " (SELECT state FROM _done d WHERE d.id = s.job),"
    " (SELECT cancel_at FROM _running r WHERE r.id = s.job)"
    " FROM _settle s LIMIT 1"};
enum { SETTLE_JOB, SETTLE_WHAT, SETTLE_LAST, SETTLE_STATE, SETTLE_CANCEL_AT };
STATEMENT(SETTLE_FURTHER) = {"UPDATE _settle SET last = ?3"
                             " WHERE job = ?1 AND what = ?2"};
STATEMENT(SETTLE_OVER) = {"DELETE FROM _settle WHERE job = ?1 AND what = ?2"};
STATEMENT(AWAITING_JOBS) = {"SELECT child FROM _dep"
                            " WHERE parent = ?1 AND child > ?2"
                            " ORDER BY child LIMIT ?3"};
STATEMENT(CHILDREN_JOBS) = {"SELECT id FROM _job WHERE parent = ?1 AND id > ?2"
                            " ORDER BY id LIMIT ?3"};

/* A row of _settle, and where its job stands. */
struct settling {
    int64_t job, what, last;
    int64_t state; /* of its end; 0: it has not ended */
    bool is_cancelled;
};

static enum rota_error
settling_read(struct sqlite_store *store, struct settling *ret_settling,
              bool *ret_exists)
{
    struct stmt stmt = stmt_of(&store->connection, &NEXT_SETTLE);

    *ret_exists = stmt_next(&stmt);
    if (*ret_exists)
        *ret_settling = (struct settling){
            .job = stmt_integer(&stmt, SETTLE_JOB),
            .what = stmt_integer(&stmt, SETTLE_WHAT),
            .last = stmt_integer(&stmt, SETTLE_LAST),
            .state = stmt_integer_or(&stmt, SETTLE_STATE, 0),
            .is_cancelled =
                stmt_integer_or(&stmt, SETTLE_STATE, 0) == ROTA_CANCELLED ||
                sqlite3_column_type(stmt.s, SETTLE_CANCEL_AT) != SQLITE_NULL};
    return stmt_end(&stmt);
}

/* The ids of the next ones that it concerns. */
static enum rota_error
settling_next(struct sqlite_store *store, const struct settling *settling,
              size_t limit, int64_t *ids, size_t *ret_n)
{
    struct stmt stmt = stmt_of(
        &store->connection,
        settling->what == SETTLE_AWAITING ? &AWAITING_JOBS : &CHILDREN_JOBS);
    size_t n = 0;

    (void)sqlite3_bind_int64(stmt.s, 1, settling->job);
    (void)sqlite3_bind_int64(stmt.s, 2, settling->last);
    (void)sqlite3_bind_int64(stmt.s, 3, (int64_t)limit);
    while (stmt_next(&stmt))
        ids[n++] = stmt_integer(&stmt, 0);
    *ret_n = n;
    return stmt_end(&stmt);
}

/* -- What is done to each ------------------------------------------------- */

STATEMENT(MEET_DEP) = {"UPDATE _dep SET met = 1"
                       " WHERE parent = ?1 AND child = ?2"};
STATEMENT(UNBLOCK) = {"DELETE FROM _blocked WHERE id = ?1 AND NOT EXISTS"
                      " (SELECT 1 FROM _dep WHERE child = ?1 AND met = 0)"};
STATEMENT(SKIP_JOB) = {
    "INSERT INTO _done(id, state, lease, attempt, finished_at, code, cause,"
    "  skipped_by) SELECT j.id, " STATE_CANCELLED ", j.lease, j.failures, ?3,"
    " 1, 'job ' || ?2 || ', which it waits for, ' || CASE d.state"
    "  WHEN " STATE_FAILED " THEN 'failed' ELSE 'was cancelled' END, ?2"
    " FROM _job j, _done d WHERE j.id = ?1 AND d.id = ?2"};
_Static_assert(ROTA_CANCELED == 1, "as written above");
STATEMENT(WAS_SKIPPED) = {"SELECT j.run_at, j.sort_key FROM _done d"
                          " JOIN _job j ON j.id = d.id WHERE d.id = ?1"
                          " AND d.skipped_by = ?2 AND NOT EXISTS (SELECT 1"
                          "  FROM _unique u WHERE u.key = j.unique_key)"};
enum { SKIPPED_RUN_AT, SKIPPED_SORT_KEY };
STATEMENT(KEEP_TIME) = {"UPDATE _job SET run_at = ?2, sort_key = ?3"
                        " WHERE id = ?1 AND EXISTS (SELECT 1 FROM _blocked"
                        "  WHERE id = ?1)"};

/* The job that id waited for has succeeded. */
static enum rota_error
meet(struct sqlite_store *store, int64_t job, int64_t id)
{
    enum rota_error error = RUN_ONE(store, MEET_DEP, job, id);
    int64_t changed = 0;

    if (error == ROTA_OK)
        error = RUN(store, UNBLOCK, &changed, id);
    return error == ROTA_OK && changed > 0 ? job_line_up(store, id, false)
                                           : error;
}

static enum rota_error
skip(struct sqlite_store *store, int64_t job, int64_t id)
{
    bool was_blocked = false;
    enum rota_error error = job_leave_blocked(store, id, &was_blocked);

    if (error != ROTA_OK || !was_blocked)
        return error;
    error = RUN_ONE(store, SKIP_JOB, id, job, store->now);
    return error == ROTA_OK ? end_tell(store, id, ROTA_CANCELLED) : error;
}

/* id was skipped for job, which has been retried: unless another job has taken
 * its unique key, it waits again; or is skipped for another one. */
static enum rota_error
revive(struct sqlite_store *store, int64_t job, int64_t id)
{
    struct stmt stmt = stmt_of(&store->connection, &WAS_SKIPPED);
    int64_t run_at = 0, sort_key = 0;
    enum rota_error error;
    bool was_skipped;

    (void)sqlite3_bind_int64(stmt.s, 1, id);
    (void)sqlite3_bind_int64(stmt.s, 2, job);
    was_skipped = stmt_next(&stmt);
    if (was_skipped) {
        run_at = stmt_integer(&stmt, SKIPPED_RUN_AT);
        sort_key = stmt_integer(&stmt, SKIPPED_SORT_KEY);
    }
    error = stmt_end(&stmt);
    if (error != ROTA_OK || !was_skipped)
        return error;
    error = retry_do(store, id, false);
    /* if it waits again, with its time and place in line as before */
    return error == ROTA_OK ? RUN(store, KEEP_TIME, NULL, id, run_at, sort_key)
                            : error;
}

static enum rota_error
cancel_child(struct sqlite_store *store, const struct settling *settling,
             int64_t id)
{
    enum rota_cancel_answer answer;
    char reason[64];

    (void)snprintf(reason, sizeof(reason), "its parent, job %jd, was cancelled",
                   (intmax_t)settling->job);
    return command_cancel(store, id, reason, &answer);
}

static enum rota_error
tell(struct sqlite_store *store, const struct settling *settling, int64_t id)
{
    if (settling->what == SETTLE_CHILDREN)
        return settling->is_cancelled ? cancel_child(store, settling, id)
                                      : ROTA_OK;
    /* it may have been skipped for an earlier end of the job, and not been
     * revived before this one */
    if (settling->state == ROTA_SUCCEEDED) {
        enum rota_error error = revive(store, settling->job, id);

        return error == ROTA_OK ? meet(store, settling->job, id) : error;
    }
    return settling->state != 0 ? skip(store, settling->job, id)
                                : revive(store, settling->job, id);
}

/* -- Settle --------------------------------------------------------------- */

/* One row, as far as limit goes. */
static enum rota_error
settling_do(struct sqlite_store *store, const struct settling *settling,
            size_t limit, size_t *ret_n)
{
    int64_t ids[CHUNK];
    enum rota_error error;

    if (limit > CHUNK)
        limit = CHUNK;
    error = settling_next(store, settling, limit, ids, ret_n);
    for (size_t i = 0; error == ROTA_OK && i < *ret_n; i++)
        error = tell(store, settling, ids[i]);
    if (error != ROTA_OK)
        return error;
    return *ret_n < limit
               ? RUN_ONE(store, SETTLE_OVER, settling->job, settling->what)
               : RUN_ONE(store, SETTLE_FURTHER, settling->job, settling->what,
                         ids[*ret_n - 1]);
}

enum rota_error
dependents_settle(struct sqlite_store *store, size_t limit, bool *ret_more)
{
    struct settling settling;
    enum rota_error error;
    bool exists = false;
    size_t n;

    *ret_more = false;
    for (;;) {
        error = settling_read(store, &settling, &exists);
        if (error != ROTA_OK || !exists)
            return error;
        if (limit == 0) {
            *ret_more = true;
            return ROTA_OK;
        }
        error = settling_do(store, &settling, limit, &n);
        if (error != ROTA_OK)
            return error;
        /* a row without anybody counts too: there may be many */
        limit -= n < limit ? n + (n == 0) : limit;
    }
}
