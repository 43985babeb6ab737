/*
 * A batch in one transaction: what ended, what callers ask, progress, what
 * concerns others, and claims for the workers that are free. By the holder of
 * the writer's role, who owns the store; rota.lock is taken only where memory
 * that others see changes.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/batch.h"

/* How many jobs are told of others' ends in one cycle. */
#define SETTLE_MAX 1000

/* Have the file know the kinds handled here, and how their jobs are run. */
static enum rota_error
kinds_record(struct rota *rota)
{
    enum rota_error error = ROTA_OK;
    struct kind *kind;

    lock_take(&rota->lock);
    kind = rota->kinds; /* those behind it stay as they are */
    lock_drop(&rota->lock);
    for (; error == ROTA_OK && kind != NULL; kind = kind->next) {
        int attempts = kind->defaults.max_attempts;
        int64_t timeout_ms = /* rounded up: 0 is none */
            saturating_add(kind->defaults.timeout, 999999) / 1000000;

        error = store_kind(rota->store, kind->name, attempts > 0 ? attempts : 1,
                           timeout_ms, &kind->number);
    }
    return error;
}

static enum rota_error
begin_process(struct rota *rota, struct request *request)
{
    enum rota_error error = kinds_record(rota);
    int64_t queue = 0;
    size_t n = 0;

    for (struct kind *kind = rota->kinds; error == ROTA_OK && kind != NULL;
         kind = kind->next)
        rota->kind_numbers[n++] = kind->number;
    if (error == ROTA_OK && request->queue != NULL)
        error = store_queue(rota->store, request->queue, &queue);
    if (error == ROTA_OK && queue != 0)
        error = store_queue_is_free(rota->store, queue);
    if (error == ROTA_OK)
        error = store_process_begin(rota->store, rota->options.workers,
                                    &request->id);
    for (size_t i = 0; error == ROTA_OK && i < n; i++)
        error = store_handle(rota->store, request->id, rota->kind_numbers[i]);
    if (error == ROTA_OK && queue != 0)
        error = store_own_queue(rota->store, queue, request->id);
    rota->scope.queue = queue;
    return error;
}

/* The job that the workers were started for has come. It is claimed in the same
 * transaction, before anybody else sees it. */
static void
scope_take(struct rota *rota, int64_t id)
{
    lock_take(&rota->lock);
    rota->scope.job = id;
    lock_drop(&rota->lock);
}

static enum rota_error
cancel_many(struct store *store, struct request *request)
{
    enum rota_error error = ROTA_OK;

    for (size_t i = 0; error == ROTA_OK && i < request->n; i++) {
        request->answers[i] = ROTA_CANCEL_TOO_LATE;
        error = store_cancel(store, request->ids[i], request->reason,
                             &request->answers[i]);
        if (error == ROTA_NOTFOUND) /* forgotten meanwhile */
            error = ROTA_OK;
    }
    return error;
}

static enum rota_error
log_refuses(struct rota *rota, struct request *request)
{
    char who[128];
    bool is_kept;

    store_log_readers(rota->store, who, sizeof(who));
    request->error = ROTA_FULL;
    (void)snprintf(request->message, sizeof(request->message),
                   "%s-wal is %jd MiB long, and takes no more jobs until the "
                   "long read of %s has ended",
                   rota->path,
                   (intmax_t)(store_log_size(rota->store, &is_kept) >> 20),
                   who[0] != '\0' ? who : "this process");
    return ROTA_OK;
}

static struct progress
progress_of(const struct rota_job *job, int64_t cursor)
{
    return (struct progress){.id = job->claim.id,
                             .lease = job->claim.lease,
                             .started_at = job->started_at,
                             .cursor = cursor,
                             .total = job->total,
                             .base = job->base,
                             .base_at = job->base_at};
}

static enum rota_error
request_do(struct rota *rota, struct request *request)
{
    struct store *store = rota->store;
    enum rota_error error = ROTA_OK;
    struct progress progress;

    if (request->kind != REQUEST_SUBMIT)
        error = store_line_up(store);
    if (error != ROTA_OK)
        return error;
    switch (request->kind) {
    case REQUEST_SUBMIT:
        if (rota->log_full)
            return log_refuses(rota, request);
        error =
            store_submit(store, request->submissions, request->n, request->ids);
        if (error == ROTA_OK && rota->takes_next && rota->scope.job < 0)
            scope_take(rota, request->ids[0]);
        break;
    case REQUEST_CANCEL:
        error =
            store_cancel(store, request->id, request->reason, &request->answer);
        break;
    case REQUEST_CANCEL_MANY:
        error = cancel_many(store, request);
        break;
    case REQUEST_RETRY:
        error = store_retry(store, request->id, request->restart);
        break;
    case REQUEST_RESCHEDULE:
        error = store_reschedule(store, request->id, request->priority,
                                 request->run_at);
        break;
    case REQUEST_LIMIT:
        error = store_set_limit(store, request->queue, request->limit_key,
                                request->count);
        break;
    case REQUEST_RETAIN:
        error = store_retain(store, request->queue, request->count);
        break;
    case REQUEST_PRUNE:
        error = store_prune(store, request->ids, request->n, request->next,
                            &request->count);
        break;
    case REQUEST_PAUSE:
    case REQUEST_RESUME:
        error =
            store_pause(store, request->queue, request->kind == REQUEST_PAUSE);
        break;
    case REQUEST_COMMIT:
        progress = progress_of(request->job, request->cursor);
        error = store_progress(store, &progress);
        break;
    case REQUEST_SYNC:
        error = store_touch(store);
        break;
    case REQUEST_CHORES:
        error = store_promote(store, &request->next);
        break;
    case REQUEST_RESCUE:
        error = store_rescue(store, request->id, &request->count);
        break;
    case REQUEST_BEGIN_PROCESS:
        error = begin_process(rota, request);
        break;
    case REQUEST_END_PROCESS:
        error = store_process_end(store, request->id);
        break;
    }
    return error;
}

/* Carry out a request. Answers that leave the transaction whole go to
 * request->error; what is returned breaks it. */
static enum rota_error
request_apply(struct rota *rota, struct request *request)
{
    enum rota_error error;

    request->error = ROTA_OK;
    error = request_do(rota, request);
    /* answers to this one, and nothing was changed: the others go on */
    if (error != ROTA_NOTFOUND && error != ROTA_LOST && error != ROTA_INVALID &&
        error != ROTA_EXISTS)
        return error;
    request->error = error;
    (void)snprintf(request->message, sizeof(request->message), "%s",
                   message_get());
    return ROTA_OK;
}

static enum rota_error
ended_apply(struct rota *rota, struct batch *batch, struct rota_job *job)
{
    struct progress progress = progress_of(job, job->cursor);
    struct ending ending = {.id = job->claim.id,
                            .lease = job->claim.lease,
                            .started_at = job->started_at,
                            .delivered_at = job->delivered_at,
                            .error = job->error,
                            .stop = job->stop,
                            .never_started = job->never_started,
                            .process = rota->process,
                            .failures = job->claim.failures,
                            .max_attempts = job->max_attempts,
                            .snooze_ms = job->snooze_ms,
                            .progress = job->cursor != job->flushed_cursor ||
                                                job->total != job->flushed_total
                                            ? &progress
                                            : NULL,
                            .reason = job->cancel_reason,
                            .message = job->message,
                            .result = job->result,
                            .result_size = job->result_size};
    enum rota_state state;
    enum rota_error error = store_end(rota->store, &ending, &state);

    if (error == ROTA_LOST) {
        rota_say(rota, job->claim.id,
                 "run %" PRId64 " was overtaken: its outcome is not recorded",
                 job->claim.lease);
        return ROTA_OK;
    }
    if (error != ROTA_OK)
        return error;
    job->came_to = state;
    job->has_come = !job->never_started;
    batch->may_return |= state == ROTA_READY;
    return ROTA_OK;
}

static enum rota_error
dirty_apply(struct rota *rota, struct batch *batch)
{
    enum rota_error error = ROTA_OK;

    for (size_t i = 0; error == ROTA_OK && i < batch->n_dirty; i++) {
        error = store_progress(rota->store, &batch->dirty[i]);
        if (error == ROTA_LOST) {
            batch->dirty[i].lease = 0; /* told after the commit */
            error = ROTA_OK;
        }
    }
    return error;
}

struct claiming {
    struct rota *rota;
    struct batch *batch;
};

bool
must_be_alone(const struct claim *claim)
{
    return claim->crashes >= CRASHES_ALONE;
}

/* Whether a job that must be alone keeps this one from being claimed now: it
 * is that job, or comes behind it. The end of those that are claimed is news
 * (outside.c), and then it is offered again. */
static bool
must_wait(const struct batch *batch, const struct claim *claim)
{
    if (must_be_alone(claim))
        return !batch->idle || batch->n_claimed > 0;
    return batch->n_claimed > 0 && must_be_alone(&batch->claimed[0]->claim);
}

static bool
claim_taken(void *arg, const struct claim *claim)
{
    struct claiming *claiming = arg;
    struct batch *batch = claiming->batch;
    struct rota_job *job;

    if (must_wait(batch, claim))
        return false;
    job = job_new(claiming->rota, claim);
    batch->no_memory = job == NULL;
    if (job == NULL)
        return false;
    batch->claimed[batch->n_claimed++] = job;
    batch->claimed_bytes += claim->args_size;
    return true;
}

static enum rota_error
claims_apply(struct rota *rota, struct batch *batch)
{
    struct claiming claiming = {rota, batch};
    enum rota_error error;

    if (batch->claim_limit == 0 ||
        (!batch->looks && !store_made_ready(rota->store)))
        return ROTA_OK;
    batch->looks = true;
    batch->claimed = calloc(batch->claim_limit, sizeof(struct rota_job *));
    if (batch->claimed == NULL)
        return no_memory();
    error = store_claim(rota->store, &rota->scope, batch->claim_limit,
                        claim_taken, &claiming, &batch->rest);
    lock_take(&rota->lock);
    rota->active += (int64_t)batch->n_claimed;
    rota->args_bytes += batch->claimed_bytes;
    lock_drop(&rota->lock);
    return error == ROTA_OK && batch->no_memory ? no_memory() : error;
}

void
batch_unclaim(struct rota *rota, struct batch *batch)
{
    for (size_t i = 0; i < batch->n_claimed; i++)
        job_free(batch->claimed[i]);
    lock_take(&rota->lock);
    rota->active -= (int64_t)batch->n_claimed;
    rota->args_bytes -= batch->claimed_bytes;
    if (batch->claim_limit > 0)
        rota->maybe_ready = true;
    lock_drop(&rota->lock);
    batch->n_claimed = batch->claimed_bytes = 0;
    free(batch->claimed);
    batch->claimed = NULL;
    batch->claim_limit = 0;
}

enum rota_error
batch_write(struct rota *rota, struct batch *batch, bool *ret_began)
{
    enum rota_error error = store_begin(rota->store, batch->durable);

    *ret_began = error == ROTA_OK;
    if (error != ROTA_OK)
        return error;
    store_expect(rota->store, &rota->scope, batch->claim_limit);
    for (struct rota_job *job = batch->ended; error == ROTA_OK && job != NULL;
         job = job->next_ended)
        error = ended_apply(rota, batch, job);
    for (struct link *l = batch->requests.next;
         error == ROTA_OK && l != &batch->requests; l = l->next)
        error = request_apply(rota, OWNER_OF(l, struct request, on_requests));
    if (error == ROTA_OK)
        error = dirty_apply(rota, batch);
    if (error == ROTA_OK)
        error = store_settle(rota->store, SETTLE_MAX, &batch->unsettled);
    if (error == ROTA_OK)
        error = claims_apply(rota, batch);
    if (error != ROTA_OK)
        store_rollback(rota->store);
    else
        error = store_commit(rota->store);
    if (error != ROTA_OK) {
        if (rota->takes_next)
            scope_take(rota, -1); /* it has not come after all */
        return error;
    }
    atomic_store_explicit(&rota->unsynced, !batch->durable,
                          memory_order_relaxed);
    return ROTA_OK;
}
