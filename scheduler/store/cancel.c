/*
 * The cancel of a job, for the C call: what the SQL command does, and an
 * answer. One thread at a time, inside a transaction.
 */
#include <inttypes.h>

#include "base.h"
#include "store/private.h"

/* Where a job is, for the answer: columns are NULL or 1 (2: asked before). */
static enum rota_error
cancel_standing(struct store *store, int64_t id, int *ret_exists,
                int *ret_running, int *ret_done)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, CANCEL_STANDING, &error);
    bool row = false;

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, id);
    error = connection_row(&store->connection, s, &row);
    if (row) {
        *ret_exists = sqlite3_column_int(s, 0);
        *ret_running = sqlite3_column_int(s, 1);
        *ret_done = sqlite3_column_int(s, 2);
    }
    (void)sqlite3_reset(s);
    return error;
}

enum rota_error
store_cancel(struct store *store, int64_t id, const char *reason,
             enum rota_cancel_answer *ret_answer)
{
    int exists = 0, running = 0, done = 0;
    enum rota_error error;
    sqlite3_stmt *s;

    error = cancel_standing(store, id, &exists, &running, &done);
    if (error != ROTA_OK)
        return error;
    if (!exists) {
        message_set("there is no job %jd", (intmax_t)id);
        return ROTA_NOTFOUND;
    }
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
