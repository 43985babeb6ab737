/*
 * The SQL commands, for the C calls: what each does, and an answer. One thread
 * at a time, inside a transaction.
 */
#include <inttypes.h>

#include "base/base.h"
#include "store/sqlite/sqlite.h"

/* Where a job is, for the answer. */
struct place {
    bool running, told; /* told: its cancel was asked before */
    int state;          /* of its end; 0: it has not ended */
    int64_t rival;      /* the job that has its unique key; 0: none */
};

/* ROTA_NOTFOUND if it is nowhere. */
static enum rota_error
place_read(struct store *store, int64_t id, struct place *ret_place)
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
        *ret_place = (struct place){.running = sqlite3_column_int(s, 1) > 0,
                                    .told = sqlite3_column_int(s, 1) > 1,
                                    .state = sqlite3_column_int(s, 2),
                                    .rival = sqlite3_column_int64(s, 3)};
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
    struct place place = {0};
    enum rota_error error = place_read(store, id, &place);
    sqlite3_stmt *s;

    if (error != ROTA_OK)
        return error;
    *ret_answer = place.state != 0 ? ROTA_CANCEL_TOO_LATE
                  : place.told     ? ROTA_CANCEL_AGAIN
                  : place.running  ? ROTA_CANCEL_REQUESTED
                                   : ROTA_CANCEL_DONE;
    if (place.state != 0 || place.told)
        return ROTA_OK;
    s = store_statement(store, COMMAND_CANCEL, &error);
    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, id);
    bind_text(s, 2, reason);
    return connection_run(&store->connection, s, NULL);
}

enum rota_error
store_retry(struct store *store, int64_t id, bool restart)
{
    struct place place = {0};
    enum rota_error error = place_read(store, id, &place);

    if (error != ROTA_OK)
        return error;
    if (place.state == 0) {
        message_set("job %jd has not ended", (intmax_t)id);
        return ROTA_INVALID;
    }
    if (place.rival != 0) {
        message_set("job %jd has its unique key and has not ended",
                    (intmax_t)place.rival);
        return ROTA_EXISTS;
    }
    store->made_ready = true;
    return RUN(store, COMMAND_RETRY, NULL, id, restart);
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
store_reschedule(struct store *store, int64_t id, const int64_t *priority,
                 const int64_t *run_at)
{
    struct place place = {0};
    enum rota_error error = place_read(store, id, &place);
    sqlite3_stmt *s;

    if (error != ROTA_OK)
        return error;
    if (place.running || place.state != 0) {
        message_set("job %jd %s", (intmax_t)id,
                    place.running ? "is running" : "has ended");
        return ROTA_INVALID;
    }
    s = store_statement(store, COMMAND_RESCHEDULE, &error);
    if (s == NULL)
        return error;
    store->made_ready = true;
    (void)sqlite3_bind_int64(s, 1, id);
    bind_optional(s, 2, priority);
    bind_optional(s, 3, run_at);
    return connection_run(&store->connection, s, NULL);
}

/* -- Queues and limits ----------------------------------------------------- */

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

enum rota_error
store_set_limit(struct store *store, const char *queue, const char *key,
                int64_t limit)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, COMMAND_SET_LIMIT, &error);

    if (s == NULL)
        return error;
    store->made_ready = true;
    bind_text(s, 1, queue);
    bind_text(s, 2, key);
    bind_positive(s, 3, limit);
    return connection_run(&store->connection, s, NULL);
}

enum rota_error
store_retain(struct store *store, const char *queue, int64_t ms)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, COMMAND_RETAIN, &error);

    if (s == NULL)
        return error;
    bind_text(s, 1, queue);
    bind_positive(s, 2, ms);
    return connection_run(&store->connection, s, NULL);
}
