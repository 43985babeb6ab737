/*
 * What callers ask from outside a job: submit, wait, run, query. What changes
 * jobs that are there is in control.c.
 *
 * Everything that writes is a request to the writer's role (cycle.c), often
 * carried out on the caller's own thread. Who reads takes a connection out of
 * those that lie idle, under rota.lock, or opens one, and has it to itself.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <rota/interrupt.h>

#include "base/text.h"
#include "engine/engine.h"

/* A wait reads the file anew so often even if nobody tells it to. */
#define LOOK_AGAIN ROTA_SEC(1)

/* -- Submit --------------------------------------------------------------- */

bool
name_is_valid(const char *name, const char *what)
{
    size_t length = name == NULL ? 0 : strlen(name);

    if (length >= 1 && length <= 255 && text_is_utf8(name, length))
        return true;
    message_set("%s must be a text (UTF-8) of 1 to 255 bytes", what);
    return false;
}

bool
priority_is_valid(int64_t priority)
{
    if (priority >= -1000000 && priority <= 1000000)
        return true;
    message_set("priority must be from -1000000 to 1000000");
    return false;
}

bool
time_is_valid(const struct rota *rota, int64_t time, const char *what)
{
    if (time == 0 || (time >= FIRST_TIME && time <= LAST_TIME) ||
        (time > 0 && time < FIRST_TIME && rota_now(rota) < FIRST_TIME))
        return true;
    message_set("%s must be Unix milliseconds%s", what,
                time > 0 && time < FIRST_TIME ? ", and looks like seconds"
                                              : "");
    return false;
}

/* The rules of the SQL command's trigger, said in C. */
static enum rota_error
submission_check(const struct rota *rota, const struct rota_submission *s)
{
    if (s == NULL || s->size != sizeof(*s)) {
        message_set("a submission starts as ROTA_SUBMISSION_INIT(kind)");
        return ROTA_INVALID;
    }
    if (!name_is_valid(s->kind, "kind") ||
        (s->queue != NULL && !name_is_valid(s->queue, "queue")) ||
        (s->batch != NULL && !name_is_valid(s->batch, "batch")) ||
        (s->unique_key != NULL &&
         !name_is_valid(s->unique_key, "unique_key")) ||
        (s->limit_key != NULL && !name_is_valid(s->limit_key, "limit_key")))
        return ROTA_INVALID;
    if (s->after == NULL && s->n_after > 0) {
        message_set("after is missing, but not n_after");
        return ROTA_INVALID;
    }
    if (s->args == NULL && s->args_size > 0) {
        message_set("args are missing, but not their size");
        return ROTA_INVALID;
    }
    if (s->args_size > 500000000) {
        message_set("args must not be longer than 500,000,000 bytes; put what "
                    "is larger into a file and submit its name");
        return ROTA_INVALID;
    }
    if (!priority_is_valid(s->priority) ||
        !time_is_valid(rota, s->run_at, "run_at") ||
        !time_is_valid(rota, s->deadline, "deadline"))
        return ROTA_INVALID;
    if (s->timeout < 0 || s->max_attempts < 0 || s->max_attempts > 1000000) {
        message_set("timeout must not be negative, max_attempts be from 1 to "
                    "1000000");
        return ROTA_INVALID;
    }
    return ROTA_OK;
}

enum rota_error
rota_submit_many(struct rota *rota, const struct rota_submission *submissions,
                 size_t n, int64_t *ret_ids)
{
    struct request request = {
        .kind = REQUEST_SUBMIT, .submissions = submissions, .n = n};
    enum rota_error error = writable(rota);

    for (size_t i = 0; error == ROTA_OK && i < n; i++)
        error = submission_check(rota,
                                 submissions == NULL ? NULL : &submissions[i]);
    if (error != ROTA_OK || n == 0)
        return error;
    request.ids = calloc(n, sizeof(*request.ids));
    if (request.ids == NULL)
        return no_memory();
    error = request_run(rota, &request);
    if (ret_ids != NULL && error == ROTA_OK)
        memcpy(ret_ids, request.ids, n * sizeof(*ret_ids));
    else if (ret_ids != NULL && error == ROTA_EXISTS)
        ret_ids[0] = request.ids[0];
    free(request.ids);
    return error;
}

enum rota_error
rota_submit(struct rota *rota, const struct rota_submission *submission,
            int64_t *ret_id)
{
    return rota_submit_many(rota, submission, 1, ret_id);
}

/* -- Wait ----------------------------------------------------------------- */

struct reader *
reader_acquire(struct rota *rota, enum rota_error *error)
{
    struct reader *reader = NULL;

    *error = ROTA_INVALID;
    if (store_is_inherited(rota->store))
        return NULL;
    lock_take(&rota->lock);
    if (rota->n_idle > 0)
        reader = rota->idle[--rota->n_idle];
    lock_drop(&rota->lock);
    *error = reader != NULL ? ROTA_OK : reader_open(rota->store, &reader);
    if (reader != NULL && reader_has_moved(reader)) {
        reader_release(rota, reader);
        reader = NULL;
        *error = ROTA_STORE;
    }
    return reader;
}

void
reader_release(struct rota *rota, struct reader *reader)
{
    lock_take(&rota->lock);
    if (rota->n_idle < READERS_IDLE) {
        rota->idle[rota->n_idle++] = reader;
        reader = NULL;
    }
    lock_drop(&rota->lock);
    reader_close(reader);
}

static enum rota_error
outcome_read(struct rota *rota, int64_t id, struct rota_outcome *ret_outcome)
{
    enum rota_error error;
    struct reader *reader = reader_acquire(rota, &error);

    if (reader == NULL)
        return error;
    error = reader_outcome(reader, id, ret_outcome);
    reader_release(rota, reader);
    return error;
}

/* An outcome that was seen must not be lost with the power. */
static enum rota_error
make_durable(struct rota *rota, bool is_durable)
{
    struct request request = {.kind = REQUEST_SYNC};

    if (is_durable || rota->readonly ||
        (rota->options.flags & ROTA_NORMAL) != 0)
        return ROTA_OK;
    return request_run(rota, &request);
}

static void
waiter_join(struct rota *rota, struct waiter *waiter)
{
    lock_take(&rota->lock);
    list_append(&rota->waiters, &waiter->on_waiters);
    lock_drop(&rota->lock);
}

static void
waiter_leave(struct rota *rota, struct waiter *waiter)
{
    lock_take(&rota->lock);
    list_remove(&waiter->on_waiters);
    lock_drop(&rota->lock);
}

/* Wait for news of waiter->id, or a while. ROTA_OK, or ctx_err(ctx). */
static enum rota_error
waiter_sleep(struct rota *rota, struct ctx *ctx, struct waiter *waiter)
{
    enum rota_error error = wake_wait_ctx(
        &waiter->wake, ctx, saturating_add(ctx_now(), LOOK_AGAIN));

    waiter_leave(rota, waiter); /* nobody touches the wake from here on */
    if (error == ROTA_CANCELED || error == ROTA_DEADLINE ||
        error == ROTA_NOMEM) {
        message_set("%s", ctx_cause(ctx));
        return error;
    }
    atomic_store_explicit(&waiter->wake.word, 0, memory_order_relaxed);
    waiter_join(rota, waiter);
    return ROTA_OK;
}

enum rota_error
rota_wait(struct ctx *ctx, struct rota *rota, int64_t id,
          struct rota_outcome *ret_outcome)
{
    struct waiter waiter = {.id = id};
    struct rota_outcome outcome = ROTA_OUTCOME_INIT;
    enum rota_error error = outside_start(rota);

    if (ctx == NULL)
        ctx = ctx_background();
    if (error != ROTA_OK)
        return error;
    waiter_join(rota, &waiter); /* before looking: no news is lost between */
    for (;;) {
        error = outcome_read(rota, id, &outcome);
        if ((error != ROTA_OK && error != ROTA_BUSY) ||
            outcome.state >= ROTA_SUCCEEDED)
            break;
        error = waiter_sleep(rota, ctx, &waiter);
        if (error != ROTA_OK)
            return error;
    }
    waiter_leave(rota, &waiter);
    if (error == ROTA_OK)
        error = make_durable(
            rota, atomic_load_explicit(&waiter.durable, memory_order_relaxed));
    if (error == ROTA_OK && ret_outcome != NULL)
        *ret_outcome = outcome;
    return error;
}

enum rota_error
rota_drain(struct ctx *ctx, struct rota *rota)
{
    struct waiter waiter = {.id = 0};
    enum rota_error error = ROTA_OK;
    struct waiting waiting = {0};
    struct reader *reader;
    bool quiet;

    if (store_is_inherited(rota->store))
        return ROTA_INVALID;
    if (!rota->started || rota->stepping) {
        message_set("rota_start() comes before rota_drain()");
        return ROTA_INVALID;
    }
    if (is_own_job(rota, "drain"))
        return ROTA_INVALID;
    if (ctx == NULL)
        ctx = ctx_background();
    waiter_join(rota, &waiter);
    for (;;) {
        reader = reader_acquire(rota, &error);
        if (reader == NULL)
            break;
        error = reader_waiting(reader, &rota->scope, &waiting);
        reader_release(rota, reader);
        /* after the look: what was claimed or came back before it is known by
         * now */
        lock_take(&rota->lock);
        quiet = engine_is_quiet(rota);
        lock_drop(&rota->lock);
        if (error != ROTA_OK ||
            (quiet && !waiting.ready && !waiting.limited &&
             !waiting.unsettled && waiting.next > rota_now(rota)))
            break;
        error = waiter_sleep(rota, ctx, &waiter);
        if (error != ROTA_OK)
            return error;
    }
    waiter_leave(rota, &waiter);
    return error;
}

/* ctx's deadline as the file keeps it; 0: none. */
static int64_t
deadline_in_file(struct rota *rota, struct ctx *ctx)
{
    int64_t left = ctx_remaining(ctx);

    return left == ROTA_FOREVER || left > ROTA_SEC(1000000000)
               ? 0
               : rota_now(rota) + (left + 999999) / 1000000;
}

static enum rota_error
wait_a_little(struct rota *rota, int64_t id, struct rota_outcome *ret_outcome)
{
    struct ctx *ctx = ctx_with_timeout(ctx_background(), ROTA_MS(100));
    enum rota_error error = rota_wait(ctx, rota, id, ret_outcome);

    ctx_end(ctx);
    return error;
}

enum rota_error
rota_run(struct ctx *ctx, struct rota *rota,
         const struct rota_submission *submission,
         struct rota_outcome *ret_outcome)
{
    struct rota_submission own = {0};
    struct request chores = {.kind = REQUEST_CHORES};
    int64_t deadline, id;
    enum rota_error error;

    if (ctx == NULL)
        ctx = ctx_background();
    error = submission_check(rota, submission);
    if (error != ROTA_OK)
        return error;
    own = *submission;
    deadline = deadline_in_file(rota, ctx);
    if (deadline != 0 && (own.deadline == 0 || deadline < own.deadline))
        own.deadline = deadline;
    if (ctx_done(ctx)) {
        message_set("%s", ctx_cause(ctx));
        return ctx_err(ctx);
    }
    error = rota_submit(rota, &own, &id);
    if (error != ROTA_OK)
        return error;
    error = rota_wait(ctx, rota, id, ret_outcome);
    if (!ctx_done(ctx) || (error != ROTA_CANCELED && error != ROTA_DEADLINE))
        return error;
    /* a running job has the same deadline, and ends by itself */
    if (error == ROTA_DEADLINE)
        error = wait_a_little(rota, id, ret_outcome);
    if (error == ROTA_OK)
        return ROTA_OK;
    /* a waiting one fails by the same deadline, if somebody looks */
    if (error == ROTA_DEADLINE)
        (void)request_run(rota, &chores);
    error = rota_cancel(rota, id, ctx_cause(ctx), NULL);
    if (error != ROTA_OK)
        return error;
    return rota_wait(ctx_background(), rota, id, ret_outcome);
}

/* -- Query ---------------------------------------------------------------- */

enum rota_error
rota_query(struct ctx *ctx, struct rota *rota, const char *sql,
           const struct rota_value *params, int n, rota_row_fn *fn, void *arg)
{
    struct rota_sqlite bound;
    enum rota_error error;
    struct reader *reader;

    if (ctx == NULL)
        ctx = ctx_background();
    if (ctx_done(ctx)) {
        message_set("%s", ctx_cause(ctx));
        return ctx_err(ctx);
    }
    if (sql == NULL || fn == NULL) {
        message_set("a query is a statement and a function for its rows");
        return ROTA_INVALID;
    }
    reader = reader_acquire(rota, &error);
    if (reader == NULL)
        return error;
    rota_sqlite_bind(&bound, ctx, reader_db(reader));
    error = reader_query(reader, sql, params, params == NULL ? 0 : n, fn, arg);
    rota_sqlite_unbind(&bound);
    reader_release(rota, reader);
    if (error == ROTA_CANCELED && ctx_done(ctx)) {
        message_set("%s", ctx_cause(ctx));
        return ctx_err(ctx);
    }
    return error;
}
