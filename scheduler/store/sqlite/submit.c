/*
 * Names as numbers, and the move of a new job into the queue:
 *
 *   submit   new -> ready | scheduled | blocked
 *
 * INSERT INTO submit does the same by a trigger (schema.c); a test holds the
 * two against each other. One thread at a time, inside a transaction.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "store/sqlite/sqlite.h"
#include "store/sqlite/schema.h"

/* -- Names ---------------------------------------------------------------- */

static void
names_clear(struct names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->all[i].text);
    names->n = 0;
}

void
names_forget(struct store *store)
{
    names_clear(&store->kinds);
    names_clear(&store->queues);
    names_clear(&store->batches);
}

static struct name *
names_find(struct names *names, const char *text)
{
    for (size_t i = 0; i < names->n; i++)
        if (strcmp(names->all[i].text, text) == 0)
            return &names->all[i];
    return NULL;
}

/* Remember a name; forgets all others when there are many, so that batches
 * without end cost no memory. */
static struct name *
names_add(struct names *names, const char *text)
{
    struct name *all = names->all, *name;

    if (names->n == 1024)
        names_clear(names);
    if (names->n == names->room) {
        all = realloc(all, (names->room + 16) * sizeof(*all));
        if (all == NULL)
            return NULL;
        names->all = all;
        names->room += 16;
    }
    name = &names->all[names->n];
    *name = (struct name){.text = strdup(text)};
    if (name->text == NULL)
        return NULL;
    names->n++;
    return name;
}

/* Read the row of text with statement find; *ret_row false if it has none. */
static enum rota_error
name_read(struct store *store, enum statement find, const char *text,
          struct name *ret_name, bool *ret_row)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *statement = store_statement(store, find, &error);

    if (statement == NULL)
        return error;
    (void)sqlite3_bind_text(statement, 1, text, -1, SQLITE_STATIC);
    error = connection_row(&store->connection, statement, ret_row);
    if (error == ROTA_OK && *ret_row) {
        ret_name->number = sqlite3_column_int64(statement, 0);
        ret_name->ageing_ms = sqlite3_column_int64(statement, 1);
        ret_name->timeout_ms = sqlite3_column_int64(statement, 2);
        ret_name->max_attempts = sqlite3_column_int(statement, 3);
    }
    (void)sqlite3_reset(statement);
    return error;
}

/* The number of text, made with statement insert if it is new. */
static enum rota_error
name_number(struct store *store, struct names *names, enum statement find,
            enum statement insert, const char *text, struct name **ret_name)
{
    struct name *name = names_find(names, text), read = {0};
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *statement;
    bool row = false;

    if (name != NULL) {
        *ret_name = name;
        return ROTA_OK;
    }
    error = name_read(store, find, text, &read, &row);
    if (error == ROTA_OK && !row) {
        statement = store_statement(store, insert, &error);
        if (statement == NULL)
            return error;
        (void)sqlite3_bind_text(statement, 1, text, -1, SQLITE_STATIC);
        if (insert == INSERT_BATCH)
            (void)sqlite3_bind_int64(statement, 2, store->now);
        error = connection_run(&store->connection, statement, NULL);
        if (error == ROTA_OK)
            error = name_read(store, find, text, &read, &row);
    }
    if (error != ROTA_OK)
        return error;
    name = names_add(names, text);
    if (name == NULL)
        return no_memory();
    read.text = name->text;
    *name = read;
    *ret_name = name;
    return ROTA_OK;
}

enum rota_error
store_queue(struct store *store, const char *name, int64_t *ret_queue)
{
    struct name *queue;
    enum rota_error error = name_number(store, &store->queues, FIND_QUEUE,
                                        INSERT_QUEUE, name, &queue);

    if (error == ROTA_OK)
        *ret_queue = queue->number;
    return error;
}

enum rota_error
store_kind(struct store *store, const char *name, int max_attempts,
           int64_t timeout_ms, int64_t *ret_kind)
{
    struct name *kind;
    enum rota_error error =
        name_number(store, &store->kinds, FIND_KIND, INSERT_KIND, name, &kind);
    sqlite3_stmt *statement;

    if (error != ROTA_OK)
        return error;
    *ret_kind = kind->number;
    if (kind->max_attempts == max_attempts && kind->timeout_ms == timeout_ms)
        return ROTA_OK;
    kind->max_attempts = max_attempts;
    kind->timeout_ms = timeout_ms;
    statement = store_statement(store, SET_KIND_DEFAULTS, &error);
    if (statement == NULL)
        return error;
    (void)sqlite3_bind_int64(statement, 1, kind->number);
    (void)sqlite3_bind_int(statement, 2, max_attempts);
    if (timeout_ms > 0)
        (void)sqlite3_bind_int64(statement, 3, timeout_ms);
    else
        (void)sqlite3_bind_null(statement, 3);
    return connection_run(&store->connection, statement, NULL);
}

/* -- Submit --------------------------------------------------------------- */

/* The next id of the one counter that INSERT INTO submit uses too. Reserved in
 * growing chunks; store_commit() returns what is left. */
static enum rota_error
id_take(struct store *store, int64_t *ret_id)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *statement;
    bool row = false;

    if (store->ids.first > store->ids.last) {
        statement = store_statement(store, RESERVE_IDS, &error);
        if (statement == NULL)
            return error;
        (void)sqlite3_bind_int64(statement, 1, store->ids.reserve);
        error = connection_row(&store->connection, statement, &row);
        if (error == ROTA_OK && row) {
            store->ids.last = sqlite3_column_int64(statement, 0);
            store->ids.first = store->ids.last - store->ids.reserve + 1;
            store->ids.reserve =
                store->ids.reserve < 1024 ? store->ids.reserve * 4 : 1024;
            /* the change is made at the first row, but end the statement */
            error = connection_row(&store->connection, statement, &row);
        } else if (error == ROTA_OK) {
            message_set("%s: the counter of ids is gone", store_path(store));
            error = ROTA_CORRUPT;
        }
        (void)sqlite3_reset(statement);
        if (error != ROTA_OK)
            return error;
    }
    *ret_id = store->ids.first++;
    store->ids.taken++;
    return ROTA_OK;
}

static int64_t
submission_ties(const struct rota_submission *submission)
{
    return (submission->unique_key != NULL ? TIE_UNIQUE : 0) +
           (submission->deadline > 0 ? TIE_DEADLINE : 0);
}

static enum rota_error
job_insert(struct store *store, const struct rota_submission *submission,
           const struct candidate *job, const struct name *batch)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *statement = store_statement(store, INSERT_JOB, &error);

    if (statement == NULL)
        return error;
    (void)sqlite3_bind_int64(statement, 1, job->claim.id);
    (void)sqlite3_bind_int64(statement, 2, job->claim.kind);
    (void)sqlite3_bind_int64(statement, 3, job->queue);
    bind_positive(statement, 4, batch == NULL ? 0 : batch->number);
    (void)sqlite3_bind_int64(statement, 5, submission->priority);
    (void)sqlite3_bind_int64(statement, 6, job->claim.run_at);
    (void)sqlite3_bind_int64(statement, 7, job->sort_key);
    (void)sqlite3_bind_int64(statement, 8, store->now);
    bind_positive(statement, 9, submission->deadline);
    bind_positive(statement, 10, job->claim.timeout_ms);
    bind_positive(statement, 11, submission->max_attempts);
    bind_text(statement, 12, submission->unique_key);
    bind_text(statement, 13, submission->limit_key);
    bind_positive(statement, 14, submission->parent);
    (void)sqlite3_bind_int64(statement, 15, submission_ties(submission));
    bind_data(statement, 16, submission->args, submission->args_size,
              submission->args_blob);
    return connection_run(&store->connection, statement, NULL);
}

/* -- Ties ----------------------------------------------------------------- */

static enum rota_error
unique_check(struct store *store, const char *key, int64_t *ret_job)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, UNIQUE_JOB, &error);
    bool row = false;

    if (s == NULL)
        return error;
    bind_text(s, 1, key);
    error = connection_row(&store->connection, s, &row);
    if (error == ROTA_OK && row) {
        *ret_job = sqlite3_column_int64(s, 0);
        message_set("job %jd has the unique key %s and has not ended",
                    (intmax_t)*ret_job, key);
        error = ROTA_EXISTS;
    }
    (void)sqlite3_reset(s);
    return error;
}

static enum rota_error
job_check(struct store *store, int64_t id, const char *what)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, JOB_EXISTS, &error);
    bool row = false;

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, id);
    error = connection_row(&store->connection, s, &row);
    (void)sqlite3_reset(s);
    if (error != ROTA_OK || row)
        return error;
    message_set("%s names job %jd, which is not there", what, (intmax_t)id);
    return ROTA_NOTFOUND;
}

/* Whether the jobs that a submission names are there, and the one whose key it
 * has is not. */
static enum rota_error
ties_check(struct store *store, const struct rota_submission *submission,
           int64_t *ret_standing)
{
    enum rota_error error = ROTA_OK;

    if (submission->unique_key != NULL)
        error = unique_check(store, submission->unique_key, ret_standing);
    for (size_t i = 0; error == ROTA_OK && i < submission->n_after; i++)
        error = job_check(store, submission->after[i], "after");
    if (error == ROTA_OK && submission->parent != 0)
        error = job_check(store, submission->parent, "parent");
    return error;
}

static enum rota_error
unique_insert(struct store *store, const char *key, int64_t id)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, INSERT_UNIQUE, &error);

    if (s == NULL)
        return error;
    bind_text(s, 1, key);
    (void)sqlite3_bind_int64(s, 2, id);
    return connection_run(&store->connection, s, NULL);
}

static enum rota_error
dep_insert(struct store *store, int64_t parent, int64_t id)
{
    enum rota_error error = RUN(store, INSERT_DEP, NULL, parent, id);

    if (error == ROTA_OK)
        error = RUN(store, TIE_JOB, NULL, parent, TIE_AWAITED);
    /* it may have failed before this one came */
    return error == ROTA_OK ? RUN(store, SETTLE_LATECOMER, NULL, parent)
                            : error;
}

/* The rows that tie a new job to others. */
static enum rota_error
ties_insert(struct store *store, const struct rota_submission *submission,
            int64_t id)
{
    int64_t parent = submission->parent;
    enum rota_error error = ROTA_OK;

    if (submission->unique_key != NULL)
        error = unique_insert(store, submission->unique_key, id);
    if (error == ROTA_OK && submission->deadline > 0)
        error = RUN(store, INSERT_DEADLINE, NULL, submission->deadline, id);
    for (size_t i = 0; error == ROTA_OK && i < submission->n_after; i++)
        error = dep_insert(store, submission->after[i], id);
    if (error == ROTA_OK && parent != 0)
        error = RUN(store, TIE_JOB, NULL, parent, TIE_PARENT);
    if (error == ROTA_OK && parent != 0)
        error = RUN(store, SETTLE_LATE_CHILD, NULL, parent);
    return error;
}

static enum rota_error
has_unmet(struct store *store, int64_t id, bool *ret_unmet)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, HAS_UNMET, &error);

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, id);
    error = connection_row(&store->connection, s, ret_unmet);
    (void)sqlite3_reset(s);
    return error;
}

/* The new job, as a claim would find it. */
static struct candidate
job_of(const struct store *store, const struct rota_submission *submission,
       int64_t id, const struct name *kind, const struct name *queue)
{
    int64_t run_at = submission->run_at == 0 ? store->now : submission->run_at;
    int64_t timeout_ms = submission->timeout / 1000000;

    if (submission->timeout > 0 && timeout_ms == 0)
        timeout_ms = 1;
    return (struct candidate){
        .queue = queue->number,
        .sort_key = run_at + submission->priority * queue->ageing_ms,
        .is_arrival = true,
        .claim = {.id = id,
                  .lease = 1,
                  .kind = kind->number,
                  .run_at = run_at,
                  .created_at = store->now,
                  .deadline_at = submission->deadline,
                  .timeout_ms = timeout_ms,
                  .max_attempts = submission->max_attempts,
                  .total = -1}};
}

/* Put the new job where it waits. */
static enum rota_error
job_place(struct store *store, const struct rota_submission *submission,
          const struct candidate *job)
{
    enum rota_error error = ROTA_OK;
    bool is_blocked = false, is_kept = false;

    if (submission->n_after > 0)
        error = has_unmet(store, job->claim.id, &is_blocked);
    if (error == ROTA_OK && is_blocked)
        return RUN(store, INSERT_BLOCKED, NULL, job->claim.id);
    if (error == ROTA_OK && job->claim.run_at > store->now)
        return RUN(store, INSERT_SCHEDULED, NULL, job->claim.run_at,
                   job->claim.id);
    if (error == ROTA_OK && store->arrivals.limit > 0)
        error = arrival_keep(store, submission, job, &is_kept);
    if (error != ROTA_OK || is_kept)
        return error;
    return RUN(store, INSERT_READY, NULL, job->queue, job->claim.kind,
               job->sort_key, job->claim.id);
}

static enum rota_error
submit_one(struct store *store, const struct rota_submission *submission,
           int64_t *ret_id)
{
    const char *queue_name =
        submission->queue == NULL ? "default" : submission->queue;
    struct name *kind, *queue = NULL, *batch = NULL;
    struct candidate job;
    int64_t id = 0;
    enum rota_error error;

    error = ties_check(store, submission, ret_id);
    if (error != ROTA_OK)
        return error;
    /* numbers are copied before the next lookup can move the array */
    error = name_number(store, &store->kinds, FIND_KIND, INSERT_KIND,
                        submission->kind, &kind);
    if (error == ROTA_OK)
        error = name_number(store, &store->queues, FIND_QUEUE, INSERT_QUEUE,
                            queue_name, &queue);
    if (error == ROTA_OK && submission->batch != NULL)
        error = name_number(store, &store->batches, FIND_BATCH, INSERT_BATCH,
                            submission->batch, &batch);
    if (error == ROTA_OK)
        error = id_take(store, &id);
    if (error != ROTA_OK)
        return error;
    job = job_of(store, submission, id, kind, queue);
    error = job_insert(store, submission, &job, batch);
    if (error == ROTA_OK)
        error = ties_insert(store, submission, id);
    if (error == ROTA_OK)
        error = job_place(store, submission, &job);
    if (error == ROTA_OK)
        *ret_id = id;
    return error;
}

/* Whether one of several may be refused after others were made. */
static bool
may_be_refused(const struct rota_submission *submissions, size_t n)
{
    for (size_t i = 0; n > 1 && i < n; i++)
        if (submissions[i].unique_key != NULL || submissions[i].n_after > 0 ||
            submissions[i].parent != 0)
            return true;
    return false;
}

static enum rota_error
submit_each(struct store *store, const struct rota_submission *submissions,
            size_t n, int64_t *ret_ids)
{
    enum rota_error error = ROTA_OK;

    for (size_t i = 0; error == ROTA_OK && i < n; i++) {
        error = submit_one(store, &submissions[i], &ret_ids[i]);
        if (error == ROTA_EXISTS)
            ret_ids[0] = ret_ids[i];
    }
    return error;
}

/* All or none of several. */
static enum rota_error
submit_together(struct store *store, const struct rota_submission *submissions,
                size_t n, int64_t *ret_ids)
{
    struct ids before = store->ids;
    enum rota_error error = store_run(store, SAVEPOINT, NULL, 0, NULL), undone;

    if (error != ROTA_OK)
        return error;
    error = submit_each(store, submissions, n, ret_ids);
    if (error == ROTA_EXISTS || error == ROTA_NOTFOUND) {
        undone = store_run(store, ROLLBACK_TO, NULL, 0, NULL);
        if (undone != ROTA_OK)
            return undone;
        store->ids = before;
        names_forget(store); /* some may have been made with these */
    } else if (error != ROTA_OK) {
        return error;
    }
    undone = store_run(store, RELEASE, NULL, 0, NULL);
    return undone == ROTA_OK ? error : undone;
}

enum rota_error
store_submit(struct store *store, const struct rota_submission *submissions,
             size_t n, int64_t *ret_ids)
{
    size_t limit = store->arrivals.limit;
    enum rota_error error;

    if (!may_be_refused(submissions, n))
        return submit_each(store, submissions, n, ret_ids);
    /* what is kept in memory cannot be undone */
    error = store_line_up(store);
    store->arrivals.limit = 0;
    if (error == ROTA_OK)
        error = submit_together(store, submissions, n, ret_ids);
    store->arrivals.limit = limit;
    return error;
}
