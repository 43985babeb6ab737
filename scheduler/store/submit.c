/*
 * Names as numbers, and the move of a new job into the queue:
 *
 *   submit   new -> ready | scheduled
 *
 * INSERT INTO submit does the same by a trigger (schema.c); a test holds the
 * two against each other. One thread at a time, inside a transaction.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "store/private.h"

/* -- Names ---------------------------------------------------------------- */

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

    if (names->n == 1024) {
        for (size_t i = 0; i < names->n; i++)
            free(names->all[i].text);
        names->n = 0;
    }
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
        return ROTA_NOMEM;
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
    if (max_attempts == 0 ||
        (kind->max_attempts == max_attempts && kind->timeout_ms == timeout_ms))
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

    if (store->first_id > store->last_id) {
        statement = store_statement(store, RESERVE_IDS, &error);
        if (statement == NULL)
            return error;
        (void)sqlite3_bind_int64(statement, 1, store->reserve);
        error = connection_row(&store->connection, statement, &row);
        if (error == ROTA_OK && row) {
            store->last_id = sqlite3_column_int64(statement, 0);
            store->first_id = store->last_id - store->reserve + 1;
            store->reserve = store->reserve < 1024 ? store->reserve * 4 : 1024;
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
    *ret_id = store->first_id++;
    return ROTA_OK;
}

static enum rota_error
job_insert(struct store *store, const struct rota_submission *submission,
           int64_t id, const struct name *kind, const struct name *queue,
           const struct name *batch, int64_t run_at, int64_t sort_key)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *statement = store_statement(store, INSERT_JOB, &error);
    int64_t timeout_ms = submission->timeout / 1000000;

    if (statement == NULL)
        return error;
    if (submission->timeout > 0 && timeout_ms == 0)
        timeout_ms = 1;
    (void)sqlite3_bind_int64(statement, 1, id);
    (void)sqlite3_bind_int64(statement, 2, kind->number);
    (void)sqlite3_bind_int64(statement, 3, queue->number);
    bind_positive(statement, 4, batch == NULL ? 0 : batch->number);
    (void)sqlite3_bind_int64(statement, 5, submission->priority);
    (void)sqlite3_bind_int64(statement, 6, run_at);
    (void)sqlite3_bind_int64(statement, 7, sort_key);
    (void)sqlite3_bind_int64(statement, 8, store->now);
    bind_positive(statement, 9, submission->deadline);
    bind_positive(statement, 10,
                  timeout_ms > 0 ? timeout_ms : kind->timeout_ms);
    (void)sqlite3_bind_int(statement, 11,
                           submission->max_attempts > 0
                               ? submission->max_attempts
                               : kind->max_attempts);
    bind_data(statement, 12, submission->args, submission->args_size,
              submission->args_blob);
    return connection_run(&store->connection, statement, NULL);
}

enum rota_error
store_submit(struct store *store, const struct rota_submission *submission,
             int64_t *ret_id)
{
    const char *queue_name =
        submission->queue == NULL ? "default" : submission->queue;
    struct name *kind, *queue, *batch = NULL;
    int64_t id = 0, run_at = submission->run_at, sort_key;
    enum rota_error error;

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
    if (run_at == 0)
        run_at = store->now;
    sort_key = run_at + submission->priority * queue->ageing_ms;
    error =
        job_insert(store, submission, id, kind, queue, batch, run_at, sort_key);
    if (error == ROTA_OK)
        error = run_at > store->now
                    ? RUN(store, INSERT_SCHEDULED, NULL, run_at, id)
                    : RUN(store, INSERT_READY, NULL, queue->number,
                          kind->number, sort_key, id);
    *ret_id = id;
    return error;
}
