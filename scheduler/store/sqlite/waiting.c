/*
 * The line: where jobs wait to be run, and the moves in it that time makes.
 *
 *   promote  scheduled -> ready                     when it is due
 *   expire   blocked | scheduled | ready -> failed  when its deadline passes
 *
 * One thread at a time, inside a transaction.
 */
#include "base/base.h"
#include "store/sqlite/sqlite.h"

/* -- In and out ------------------------------------------------------------ */

enum rota_error
job_make_ready(struct store *store, int64_t id)
{
    store->made_ready = true;
    return RUN(store, READY_AGAIN, NULL, id);
}

enum rota_error
job_line_up(struct store *store, int64_t id)
{
    int64_t changed = 0;
    enum rota_error error =
        RUN(store, SCHEDULED_AGAIN, &changed, id, store->now);

    return error == ROTA_OK && changed == 0 ? job_make_ready(store, id) : error;
}

enum rota_error
job_leave_line(struct store *store, int64_t id, bool *ret_waited)
{
    static const enum statement leaves[] = {LEAVE_READY, LEAVE_HELD,
                                            LEAVE_SCHEDULED, LEAVE_BLOCKED};
    enum rota_error error = ROTA_OK;
    int64_t changed = 0;

    *ret_waited = false;
    for (size_t i = 0; error == ROTA_OK && i < 4 && !*ret_waited; i++) {
        error = RUN(store, leaves[i], &changed, id);
        *ret_waited = changed > 0;
    }
    return error;
}

/* -- Promote -------------------------------------------------------------- */

static enum rota_error
next_due(struct store *store, int64_t *ret_next)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *statement = store_statement(store, NEXT_DUE, &error);
    bool row = false;

    if (statement == NULL)
        return error;
    *ret_next = INT64_MAX;
    error = connection_row(&store->connection, statement, &row);
    if (row && sqlite3_column_type(statement, 0) != SQLITE_NULL)
        *ret_next = sqlite3_column_int64(statement, 0);
    (void)sqlite3_reset(statement);
    return error;
}

struct due {
    int64_t at, id;
};
#define DUE_MAX 1000 /* the statements' LIMIT */

/* What statement says is due by now. */
static enum rota_error
due_read(struct store *store, enum statement n, struct due *due, int *ret_n)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *statement = store_statement(store, n, &error);
    bool row;

    *ret_n = 0;
    if (statement == NULL)
        return error;
    (void)sqlite3_bind_int64(statement, 1, store->now);
    while ((error = connection_row(&store->connection, statement, &row)) ==
               ROTA_OK &&
           row) {
        due[*ret_n].at = sqlite3_column_int64(statement, 0);
        due[(*ret_n)++].id = sqlite3_column_int64(statement, 1);
    }
    return error;
}

enum rota_error
job_expire(struct store *store, int64_t id)
{
    enum rota_error error = RUN(store, EXPIRE_READY, NULL, id, store->now);

    if (error == ROTA_OK)
        error = RUN(store, TELL_OF_END, NULL, id, ROTA_JOB_FAILED);
    return error == ROTA_OK ? key_release_after(store, id) : error;
}

/* What waits beyond its deadline fails. What runs ends by its context. */
static enum rota_error
expire(struct store *store, const struct due *due)
{
    enum rota_error error = RUN(store, DELETE_DEADLINE, NULL, due->at, due->id);
    bool waited = false;

    if (error == ROTA_OK)
        error = job_leave_line(store, due->id, &waited);
    return error == ROTA_OK && waited ? job_expire(store, due->id) : error;
}

static enum rota_error
promote(struct store *store, const struct due *due)
{
    int64_t changed = 0;
    enum rota_error error =
        RUN(store, DELETE_SCHEDULED, &changed, due->at, due->id);

    return error == ROTA_OK && changed == 1 ? job_make_ready(store, due->id)
                                            : error;
}

enum rota_error
store_promote(struct store *store, int64_t *ret_next)
{
    struct due due[DUE_MAX];
    enum rota_error error;
    int n;

    error = due_read(store, DUE_DEADLINES, due, &n);
    for (int i = 0; error == ROTA_OK && i < n; i++)
        error = expire(store, &due[i]);
    if (error == ROTA_OK)
        error = due_read(store, DUE_JOBS, due, &n);
    for (int i = 0; error == ROTA_OK && i < n; i++)
        error = promote(store, &due[i]);
    return error == ROTA_OK ? next_due(store, ret_next) : error;
}
