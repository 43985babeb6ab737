/*
 * What a cycle is to do: what has ended, what callers ask, whose progress the
 * file lacks, how many jobs may be claimed. By the holder of the writer's role;
 * rota.lock is taken by batch_gather() and held in all that it calls.
 */
#include <stdlib.h>

#include "engine/batch.h"

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
        job->stuck_since = rota_now(rota) - (now - job->told_at) / 1000000;
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

bool
engine_is_claiming(const struct rota *rota)
{
    return rota->started && !rota->stopping && !rota->closing &&
           !ctx_done(rota->run_ctx);
}

bool
engine_is_left_alone(const struct rota *rota)
{
    return rota->stepping && !rota->in_step;
}

bool
engine_is_quiet(const struct rota *rota)
{
    return rota->active == 0 && !rota->claiming &&
           !(rota->maybe_ready && engine_is_claiming(rota));
}

int64_t
engine_room(const struct rota *rota)
{
    if (rota->alone)
        return 0;
    if (rota->stepping)
        return rota->steps - rota->active;
    if (rota->args_bytes > PREFETCH_BYTES)
        return pool_workers(rota->pool) - rota->active;
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
    if (!engine_is_claiming(rota) || (!batch->looks && ended == 0) ||
        rota->log_full)
        return 0;
    limit = engine_room(rota) + ended;
    return limit > 0 ? (size_t)limit : 0;
}

/* Somebody asks for a claim with what he writes: the store's bad days are his
 * to sit out. */
static bool
must_claim(const struct rota *rota)
{
    return rota->stepping || rota->takes_next;
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

void
batch_gather(struct rota *rota, struct batch *batch)
{
    int64_t now = ctx_now();

    *batch = (struct batch){0};
    list_init(&batch->requests);
    lock_take(&rota->lock);
    batch->unsettled = rota->unsettled;
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
    batch->looks = rota->maybe_ready || !list_is_empty(&batch->requests) ||
                   (rota->limited && batch->n_ended > 0);
    if (now >= rota->retry_at || must_claim(rota))
        batch->claim_limit = claim_limit(rota, batch);
    batch->idle = rota->active == (int64_t)batch->n_ended;
    rota->claiming = batch->claim_limit > 0;
    if (rota->claiming && batch->looks)
        rota->maybe_ready = false; /* before the claim looks, so that news that
                                    * comes while it does is not forgotten */
    batch->durable = (rota->options.flags & ROTA_NORMAL) == 0 &&
                     (!list_is_empty(&batch->requests) ||
                      somebody_waits_for(rota, batch->ended));
    lock_drop(&rota->lock);
}

bool
batch_is_empty(const struct batch *batch)
{
    return list_is_empty(&batch->requests) && batch->ended == NULL &&
           batch->n_dirty == 0 && batch->claim_limit == 0 && !batch->unsettled;
}
