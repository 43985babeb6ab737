/*
 * A claimed job, from the writer's hands to a worker's and back.
 *
 * A job is CLAIMED in the pool's queue, RUNNING in its function, and ENDED on
 * rota.ended, a stack that workers push to and the writer's role empties.
 * place, ctx and what a cancel leaves behind are under rota.lock; callbacks of
 * the job's context run with no lock held.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "interrupt/target.h"

static const struct kind *
kind_find(const struct rota *rota, int64_t number)
{
    const struct kind *kind = rota->kinds;

    while (kind != NULL && kind->number != number)
        kind = kind->next;
    return kind;
}

struct rota_job *
job_new(struct rota *rota, const struct claim *claim)
{
    struct rota_job *job = calloc(1, sizeof(*job));

    if (job == NULL)
        return NULL;
    job->rota = rota;
    job->kind = kind_find(rota, claim->kind);
    job->claim = *claim;
    job->deadline = ROTA_FOREVER;
    job->max_attempts = claim->max_attempts;
    job->timeout = claim->timeout_ms > 0 ? saturating_ms(claim->timeout_ms) : 0;
    job->cursor = job->base = job->flushed_cursor = claim->cursor;
    job->total = job->flushed_total = claim->total;
    list_init(&job->on_bucket);
    MUST_BE(job->kind != NULL); /* only registered kinds are claimed */
    if (job->max_attempts == 0)
        job->max_attempts = job->kind->defaults.max_attempts;
    if (job->timeout == 0)
        job->timeout = job->kind->defaults.timeout;
    return job;
}

void
job_free(struct rota_job *job)
{
    free(job->claim.args);
    free(job->cancel_reason);
    free(job->message);
    free(job->result);
    free(job->resumed);
    free(job);
}

struct rota_job *
job_find(struct rota *rota, int64_t id)
{
    struct link *bucket = &rota->jobs[(uint64_t)id % JOB_BUCKETS];

    for (struct link *l = bucket->next; l != bucket; l = l->next) {
        struct rota_job *job = OWNER_OF(l, struct rota_job, on_bucket);

        if (job->claim.id == id)
            return job;
    }
    return NULL;
}

/* -- Cancel --------------------------------------------------------------- */

bool
job_cancel(struct rota *rota, int64_t id, int64_t lease, const char *reason)
{
    struct ctx *ctx = NULL;
    struct rota_job *job;
    bool first = false;

    lock_take(&rota->lock);
    job = job_find(rota, id);
    if (job != NULL && (lease == 0 || lease == job->claim.lease) &&
        (job->place == JOB_CLAIMED || job->place == JOB_RUNNING)) {
        first = job->delivered_at == 0;
        if (first) {
            job->delivered_at = rota_now(rota);
            job->cancel_reason = reason == NULL ? NULL : strdup(reason);
            atomic_store_explicit(&job->cancelled, true, memory_order_relaxed);
        }
        if (first && job->ctx != NULL)
            ctx = ctx_ref(job->ctx);
    } else {
        job = NULL;
    }
    lock_drop(&rota->lock);
    if (ctx != NULL && reason != NULL)
        (void)ctx_cancel_cause(ctx, "%s", reason);
    else if (ctx != NULL)
        (void)ctx_cancel(ctx);
    ctx_unref(ctx);
    return job != NULL;
}

enum rota_stop_reason
job_stop_reason(const struct rota_job *job)
{
    if (job->ctx == NULL || !ctx_done(job->ctx))
        return ROTA_STOP_NONE;
    if (atomic_load_explicit(&job->lost, memory_order_relaxed))
        return ROTA_STOP_LOST;
    if (atomic_load_explicit(&job->cancelled, memory_order_relaxed))
        return ROTA_STOP_CANCEL;
    if (ctx_err(job->ctx) == ROTA_DEADLINE && ctx_now() >= job->deadline)
        return ROTA_STOP_DEADLINE;
    return ROTA_STOP_SHUTDOWN;
}

/* -- Run ------------------------------------------------------------------ */

/* The job's context: ends with the workers', and at the job's own deadline or
 * when this run's time is up. */
static struct ctx *
job_context(struct rota_job *job)
{
    const struct claim *claim = &job->claim;
    int64_t unix_now = rota_now(job->rota), now = ctx_now(); /* not early */
    int64_t left;

    if (job->timeout > 0)
        job->deadline = saturating_add(now, job->timeout);
    if (claim->deadline_at > 0) {
        left = saturating_ms(claim->deadline_at - unix_now);
        if (saturating_add(now, left) < job->deadline)
            job->deadline = saturating_add(now, left);
    }
    if (job->deadline == ROTA_FOREVER)
        return ctx_with_cancel(job->rota->run_ctx);
    return ctx_with_deadline(job->rota->run_ctx, job->deadline);
}

static void
job_end(struct rota_job *job)
{
    struct rota *rota = job->rota;
    struct rota_job *top =
        atomic_load_explicit(&rota->ended, memory_order_relaxed);

    do {
        job->next_ended = top;
    } while (!atomic_compare_exchange_weak_explicit(
        &rota->ended, &top, job, memory_order_release, memory_order_relaxed));
    if (top == NULL)
        writer_tell(rota); /* the others find it told */
}

enum fate { FATE_RUN, FATE_GIVE_BACK, FATE_FREE, FATE_FORGET };

/* Under rota.lock: what becomes of a job that a worker has come to. */
static enum fate
job_fate(struct rota_job *job, struct ctx *ctx)
{
    struct rota *rota = job->rota;
    int64_t now = rota_now(rota);

    job->in_pool = false;
    if (job->place == JOB_RELEASED)
        return job->recorded ? FATE_FREE : FATE_FORGET;
    rota->unstarted--;
    if (rota->linger_until != 0 && !engine_is_ahead(rota))
        MUST(pthread_cond_signal(&rota->work));
    if (rota->stopping || ctx_done(rota->run_ctx) ||
        atomic_load_explicit(&job->cancelled, memory_order_relaxed) ||
        ctx_err(ctx) == ROTA_NOMEM) {
        job->place = JOB_ENDED;
        job->never_started = true;
        return FATE_GIVE_BACK;
    }
    job->place = JOB_RUNNING;
    job->ctx = ctx;
    atomic_store_explicit(&job->started_at, now, memory_order_relaxed);
    atomic_store_explicit(&job->base_at, now, memory_order_relaxed);
    rota->starts++;
    return FATE_RUN;
}

/* A job that just returns what a call of ours gave it: keep that call's words.
 * Those of ROTA_FAILED and the like are the job's to give. */
static void
keep_words(struct rota_job *job)
{
    if (job->message == NULL && job->error > ROTA_NOMEM &&
        job->error < ROTA_FAILED && message_get()[0] != '\0')
        job->message = strdup(message_get()); /* without memory: the code's */
}

static void
job_call(struct rota_job *job)
{
    message_set("%s", "");
    job->error = job->kind->fn(job->ctx, job);
    keep_words(job);
    while (job->targets != NULL) {
        struct target *target = job->targets;

        job->targets = target->next;
        target_close(target);
    }
    job->stop = job_stop_reason(job);
    lock_take(&job->rota->lock);
    job->place = JOB_ENDED; /* a cancel from here on comes too late */
    job->ctx = NULL;
    job->rota->stuck -= job->stuck_since != 0;
    lock_drop(&job->rota->lock);
}

void
job_run(void *arg)
{
    struct rota_job *job = arg;
    struct ctx *ctx = job_context(job);
    enum fate fate;

    lock_take(&job->rota->lock);
    fate = job_fate(job, ctx);
    lock_drop(&job->rota->lock);
    switch (fate) {
    case FATE_RUN:
        job_call(job);
        break;
    case FATE_GIVE_BACK:
        job->error = ROTA_CANCELED;
        job->stop = atomic_load_explicit(&job->cancelled, memory_order_relaxed)
                        ? ROTA_STOP_CANCEL
                        : ROTA_STOP_SHUTDOWN;
        break;
    case FATE_FREE:
        job_free(job);
        break;
    case FATE_FORGET: /* the writer frees it */
        break;
    }
    ctx_end(ctx);
    if (fate == FATE_RUN || fate == FATE_GIVE_BACK)
        job_end(job);
}
