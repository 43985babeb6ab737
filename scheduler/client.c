/*
 * What callers ask from outside a job: submit, cancel, retry, pause, wait, run,
 * query.
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

#include "engine.h"

/* A wait reads the file anew so often even if nobody tells it to. */
#define LOOK_AGAIN ROTA_SEC(1)

/* -- Submit --------------------------------------------------------------- */

static bool
name_is_valid(const char *name, const char *what)
{
    size_t length = strlen(name);

    if (length >= 1 && length <= 255 && text_is_utf8(name, length))
        return true;
    message_set("%s must be a text (UTF-8) of 1 to 255 bytes", what);
    return false;
}

/* The rules of the SQL command's trigger, said in C. */
static enum rota_error
submission_check(const struct rota_submission *s)
{
    if (s->size != sizeof(*s) || s->kind == NULL) {
        message_set("a submission starts as ROTA_SUBMISSION_INIT(kind)");
        return ROTA_INVALID;
    }
    if (!name_is_valid(s->kind, "kind") ||
        (s->queue != NULL && !name_is_valid(s->queue, "queue")) ||
        (s->batch != NULL && !name_is_valid(s->batch, "batch")))
        return ROTA_INVALID;
    if (s->args == NULL && s->args_size > 0) {
        message_set("args are missing, but not their size");
        return ROTA_INVALID;
    }
    if (s->args_size > 500000000) {
        message_set("args must not be longer than 500,000,000 bytes; put what "
                    "is larger into a file and submit its name");
        return ROTA_INVALID;
    }
    if (s->priority < -1000000 || s->priority > 1000000) {
        message_set("priority must be from -1000000 to 1000000");
        return ROTA_INVALID;
    }
    if (s->run_at < 0 || s->run_at > 99999999999999 || s->deadline < 0 ||
        s->deadline > 99999999999999) {
        message_set("run_at and deadline must be Unix milliseconds");
        return ROTA_INVALID;
    }
    if (s->timeout < 0 || s->max_attempts < 0 || s->max_attempts > 1000000) {
        message_set("timeout must not be negative, max_attempts be from 1 to "
                    "1000000");
        return ROTA_INVALID;
    }
    return ROTA_OK;
}

static enum rota_error
writable(const struct rota *rota)
{
    if (!rota->readonly)
        return ROTA_OK;
    message_set("%s was opened to look only", rota->path);
    return ROTA_INVALID;
}

enum rota_error
rota_rescue(struct rota *rota)
{
    enum rota_error error = writable(rota);

    return error == ROTA_OK ? outside_rescue(rota) : error;
}

enum rota_error
rota_submit_many(struct rota *rota, const struct rota_submission *submissions,
                 size_t n, int64_t *ret_ids)
{
    struct request request = {
        .kind = REQUEST_SUBMIT, .submissions = submissions, .n = n};
    enum rota_error error = writable(rota);

    for (size_t i = 0; error == ROTA_OK && i < n; i++)
        error = submission_check(&submissions[i]);
    if (error != ROTA_OK || n == 0)
        return error;
    request.ids = calloc(n, sizeof(*request.ids));
    if (request.ids == NULL)
        return ROTA_NOMEM;
    error = request_run(rota, &request);
    if (error == ROTA_OK && ret_ids != NULL)
        memcpy(ret_ids, request.ids, n * sizeof(*ret_ids));
    free(request.ids);
    return error;
}

enum rota_error
rota_submit(struct rota *rota, const struct rota_submission *submission,
            int64_t *ret_id)
{
    return rota_submit_many(rota, submission, 1, ret_id);
}

/* -- Cancel --------------------------------------------------------------- */

enum rota_error
rota_cancel(struct rota *rota, int64_t id, const char *reason,
            enum rota_cancel_answer *ret_answer)
{
    struct request request = {
        .kind = REQUEST_CANCEL, .id = id, .reason = reason};
    enum rota_error error = writable(rota);
    bool told;

    if (error != ROTA_OK)
        return error;
    /* delivered in memory first, recorded next, acknowledged last */
    told = job_cancel(rota, id, 0, reason);
    error = request_run(rota, &request);
    if (error != ROTA_OK)
        return error;
    if (!told && request.answer == ROTA_CANCEL_REQUESTED)
        told = job_cancel(rota, id, 0, reason); /* claimed meanwhile */
    else if (told && request.answer == ROTA_CANCEL_TOO_LATE)
        request.answer = ROTA_CANCEL_REQUESTED; /* it ended of this */
    if (ret_answer != NULL)
        *ret_answer = request.answer;
    return ROTA_OK;
}

/* -- Retry, pause, resume -------------------------------------------------- */

static enum rota_error
command(struct rota *rota, struct request *request)
{
    enum rota_error error = writable(rota);

    return error == ROTA_OK ? request_run(rota, request) : error;
}

enum rota_error
rota_retry(struct rota *rota, int64_t id)
{
    struct request request = {.kind = REQUEST_RETRY, .id = id};

    return command(rota, &request);
}

static enum rota_error
queue_command(struct rota *rota, enum request_kind kind, const char *queue)
{
    struct request request = {.kind = kind,
                              .queue = queue != NULL ? queue : "default"};

    return name_is_valid(request.queue, "queue") ? command(rota, &request)
                                                 : ROTA_INVALID;
}

enum rota_error
rota_pause(struct rota *rota, const char *queue)
{
    return queue_command(rota, REQUEST_PAUSE, queue);
}

enum rota_error
rota_resume(struct rota *rota, const char *queue)
{
    return queue_command(rota, REQUEST_RESUME, queue);
}

/* -- Wait ----------------------------------------------------------------- */

struct reader *
reader_acquire(struct rota *rota, enum rota_error *error)
{
    struct reader *reader = NULL;

    lock_take(&rota->lock);
    if (rota->n_idle > 0)
        reader = rota->idle[--rota->n_idle];
    lock_drop(&rota->lock);
    *error = reader != NULL ? ROTA_OK : reader_open(rota->path, &reader);
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
    struct reader *reader;
    int64_t next = 0;
    bool ready = false, quiet;

    if (!rota->started) {
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
        error = reader_waiting(reader, &rota->scope, &ready, &next);
        reader_release(rota, reader);
        /* after the look: what was claimed or came back before it is known by
         * now */
        lock_take(&rota->lock);
        quiet = engine_is_quiet(rota);
        lock_drop(&rota->lock);
        if (error != ROTA_OK || (!ready && quiet && next > store_now()))
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
deadline_in_file(struct ctx *ctx)
{
    int64_t left = ctx_remaining(ctx);

    return left == ROTA_FOREVER || left > ROTA_SEC(1000000000)
               ? 0
               : store_now() + (left + 999999) / 1000000;
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
    struct rota_submission own = *submission;
    int64_t deadline, id;
    enum rota_error error;

    if (ctx == NULL)
        ctx = ctx_background();
    deadline = deadline_in_file(ctx);
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
