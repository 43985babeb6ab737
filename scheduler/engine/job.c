/*
 * Locks: what is made, recycled and reserved here is the writer's role's, and
 * takes no lock. job_cancel() and job_lose() take rota.lock to find the job and
 * to hold a reference on its context, and end that context with no lock held,
 * since callbacks run on this thread.
 */
#define _GNU_SOURCE
#include "engine/job.h"

#include <stdlib.h>
#include <string.h>

#include "base/grow.h"
#include "engine/state.h"

/* Memory for so many jobs is kept when nobody needs it. */
#define SPARES_MAX 1024

/* -- Memory --------------------------------------------------------------- */

static void
spare_add(struct rota *rota, struct rota_job *job)
{
    job->ending.next = rota->spares == NULL ? NULL : &rota->spares->ending;
    rota->spares = job;
    rota->n_spares++;
}

static struct rota_job *
spare_take(struct rota *rota)
{
    struct rota_job *job = rota->spares;

    rota->spares =
        job->ending.next == NULL ? NULL : job_of_ending(job->ending.next);
    rota->n_spares--;
    return job;
}

bool
jobs_reserve(struct rota *rota, size_t n)
{
    struct rota_job *job;

    if (!grow_to(rota->claims, n, rota->claims_room) ||
        !grow_to(rota->claimed, n, rota->claimed_room))
        return false;
    while (rota->n_spares < n) {
        job = malloc(sizeof(*job));
        if (job == NULL)
            return false;
        spare_add(rota, job);
    }
    return true;
}

static const struct kind *
kind_numbered(const struct rota *rota, int64_t number)
{
    const struct kind *kind = rota->kinds;

    while (kind != NULL && kind->number != number)
        kind = kind->next;
    MUST_BE(kind != NULL); /* only those of the scope are claimed */
    return kind;
}

struct rota_job *
job_new(struct rota *rota, const struct claim *claim)
{
    struct rota_job *job = spare_take(rota);
    const struct kind *kind = kind_numbered(rota, claim->kind);

    memset(job, 0, sizeof(*job));
    job->rota = rota;
    job->kind = kind;
    job->claim = *claim;
    job->deadline = ROTA_FOREVER;
    job->max_attempts = claim->max_attempts > 0 ? claim->max_attempts
                                                : kind->defaults.max_attempts;
    job->timeout = claim->timeout_ms > 0 ? saturating_ms(claim->timeout_ms)
                                         : kind->defaults.timeout;
    job->cursor = job->base = job->flushed_cursor = claim->cursor;
    job->total = job->flushed_total = claim->total;
    list_init(&job->on_bucket);
    return job;
}

static void
job_fini(struct rota_job *job)
{
    free(job->claim.args);
    free(job->cancel_reason);
    free(job->message);
    free(job->result);
    free(job->resumed);
}

void
job_free(struct rota_job *job)
{
    job_fini(job);
    free(job);
}

void
job_recycle(struct rota *rota, struct rota_job *job)
{
    job_fini(job);
    if (rota->n_spares < SPARES_MAX)
        spare_add(rota, job);
    else
        free(job);
}

void
jobs_release(struct rota *rota)
{
    while (rota->spares != NULL)
        free(spare_take(rota));
    free(rota->claims);
    free(rota->claimed);
}

/* -- Finding and cancelling ------------------------------------------------ */

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

/* Under rota.lock: note the cancel, if it is the first. The context to end;
 * NULL if there is none, or it was told before. */
static struct ctx *
cancel_note(struct rota *rota, struct rota_job *job, const char *reason)
{
    if (job->delivered_at != 0)
        return NULL;
    job->delivered_at = rota_now(rota);
    job->cancel_reason = reason == NULL ? NULL : strdup(reason);
    atomic_store_explicit(&job->is_cancelled, true, memory_order_relaxed);
    return job->ctx == NULL ? NULL : ctx_ref(job->ctx);
}

bool
job_cancel(struct rota *rota, int64_t id, int64_t lease, const char *reason)
{
    struct ctx *ctx = NULL;
    struct rota_job *job;
    bool is_here;

    lock_take(&rota->lock);
    job = job_find(rota, id);
    is_here = job != NULL && (lease == 0 || lease == job->claim.lease) &&
              (job->place == JOB_CLAIMED || job->place == JOB_RUNNING);
    if (is_here)
        ctx = cancel_note(rota, job, reason);
    lock_drop(&rota->lock);
    if (ctx != NULL && reason != NULL)
        (void)ctx_cancel_cause(ctx, "%s", reason);
    else if (ctx != NULL)
        (void)ctx_cancel(ctx);
    ctx_unref(ctx);
    return is_here;
}

void
job_lose(struct rota *rota, int64_t id)
{
    struct ctx *ctx = NULL;
    struct rota_job *job;

    lock_take(&rota->lock);
    job = job_find(rota, id);
    if (job != NULL)
        atomic_store_explicit(&job->is_lost, true, memory_order_relaxed);
    if (job != NULL && job->ctx != NULL)
        ctx = ctx_ref(job->ctx);
    lock_drop(&rota->lock);
    if (ctx != NULL)
        (void)ctx_cancel_error(ctx, ROTA_LOST, "%s", rota_strerror(ROTA_LOST));
    ctx_unref(ctx);
}

enum rota_stop_reason
job_stop_reason(const struct rota_job *job)
{
    if (job->ctx == NULL || !ctx_done(job->ctx))
        return ROTA_STOP_NONE;
    if (atomic_load_explicit(&job->is_lost, memory_order_relaxed))
        return ROTA_STOP_LOST;
    if (atomic_load_explicit(&job->is_cancelled, memory_order_relaxed))
        return ROTA_STOP_CANCEL;
    if (ctx_err(job->ctx) == ROTA_DEADLINE && ctx_now() >= job->deadline)
        return ROTA_STOP_DEADLINE;
    return ROTA_STOP_SHUTDOWN;
}

struct progress
job_progress(const struct rota_job *job)
{
    return (struct progress){
        .id = job->claim.id,
        .lease = job->claim.lease,
        .started_at =
            atomic_load_explicit(&job->started_at, memory_order_relaxed),
        .cursor = atomic_load_explicit(&job->cursor, memory_order_relaxed),
        .total = atomic_load_explicit(&job->total, memory_order_relaxed),
        .base = atomic_load_explicit(&job->base, memory_order_relaxed),
        .base_at = atomic_load_explicit(&job->base_at, memory_order_relaxed)};
}

int64_t
kind_grace(const struct kind *kind)
{
    return kind->defaults.grace > 0 ? kind->defaults.grace : GRACE;
}
