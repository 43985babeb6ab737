/*
 * The SQL commands, for the C calls: what each does, and an answer. One thread
 * at a time, inside a transaction.
 */
#include <inttypes.h>

#include "base.h"
#include "store/private.h"

/* Where a job is, for the answer: columns are NULL or 1 (2: its cancel was
 * asked before). ROTA_NOTFOUND if it is nowhere. */
static enum rota_error
job_standing(struct store *store, int64_t id, int *ret_running, int *ret_done)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, JOB_STANDING, &error);
    bool row = false, exists = false;

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, id);
    error = connection_row(&store->connection, s, &row);
    if (row) {
        exists = sqlite3_column_int(s, 0) != 0;
        *ret_running = sqlite3_column_int(s, 1);
        *ret_done = sqlite3_column_int(s, 2);
    }
    (void)sqlite3_reset(s);
    if (error != ROTA_OK || exists)
        return error;
    message_set("there is no job %jd", (intmax_t)id);
    return ROTA_NOTFOUND;
}

enum rota_error
store_cancel(struct store *store, int64_t id, const char *reason,
             enum rota_cancel_answer *ret_answer)
{
    int running = 0, done = 0;
    enum rota_error error = job_standing(store, id, &running, &done);
    sqlite3_stmt *s;

    if (error != ROTA_OK)
        return error;
    *ret_answer = done           ? ROTA_CANCEL_TOO_LATE
                  : running == 2 ? ROTA_CANCEL_AGAIN
                  : running == 1 ? ROTA_CANCEL_REQUESTED
                                 : ROTA_CANCEL_DONE;
    if (done || running == 2)
        return ROTA_OK;
    s = store_statement(store, COMMAND_CANCEL, &error);
    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, id);
    (void)sqlite3_bind_text(s, 2, reason, -1, SQLITE_STATIC);
    return connection_run(&store->connection, s, NULL);
}

enum rota_error
store_retry(struct store *store, int64_t id)
{
    int running = 0, done = 0;
    enum rota_error error = job_standing(store, id, &running, &done);

    if (error != ROTA_OK)
        return error;
    if (!done) {
        message_set("job %jd has not ended", (intmax_t)id);
        return ROTA_INVALID;
    }
    return RUN(store, COMMAND_RETRY, NULL, id);
}

static enum rota_error
queue_exists(struct store *store, const char *queue)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, QUEUE_EXISTS, &error);
    bool row = false;

    if (s == NULL)
        return error;
    (void)sqlite3_bind_text(s, 1, queue, -1, SQLITE_STATIC);
    error = connection_row(&store->connection, s, &row);
    (void)sqlite3_reset(s);
    if (error != ROTA_OK || row)
        return error;
    message_set("there is no queue %s", queue);
    return ROTA_NOTFOUND;
}

enum rota_error
store_pause(struct store *store, const char *queue, bool pauses)
{
    enum rota_error error = pauses ? ROTA_OK : queue_exists(store, queue);
    sqlite3_stmt *s;

    if (error != ROTA_OK)
        return error;
    s = store_statement(store, pauses ? COMMAND_PAUSE : COMMAND_RESUME, &error);
    if (s == NULL)
        return error;
    (void)sqlite3_bind_text(s, 1, queue, -1, SQLITE_STATIC);
    return connection_run(&store->connection, s, NULL);
}
