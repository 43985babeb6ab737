/*
 * The SQL commands, for the C calls: the trigger of each does it
 * (schema_commands.c), and here is what it is to be answered. One thread at a
 * time, inside a transaction.
 */
#include <inttypes.h>

#include "base/base.h"
#include "store/sqlite/sqlite.h"

/* -- Where a job is ------------------------------------------------------- */

STATEMENT(WHERE_IS_JOB) = {
    "SELECT (SELECT 1 FROM _job WHERE id = ?1),"
    " (SELECT 1 + (cancel_at IS NOT NULL) FROM _running WHERE id = ?1),"
    " (SELECT state FROM _done WHERE id = ?1),"
    " (SELECT u.job FROM _job j JOIN _unique u ON u.key = j.unique_key"
    "  WHERE j.id = ?1)"};
enum { WHERE_EXISTS, WHERE_RUNNING, WHERE_STATE, WHERE_RIVAL };

struct whereabouts {
    bool is_running, is_cancelled; /* its cancel was asked before */
    int state;                     /* of its end; 0: it has not ended */
    int64_t rival; /* the job that has its unique key; 0: none */
};

/* ROTA_NOTFOUND if it is nowhere. */
static enum rota_error
job_seek(struct sqlite_store *store, int64_t id,
         struct whereabouts *ret_whereabouts)
{
    struct stmt stmt = stmt_of(&store->connection, &WHERE_IS_JOB);
    bool exists = false;
    enum rota_error error;

    (void)sqlite3_bind_int64(stmt.s, 1, id);
    if (stmt_next(&stmt)) {
        exists = stmt_integer_or(&stmt, WHERE_EXISTS, 0) != 0;
        *ret_whereabouts = (struct whereabouts){
            .is_running = stmt_integer_or(&stmt, WHERE_RUNNING, 0) > 0,
            .is_cancelled = stmt_integer_or(&stmt, WHERE_RUNNING, 0) > 1,
            .state = (int)stmt_integer_or(&stmt, WHERE_STATE, 0),
            .rival = stmt_integer_or(&stmt, WHERE_RIVAL, 0)};
    }
    error = stmt_end(&stmt);
    if (error != ROTA_OK || exists)
        return error;
    message_set("there is no job %jd", (intmax_t)id);
    return ROTA_NOTFOUND;
}

/* -- One job -------------------------------------------------------------- */

STATEMENT(COMMAND_CANCEL) = {"INSERT INTO cancel(job, reason) VALUES(?1, ?2)"};
STATEMENT(COMMAND_RETRY) = {"INSERT INTO retry(job, restart) VALUES(?1, ?2)"};
STATEMENT(COMMAND_RESCHEDULE) = {"INSERT INTO reschedule VALUES(?1, ?2, ?3)"};

enum rota_error
command_cancel(struct sqlite_store *store, int64_t id, const char *reason,
               enum rota_cancel_answer *ret_answer)
{
    struct whereabouts job = {0};
    enum rota_error error = job_seek(store, id, &job);
    struct stmt stmt;

    if (error != ROTA_OK)
        return error;
    *ret_answer = job.state != 0     ? ROTA_CANCEL_TOO_LATE
                  : job.is_cancelled ? ROTA_CANCEL_AGAIN
                  : job.is_running   ? ROTA_CANCEL_REQUESTED
                                     : ROTA_CANCEL_DONE;
    if (job.state != 0 || job.is_cancelled)
        return ROTA_OK;
    stmt = stmt_of(&store->connection, &COMMAND_CANCEL);
    (void)sqlite3_bind_int64(stmt.s, 1, id);
    bind_text(stmt.s, 2, reason);
    return stmt_run(&stmt, NULL);
}

enum rota_error
retry_do(struct sqlite_store *store, int64_t id, bool restarts)
{
    return RUN(store, COMMAND_RETRY, NULL, id, restarts);
}

enum rota_error
command_retry(struct sqlite_store *store, int64_t id, bool restarts)
{
    struct whereabouts job = {0};
    enum rota_error error = job_seek(store, id, &job);

    if (error != ROTA_OK)
        return error;
    if (job.state == 0) {
        message_set("job %jd has not ended", (intmax_t)id);
        return ROTA_INVALID;
    }
    if (job.rival != 0) {
        message_set("job %jd has its unique key and has not ended",
                    (intmax_t)job.rival);
        return ROTA_EXISTS;
    }
    store->has_made_ready = true;
    return retry_do(store, id, restarts);
}

static void
bind_optional(sqlite3_stmt *s, int at, const int64_t *value)
{
    if (value == NULL)
        (void)sqlite3_bind_null(s, at);
    else
        (void)sqlite3_bind_int64(s, at, *value);
}

enum rota_error
command_reschedule(struct sqlite_store *store, int64_t id,
                   const int64_t *priority, const int64_t *run_at)
{
    struct whereabouts job = {0};
    enum rota_error error = job_seek(store, id, &job);
    struct stmt stmt;

    if (error != ROTA_OK)
        return error;
    if (job.is_running || job.state != 0) {
        message_set("job %jd %s", (intmax_t)id,
                    job.is_running ? "is running" : "has ended");
        return ROTA_INVALID;
    }
    stmt = stmt_of(&store->connection, &COMMAND_RESCHEDULE);
    store->has_made_ready = true;
    (void)sqlite3_bind_int64(stmt.s, 1, id);
    bind_optional(stmt.s, 2, priority);
    bind_optional(stmt.s, 3, run_at);
    return stmt_run(&stmt, NULL);
}

/* -- Queues and limits ----------------------------------------------------- */

STATEMENT(QUEUE_EXISTS) = {"SELECT 1 FROM _queue WHERE name = ?1"};
STATEMENT(COMMAND_PAUSE) = {"INSERT INTO pause(queue) VALUES(?1)"};
STATEMENT(COMMAND_RESUME) = {"INSERT INTO resume(queue) VALUES(?1)"};
STATEMENT(COMMAND_LIMIT) = {"INSERT INTO set_limit VALUES(?1, ?2, ?3)"};
STATEMENT(COMMAND_RETAIN) = {"INSERT INTO retain VALUES(?1, ?2)"};

static enum rota_error
queue_check(struct sqlite_store *store, const char *queue)
{
    struct stmt stmt = stmt_of(&store->connection, &QUEUE_EXISTS);
    enum rota_error error;
    bool exists;

    bind_text(stmt.s, 1, queue);
    error = stmt_exists(&stmt, &exists);
    if (error != ROTA_OK || exists)
        return error;
    message_set("there is no queue %s", queue);
    return ROTA_NOTFOUND;
}

enum rota_error
command_pause(struct sqlite_store *store, const char *queue, bool pauses)
{
    enum rota_error error = pauses ? ROTA_OK : queue_check(store, queue);
    struct stmt stmt;

    if (error != ROTA_OK)
        return error;
    stmt =
        stmt_of(&store->connection, pauses ? &COMMAND_PAUSE : &COMMAND_RESUME);
    bind_text(stmt.s, 1, queue);
    return stmt_run(&stmt, NULL);
}

enum rota_error
command_limit(struct sqlite_store *store, const char *queue, const char *key,
              int64_t max_running)
{
    struct stmt stmt = stmt_of(&store->connection, &COMMAND_LIMIT);

    store->has_made_ready = true;
    bind_text(stmt.s, 1, queue);
    bind_text(stmt.s, 2, key);
    bind_positive(stmt.s, 3, max_running);
    return stmt_run(&stmt, NULL);
}

enum rota_error
command_retain(struct sqlite_store *store, const char *queue, int64_t time_ms)
{
    struct stmt stmt = stmt_of(&store->connection, &COMMAND_RETAIN);

    bind_text(stmt.s, 1, queue);
    bind_positive(stmt.s, 2, time_ms);
    return stmt_run(&stmt, NULL);
}
