/*
 * The writer's role: whoever has it owns the store, the one connection that
 * writes, and carries out one cycle at a time. A cycle is one transaction:
 * record what ended, do what callers ask, write progress down, claim for the
 * slots that are free. What arrives during a commit forms the next cycle.
 *
 * The role is the flag rota.writing, under rota.lock. A caller takes it if it
 * is free and so commits on its own thread; otherwise it sleeps until another
 * has answered it, or handed it the role. The writer thread takes it for work
 * that no caller waits for. rota.lock is not held during a cycle but for
 * gathering work and publishing answers. Contexts' callbacks do not run under
 * the role, except for jobs that were lost.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine.h"

/* Ends are gathered for so long, as long as nobody waits for one and the
 * workers have enough to do meanwhile: one commit for many. */
#define LINGER ROTA_MS(10)

/* After the store failed, what waits in memory is tried again so often. */
#define RETRY_EVERY ROTA_MS(200)

/* A job that ignores that its context has ended. */
struct deaf {
    int64_t id, time;
    const char *kind;
    struct ctx *ctx; /* a reference */
};

/* The work of one cycle. */
struct batch {
    struct link requests;
    struct rota_job *ended; /* oldest first, by next_ended */
    struct progress *dirty; /* progress that the file lacks */
    size_t n_dirty;
    struct deaf *deaf; /* to be told of */
    size_t n_deaf;
    bool newly_stuck;
    struct rota_job **claimed;
    size_t n_claimed, claim_limit;
    size_t n_ended;
    bool durable;
    bool idle;       /* nothing is claimed here but what has ended */
    bool no_memory;  /* for a claim */
    bool may_return; /* a job that ended is ready again */
};

/* -- Gathering ------------------------------------------------------------ */

/* The jobs that have ended since the last cycle, behind those that an earlier
 * one could not record. */
static void
gather_ended(struct rota *rota, struct batch *batch)
{
    struct rota_job *job, *next, *in_order = NULL, **end = &batch->ended;

    rota->linger_until = 0;
    job = atomic_exchange_explicit(&rota->ended, NULL, memory_order_acquire);
    for (; job != NULL; job = next) {
        next = job->next_ended;
        job->next_ended = in_order;
        in_order = job;
    }
    batch->ended = rota->unrecorded;
    rota->unrecorded = NULL;
    while (*end != NULL)
        end = &(*end)->next_ended;
    *end = in_order;
    for (job = batch->ended; job != NULL; job = job->next_ended)
        batch->n_ended++;
}

static bool
job_is_dirty(const struct rota_job *job, int64_t cursor, int64_t total)
{
    return job->place == JOB_RUNNING &&
           (cursor != job->flushed_cursor || total != job->flushed_total ||
            job->stuck_since != job->flushed_stuck || !job->flushed_start);
}

/* See whether a running job ignores that its context has ended. It is to be
 * told of when its grace is over, and whenever the time has doubled since. */
static void
gather_deaf(struct rota *rota, struct batch *batch, struct rota_job *job,
            int64_t now)
{
    int64_t grace =
        job->kind->defaults.grace > 0 ? job->kind->defaults.grace : GRACE;
    struct deaf *grown;

    if (job->place != JOB_RUNNING || !ctx_done(job->ctx))
        return;
    if (job->told_at == 0) {
        job->told_at = now;
        job->say_at = saturating_add(now, grace);
    }
    if (now < job->say_at)
        return;
    job->say_at = saturating_add(now, now - job->told_at);
    if (job->stuck_since == 0) {
        job->stuck_since = store_now() - (now - job->told_at) / 1000000;
        rota->stuck++;
        batch->newly_stuck = true;
    }
    grown = realloc(batch->deaf, (batch->n_deaf + 1) * sizeof(*grown));
    if (grown == NULL)
        return; /* the view says it */
    batch->deaf = grown;
    grown[batch->n_deaf++] = (struct deaf){.id = job->claim.id,
                                           .kind = job->kind->name,
                                           .ctx = ctx_ref(job->ctx),
                                           .time = now - job->told_at};
}

/* Note the progress of every running job that has made some, and those that
 * should have stopped. */
static void
gather_progress(struct rota *rota, struct batch *batch, int64_t now)
{
    size_t room = (size_t)rota->active;

    batch->dirty = room == 0 ? NULL : calloc(room, sizeof(*batch->dirty));
    if (batch->dirty == NULL)
        return; /* later, then */
    for (int b = 0; b < JOB_BUCKETS; b++)
        for (struct link *l = rota->jobs[b].next; l != &rota->jobs[b];
             l = l->next) {
            struct rota_job *job = OWNER_OF(l, struct rota_job, on_bucket);
            int64_t cursor =
                atomic_load_explicit(&job->cursor, memory_order_relaxed);
            int64_t total =
                atomic_load_explicit(&job->total, memory_order_relaxed);

            gather_deaf(rota, batch, job, now);
            if (!job_is_dirty(job, cursor, total) || batch->n_dirty == room)
                continue;
            batch->dirty[batch->n_dirty++] = (struct progress){
                .id = job->claim.id,
                .lease = job->claim.lease,
                .started_at = atomic_load_explicit(&job->started_at,
                                                   memory_order_relaxed),
                .cursor = cursor,
                .total = total,
                .base = atomic_load_explicit(&job->base, memory_order_relaxed),
                .base_at =
                    atomic_load_explicit(&job->base_at, memory_order_relaxed),
                .stuck_since = job->stuck_since};
        }
}

/* Claims that no worker has come to while others were idle elsewhere: mark
 * them to be given back. */
static void
gather_released(struct rota *rota, struct batch *batch)
{
    bool stuck = rota->unstarted > 0 && rota->starts == rota->starts_seen;

    rota->starts_seen = rota->starts;
    if (!stuck)
        return;
    for (int b = 0; b < JOB_BUCKETS; b++)
        for (struct link *l = rota->jobs[b].next; l != &rota->jobs[b];
             l = l->next) {
            struct rota_job *job = OWNER_OF(l, struct rota_job, on_bucket);

            if (job->place != JOB_CLAIMED)
                continue;
            job->place = JOB_RELEASED;
            job->never_started = true;
            job->error = ROTA_CANCELED;
            job->stop = ROTA_STOP_SHUTDOWN;
            job->next_ended = batch->ended;
            batch->ended = job;
            rota->unstarted--;
        }
    rota->prefetch = 0;
}

static bool
is_claiming(const struct rota *rota)
{
    return rota->started && !rota->stopping && !rota->closing &&
           !ctx_done(rota->run_ctx);
}

bool
engine_is_quiet(const struct rota *rota)
{
    return rota->active == 0 && !rota->claiming &&
           !(rota->maybe_ready && is_claiming(rota));
}

static int64_t
room_for_claims(const struct rota *rota)
{
    if (rota->alone)
        return 0;
    return pool_workers(rota->pool) + rota->prefetch - rota->active;
}

/* How many jobs to claim: one for each worker, and as many ahead as end while
 * a cycle lasts. Jobs that take long are not claimed ahead, so that they stay
 * free for other processes. */
static size_t
claim_limit(struct rota *rota, const struct batch *batch)
{
    int64_t now = ctx_now(), ended = (int64_t)batch->n_ended, limit;

    if (ended > 0) {
        rota->prefetch =
            (now - rota->last_cycle) / ended < ROTA_MS(5) ? 2 * ended : 0;
        if (rota->prefetch > PREFETCH_MAX)
            rota->prefetch = PREFETCH_MAX;
        rota->last_cycle = now;
    }
    if (!is_claiming(rota) ||
        (!rota->maybe_ready && list_is_empty(&batch->requests)))
        return 0;
    limit = room_for_claims(rota) + ended;
    return limit > 0 ? (size_t)limit : 0;
}

static bool
somebody_waits_for(const struct rota *rota, const struct rota_job *ended)
{
    for (; ended != NULL; ended = ended->next_ended)
        for (const struct link *l = rota->waiters.next; l != &rota->waiters;
             l = l->next)
            if (OWNER_OF(l, struct waiter, on_waiters)->id == ended->claim.id)
                return true;
    return false;
}

static void
gather(struct rota *rota, struct batch *batch)
{
    int64_t now = ctx_now();

    *batch = (struct batch){0};
    list_init(&batch->requests);
    lock_take(&rota->lock);
    list_splice(&batch->requests, &rota->requests);
    if (!list_is_empty(&batch->requests) || now >= rota->retry_at)
        gather_ended(rota, batch);
    if (rota->flush_now || now >= rota->next_flush) {
        if (now >= rota->next_flush)
            gather_released(rota, batch);
        gather_progress(rota, batch, now);
        rota->flush_now = false;
        rota->next_flush = now + FLUSH_EVERY;
    }
    batch->claim_limit = now >= rota->retry_at ? claim_limit(rota, batch) : 0;
    batch->idle = rota->active == (int64_t)batch->n_ended;
    rota->claiming = batch->claim_limit > 0;
    if (rota->claiming)
        rota->maybe_ready = false; /* before the claim looks, so that news that
                                    * comes while it does is not forgotten */
    batch->durable = (rota->options.flags & ROTA_NORMAL) == 0 &&
                     (!list_is_empty(&batch->requests) ||
                      somebody_waits_for(rota, batch->ended));
    lock_drop(&rota->lock);
}

/* Under rota.lock: tell those who wait for this job, or for any news. */
static void
waiters_tell(struct rota *rota, int64_t id, bool durable)
{
    for (struct link *l = rota->waiters.next; l != &rota->waiters;
         l = l->next) {
        struct waiter *waiter = OWNER_OF(l, struct waiter, on_waiters);

        if (waiter->id != id && waiter->id != 0)
            continue;
        if (durable)
            atomic_store_explicit(&waiter->durable, true, memory_order_relaxed);
        wake_up(&waiter->wake, WAKE_SET);
    }
}

/* Say which jobs ignore their context, and wake who waits for them to end. */
static void
deaf_tell(struct rota *rota, struct batch *batch)
{
    for (size_t i = 0; i < batch->n_deaf; i++) {
        struct deaf *deaf = &batch->deaf[i];

        rota_say(rota, deaf->id,
                 "%s has ignored for %.1f s that it should stop: %s",
                 deaf->kind, (double)deaf->time / 1e9, ctx_cause(deaf->ctx));
        ctx_unref(deaf->ctx);
    }
    free(batch->deaf);
    batch->deaf = NULL;
    if (!batch->newly_stuck)
        return;
    lock_take(&rota->lock);
    waiters_tell(rota, 0, false);
    lock_drop(&rota->lock);
}

static bool
batch_is_empty(const struct batch *batch)
{
    return list_is_empty(&batch->requests) && batch->ended == NULL &&
           batch->n_dirty == 0 && batch->claim_limit == 0;
}

/* -- Writing -------------------------------------------------------------- */

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

/* Carry out a request. Answers that leave the transaction whole go to
 * request->error; what is returned breaks it. */
static enum rota_error
request_apply(struct rota *rota, struct request *request)
{
    struct store *store = rota->store;
    enum rota_error error = ROTA_OK;
    struct progress progress;

    request->error = ROTA_OK;
    switch (request->kind) {
    case REQUEST_SUBMIT:
        if (rota->process == 0) /* rota_start() does it, too */
            error = kinds_record(rota);
        for (size_t i = 0; error == ROTA_OK && i < request->n; i++)
            error =
                store_submit(store, &request->submissions[i], &request->ids[i]);
        if (error == ROTA_OK && request->n > 0 && rota->takes_next)
            scope_take(rota, request->ids[0]);
        break;
    case REQUEST_CANCEL:
        error =
            store_cancel(store, request->id, request->reason, &request->answer);
        break;
    case REQUEST_RETRY:
        error = store_retry(store, request->id);
        break;
    case REQUEST_PAUSE:
    case REQUEST_RESUME:
        error =
            store_pause(store, request->queue, request->kind == REQUEST_PAUSE);
        break;
    case REQUEST_COMMIT:
        progress = (struct progress){.id = request->job->claim.id,
                                     .lease = request->job->claim.lease,
                                     .started_at = request->job->started_at,
                                     .cursor = request->cursor,
                                     .total = request->job->total,
                                     .base = request->job->base,
                                     .base_at = request->job->base_at};
        error = store_progress(store, &progress);
        break;
    case REQUEST_SYNC:
        error = store_touch(store);
        break;
    case REQUEST_PROMOTE:
        error = store_promote(store, &request->count, &request->next);
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
    /* answers to this one, and nothing was changed: the others go on */
    if (error != ROTA_NOTFOUND && error != ROTA_LOST && error != ROTA_INVALID)
        return error;
    request->error = error;
    (void)snprintf(request->message, sizeof(request->message), "%s",
                   message_get());
    return ROTA_OK;
}

static enum rota_error
ended_apply(struct rota *rota, struct batch *batch, struct rota_job *job)
{
    struct progress progress = {.id = job->claim.id,
                                .lease = job->claim.lease,
                                .started_at = job->started_at,
                                .cursor = job->cursor,
                                .total = job->total,
                                .base = job->base,
                                .base_at = job->base_at};
    struct ending ending = {.id = job->claim.id,
                            .lease = job->claim.lease,
                            .started_at = job->started_at,
                            .delivered_at = job->delivered_at,
                            .error = job->error,
                            .stop = job->stop,
                            .never_started = job->never_started,
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

static bool
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
    return true;
}

static enum rota_error
claims_apply(struct rota *rota, struct batch *batch)
{
    struct claiming claiming = {rota, batch};
    enum rota_error error;

    if (batch->claim_limit == 0)
        return ROTA_OK;
    batch->claimed = calloc(batch->claim_limit, sizeof(struct rota_job *));
    if (batch->claimed == NULL)
        return ROTA_NOMEM;
    error = store_claim(rota->store, &rota->scope, batch->claim_limit,
                        claim_taken, &claiming);
    return error == ROTA_OK && batch->no_memory ? ROTA_NOMEM : error;
}

/* Undo in memory what a transaction that failed had claimed. */
static void
claims_undo(struct rota *rota, struct batch *batch)
{
    for (size_t i = 0; i < batch->n_claimed; i++)
        job_free(batch->claimed[i]);
    lock_take(&rota->lock);
    rota->active -= (int64_t)batch->n_claimed;
    if (batch->claim_limit > 0)
        rota->maybe_ready = true;
    lock_drop(&rota->lock);
    batch->n_claimed = 0;
    free(batch->claimed);
    batch->claimed = NULL;
    batch->claim_limit = 0;
}

/* The whole batch in one transaction. *ret_began: it got past the lock. */
static enum rota_error
write_batch(struct rota *rota, struct batch *batch, bool *ret_began)
{
    enum rota_error error = store_begin(rota->store, batch->durable);

    *ret_began = error == ROTA_OK;
    if (error != ROTA_OK)
        return error;
    for (struct rota_job *job = batch->ended; error == ROTA_OK && job != NULL;
         job = job->next_ended)
        error = ended_apply(rota, batch, job);
    for (struct link *l = batch->requests.next;
         error == ROTA_OK && l != &batch->requests; l = l->next)
        error = request_apply(rota, OWNER_OF(l, struct request, on_requests));
    if (error == ROTA_OK)
        error = dirty_apply(rota, batch);
    if (error == ROTA_OK)
        error = claims_apply(rota, batch);
    if (error != ROTA_OK)
        store_rollback(rota->store);
    else
        error = store_commit(rota->store);
    if (error != ROTA_OK)
        return error;
    atomic_store_explicit(&rota->unsynced, !batch->durable,
                          memory_order_relaxed);
    return ROTA_OK;
}

/* -- Publishing ----------------------------------------------------------- */

/* Answer every request of the batch, with error unless it is ROTA_OK. */
static void
answer(struct rota *rota, struct batch *batch, enum rota_error error)
{
    struct request *request;
    struct link *l;

    lock_take(&rota->lock);
    while ((l = list_take(&batch->requests)) != NULL) {
        request = OWNER_OF(l, struct request, on_requests);
        if (error != ROTA_OK) {
            request->error = error;
            (void)snprintf(request->message, sizeof(request->message), "%s",
                           message_get());
        }
        request->answered = true;
        wake_up(&request->wake, WAKE_SET);
    }
    lock_drop(&rota->lock);
}

static void
ended_tell(struct rota *rota, const struct rota_job *job)
{
    for (; rota->options.ended != NULL && job != NULL; job = job->next_ended)
        if (job->has_come)
            rota->options.ended(rota->options.ended_arg, job->claim.id,
                                job->came_to);
}

/* The ended jobs are in the file: forget them. */
static void
ended_publish(struct rota *rota, struct batch *batch)
{
    struct rota_job *job, *next, *done = NULL;

    if (batch->ended == NULL)
        return;
    ended_tell(rota, batch->ended); /* before they count as gone */
    lock_take(&rota->lock);
    for (job = batch->ended; job != NULL; job = next) {
        next = job->next_ended;
        list_remove(&job->on_bucket);
        rota->active--;
        job->recorded = true;
        waiters_tell(rota, job->claim.id, batch->durable);
        if (job->in_pool)
            continue; /* its worker frees it */
        job->next_ended = done;
        done = job;
    }
    if (rota->active == (int64_t)batch->n_claimed)
        rota->alone = false; /* it has ended */
    if (batch->may_return)
        rota->maybe_ready = true;
    lock_drop(&rota->lock);
    for (job = done; job != NULL; job = next) {
        next = job->next_ended;
        job_free(job);
    }
    batch->ended = NULL;
}

/* Under rota.lock, the job whose progress this was; NULL if it has ended. */
static struct rota_job *
dirty_job(struct rota *rota, const struct progress *progress)
{
    struct rota_job *job = job_find(rota, progress->id);

    return job != NULL &&
                   (progress->lease == 0 || job->claim.lease == progress->lease)
               ? job
               : NULL;
}

static void
dirty_publish(struct rota *rota, struct batch *batch)
{
    for (size_t i = 0; i < batch->n_dirty; i++) {
        const struct progress *progress = &batch->dirty[i];
        struct ctx *ctx = NULL;
        struct rota_job *job;

        lock_take(&rota->lock);
        job = dirty_job(rota, progress);
        if (job != NULL && progress->lease == 0) {
            atomic_store_explicit(&job->lost, true, memory_order_relaxed);
            if (job->ctx != NULL)
                ctx = ctx_ref(job->ctx);
        } else if (job != NULL) {
            job->flushed_cursor = progress->cursor;
            job->flushed_total = progress->total;
            job->flushed_stuck = progress->stuck_since;
            job->flushed_start = true;
            if (rota->alone && progress->cursor > job->claim.cursor) {
                rota->alone = false; /* it gets further: it is not to blame */
                rota->maybe_ready = true;
            }
        }
        lock_drop(&rota->lock);
        if (ctx != NULL)
            (void)ctx_cancel_error(ctx, ROTA_LOST, "%s",
                                   rota_strerror(ROTA_LOST));
        ctx_unref(ctx);
    }
}

/* The claims are committed: now the jobs may run. */
static void
claimed_publish(struct rota *rota, struct batch *batch)
{
    size_t n = batch->n_claimed;

    lock_take(&rota->lock);
    if (n == batch->claim_limit && (n > 0 || !list_is_empty(&batch->requests)))
        rota->maybe_ready = true; /* there may be more than there was room */
    for (size_t i = 0; i < n; i++) {
        struct rota_job *job = batch->claimed[i];

        job->in_pool = true;
        list_append(&rota->jobs[job->claim.id % JOB_BUCKETS], &job->on_bucket);
    }
    rota->unstarted += (int64_t)n;
    rota->claiming = false;
    if (n > 0)
        rota->alone = must_be_alone(&batch->claimed[0]->claim);
    lock_drop(&rota->lock);
    /* room was reserved by rota_start(), and the pool closes after the last
     * job */
    if (n > 0)
        MUST(pool_submit_many(rota->pool, job_run, (void **)batch->claimed, n));
    free(batch->claimed);
    batch->claimed = NULL;
}

static void
publish(struct rota *rota, struct batch *batch)
{
    if (rota->scope.job > 0)
        rota->takes_next = false;
    dirty_publish(rota, batch);
    ended_publish(rota, batch);
    claimed_publish(rota, batch);
    answer(rota, batch, ROTA_OK);
    lock_take(&rota->lock);
    waiters_tell(rota, 0, false);
    lock_drop(&rota->lock);
}

/* -- Failing -------------------------------------------------------------- */

/* Keep what ended in memory until the store works again. */
static void
keep_ended(struct rota *rota, struct rota_job *ended)
{
    struct rota_job **end = &rota->unrecorded;

    if (ended == NULL)
        return;
    while (*end != NULL)
        end = &(*end)->next_ended;
    *end = ended;
    lock_take(&rota->lock);
    rota->retry_at = ctx_now() + RETRY_EVERY;
    lock_drop(&rota->lock);
}

/* One item of a batch that failed as a whole, by itself: everybody gets the
 * answer that is theirs. */
static void
write_single(struct rota *rota, struct batch *single)
{
    struct rota_job *job = single->ended;
    bool began;
    enum rota_error error = write_batch(rota, single, &began);

    if (error == ROTA_OK) {
        ended_publish(rota, single);
    } else if (job != NULL) {
        rota_say(rota, job->claim.id, "its end cannot be recorded yet: %s",
                 message_get());
        keep_ended(rota, job);
    }
    answer(rota, single, error);
}

static void
write_singly(struct rota *rota, struct batch *batch)
{
    struct batch single = {.durable = batch->durable};
    struct rota_job *job, *next;
    struct link *l;

    list_init(&single.requests);
    for (job = batch->ended; job != NULL; job = next) {
        next = job->next_ended;
        job->next_ended = NULL;
        single.ended = job;
        write_single(rota, &single);
    }
    batch->ended = NULL;
    single.ended = NULL;
    while ((l = list_take(&batch->requests)) != NULL) {
        list_append(&single.requests, l);
        write_single(rota, &single);
    }
}

/* -- The role ------------------------------------------------------------- */

/* One cycle. The role held, rota.lock not. */
static void
cycle(struct rota *rota)
{
    struct batch batch;
    enum rota_error error;
    bool began;

    gather(rota, &batch);
    deaf_tell(rota, &batch);
    if (batch_is_empty(&batch)) {
        free(batch.dirty);
        return;
    }
    error = write_batch(rota, &batch, &began);
    if (error == ROTA_OK) {
        publish(rota, &batch);
    } else {
        claims_undo(rota, &batch);
        lock_take(&rota->lock);
        rota->retry_at = ctx_now() + RETRY_EVERY;
        rota->claiming = false;
        waiters_tell(rota, 0, false);
        lock_drop(&rota->lock);
        if (began) {
            write_singly(rota, &batch);
        } else {
            keep_ended(rota, batch.ended);
            answer(rota, &batch, error);
        }
    }
    free(batch.dirty);
}

/* Under rota.lock, by the role's holder: hand it to the next caller, or drop
 * it. */
static void
role_leave(struct rota *rota)
{
    struct request *next;

    if (!list_is_empty(&rota->requests)) {
        next = OWNER_OF(rota->requests.next, struct request, on_requests);
        next->lead = true;
        wake_up(&next->wake, WAKE_SET);
        return;
    }
    rota->writing = false;
    if (rota->has_writer)
        MUST(pthread_cond_signal(&rota->work));
}

enum rota_error
request_run(struct rota *rota, struct request *request)
{
    lock_take(&rota->lock);
    list_append(&rota->requests, &request->on_requests);
    if (rota->writing) {
        lock_drop(&rota->lock);
        (void)wake_wait(&request->wake, ROTA_FOREVER);
        lock_take(&rota->lock); /* answered, or handed the role */
    } else {
        rota->writing = true;
        request->lead = true;
    }
    if (request->lead) {
        while (!request->answered) {
            lock_drop(&rota->lock);
            cycle(rota);
            lock_take(&rota->lock);
        }
        role_leave(rota);
    }
    lock_drop(&rota->lock);
    if (request->error != ROTA_OK)
        message_set("%s", request->message);
    return request->error;
}

void
writer_poke(struct rota *rota)
{
    lock_take(&rota->lock);
    if (!rota->poked) {
        rota->poked = true;
        MUST(pthread_cond_signal(&rota->work));
    }
    lock_drop(&rota->lock);
}

void
writer_tell(struct rota *rota)
{
    lock_take(&rota->lock);
    lock_drop(&rota->lock); /* it is asleep by now, or has yet to look */
    MUST(pthread_cond_signal(&rota->work));
}

bool
engine_is_ahead(const struct rota *rota)
{
    return rota->unstarted >= rota->options.workers &&
           rota->unstarted * 2 >= rota->prefetch;
}

/* Whether what has ended is to be recorded now. */
static bool
ends_are_due(struct rota *rota, int64_t now)
{
    if (atomic_load_explicit(&rota->ended, memory_order_relaxed) == NULL)
        return false;
    if (rota->linger_until == 0)
        rota->linger_until = now + LINGER;
    return now >= rota->linger_until || rota->stopping ||
           !list_is_empty(&rota->waiters) || !engine_is_ahead(rota);
}

/* When the writer thread must look even if nobody pokes it. */
static int64_t
writer_deadline(const struct rota *rota)
{
    int64_t deadline = rota->active > 0 ? rota->next_flush : ROTA_FOREVER;

    if (ctx_now() < rota->retry_at)
        return rota->retry_at < deadline ? rota->retry_at : deadline;
    if (rota->linger_until != 0 && rota->linger_until < deadline)
        deadline = rota->linger_until;
    return deadline;
}

static bool
writer_has_work(struct rota *rota)
{
    int64_t now = ctx_now();

    if (rota->writing)
        return false;
    if (rota->poked || rota->flush_now ||
        (rota->active > 0 && now >= rota->next_flush))
        return true;
    return now >= rota->retry_at &&
           (rota->unrecorded != NULL || ends_are_due(rota, now) ||
            (rota->maybe_ready && is_claiming(rota) &&
             room_for_claims(rota) > 0));
}

static void
writer_sleep(struct rota *rota)
{
    int64_t deadline = writer_deadline(rota);
    struct timespec until = {.tv_sec = deadline / 1000000000,
                             .tv_nsec = deadline % 1000000000};

    if (rota->writing || deadline == ROTA_FOREVER)
        MUST(pthread_cond_wait(&rota->work, &rota->lock));
    else
        (void)pthread_cond_timedwait(&rota->work, &rota->lock, &until);
}

void *
writer_thread(void *arg)
{
    struct rota *rota = arg;

    lock_take(&rota->lock);
    while (!rota->closing) {
        if (!writer_has_work(rota)) {
            writer_sleep(rota);
            continue;
        }
        rota->writing = true;
        rota->poked = false;
        lock_drop(&rota->lock);
        cycle(rota);
        lock_take(&rota->lock);
        role_leave(rota);
    }
    lock_drop(&rota->lock);
    return NULL;
}
