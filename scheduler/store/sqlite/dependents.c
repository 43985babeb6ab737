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
 * One thread at a time, inside a transaction.
 */
#include <stdio.h>

#include "base/base.h"
#include "store/sqlite/sqlite.h"
#include "store/sqlite/schema.h"

/* At most so many are read at a time. */
#define CHUNK 256

/* A row of _settle, and where its job stands. */
struct task {
    int64_t job, what, last;
    int64_t state; /* of its end; 0: it has not ended */
    bool is_cancelled;
};

static enum rota_error
task_read(struct store *store, struct task *ret_task, bool *ret_row)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, NEXT_SETTLE, &error);

    if (s == NULL)
        return error;
    error = connection_row(&store->connection, s, ret_row);
    if (*ret_row)
        *ret_task = (struct task){
            .job = sqlite3_column_int64(s, 0),
            .what = sqlite3_column_int64(s, 1),
            .last = sqlite3_column_int64(s, 2),
            .state = sqlite3_column_int64(s, 3),
            .is_cancelled = sqlite3_column_int64(s, 3) == ROTA_CANCELLED ||
                            sqlite3_column_type(s, 4) != SQLITE_NULL};
    (void)sqlite3_reset(s);
    return error;
}

/* The ids of the next ones that it concerns. */
static enum rota_error
task_next(struct store *store, const struct task *task, size_t limit,
          int64_t *ids, size_t *ret_n)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(
        store, task->what == SETTLE_AWAITING ? AWAITING_JOBS : CHILDREN_JOBS,
        &error);
    size_t n = 0;
    bool row;

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, task->job);
    (void)sqlite3_bind_int64(s, 2, task->last);
    (void)sqlite3_bind_int64(s, 3, (int64_t)limit);
    while ((error = connection_row(&store->connection, s, &row)) == ROTA_OK &&
           row)
        ids[n++] = sqlite3_column_int64(s, 0);
    *ret_n = n;
    return error;
}

/* The job that id waited for has succeeded. */
static enum rota_error
meet(struct store *store, int64_t job, int64_t id)
{
    enum rota_error error = RUN(store, MEET_DEP, NULL, job, id);
    int64_t changed = 0;

    if (error == ROTA_OK)
        error = RUN(store, UNBLOCK, &changed, id);
    if (error != ROTA_OK || changed == 0)
        return error;
    return job_line_up(store, id);
}

static enum rota_error
skip(struct store *store, int64_t job, int64_t id)
{
    int64_t changed = 0;
    enum rota_error error = RUN(store, LEAVE_BLOCKED, &changed, id);

    if (error != ROTA_OK || changed == 0)
        return error;
    error = RUN(store, SKIP_JOB, NULL, id, job, store->now);
    return error == ROTA_OK ? RUN(store, TELL_OF_END, NULL, id, ROTA_CANCELLED)
                            : error;
}

/* id was skipped for job, which has been retried: unless another job has taken
 * its unique key, it waits again; or is skipped for another one. */
static enum rota_error
revive(struct store *store, int64_t job, int64_t id)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, WAS_SKIPPED, &error);
    int64_t run_at = 0, sort_key = 0;
    bool row = false;

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, id);
    (void)sqlite3_bind_int64(s, 2, job);
    error = connection_row(&store->connection, s, &row);
    if (row) {
        run_at = sqlite3_column_int64(s, 0);
        sort_key = sqlite3_column_int64(s, 1);
    }
    (void)sqlite3_reset(s);
    if (error != ROTA_OK || !row)
        return error;
    error = RUN(store, COMMAND_RETRY, NULL, id, 0);
    /* if it waits again, with its time and place in line as before */
    return error == ROTA_OK ? RUN(store, KEEP_TIME, NULL, id, run_at, sort_key)
                            : error;
}

static enum rota_error
cancel_child(struct store *store, const struct task *task, int64_t id)
{
    enum rota_cancel_answer answer;
    char reason[64];

    (void)snprintf(reason, sizeof(reason), "its parent, job %jd, was cancelled",
                   (intmax_t)task->job);
    return store_cancel(store, id, reason, &answer);
}

static enum rota_error
task_tell(struct store *store, const struct task *task, int64_t id)
{
    if (task->what == SETTLE_CHILDREN)
        return task->is_cancelled ? cancel_child(store, task, id) : ROTA_OK;
    if (task->state == ROTA_SUCCEEDED)
        return meet(store, task->job, id);
    return task->state != 0 ? skip(store, task->job, id)
                            : revive(store, task->job, id);
}

/* One task, as far as limit goes. */
static enum rota_error
task_do(struct store *store, const struct task *task, size_t limit,
        size_t *ret_n)
{
    int64_t ids[CHUNK];
    enum rota_error error;

    if (limit > CHUNK)
        limit = CHUNK;
    error = task_next(store, task, limit, ids, ret_n);
    for (size_t i = 0; error == ROTA_OK && i < *ret_n; i++)
        error = task_tell(store, task, ids[i]);
    if (error != ROTA_OK)
        return error;
    return *ret_n < limit ? RUN(store, SETTLE_OVER, NULL, task->job, task->what)
                          : RUN(store, SETTLE_FURTHER, NULL, task->job,
                                task->what, ids[*ret_n - 1]);
}

enum rota_error
store_settle(struct store *store, size_t limit, bool *ret_more)
{
    enum rota_error error;
    struct task task;
    bool row = false;
    size_t n;

    *ret_more = false;
    for (;;) {
        error = task_read(store, &task, &row);
        if (error != ROTA_OK || !row)
            return error;
        if (limit == 0) {
            *ret_more = true;
            return ROTA_OK;
        }
        error = task_do(store, &task, limit, &n);
        if (error != ROTA_OK)
            return error;
        limit -= n < limit ? n + (n == 0) : limit;
    }
}
