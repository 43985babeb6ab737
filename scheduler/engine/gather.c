/*
 * What a cycle is to do: what has ended, what callers wish, whose progress the
 * store lacks, how many jobs may be claimed. By the holder of the writer's
 * role; rota.lock is taken by batch_gather() and held in all that it calls.
 *
 * It is looked at together, under one lock, because the parts depend on each
 * other: each end makes room for a claim, and what is flagged as ready is taken
 * note of before the claim looks, never after, so that news which comes while
 * it looks flags it anew and is not forgotten.
 */
#include <stdlib.h>

#include "base/grow.h"
#include "engine/batch.h"
#include "engine/job.h"
#include "engine/state.h"

/* -- What has ended ------------------------------------------------------- */

/* The latest end is on top of the stack: turn it round. */
static struct ending *
ended_take(struct rota *rota)
{
    struct ending *ending, *next, *in_order = NULL;

    ending = atomic_exchange_explicit(&rota->ended, NULL, memory_order_acquire);
    for (; ending != NULL; ending = next) {
        next = ending->next;
        ending->next = in_order;
        in_order = ending;
    }
    return in_order;
}

/* What the store has of its progress may have changed since it ended. */
static void
ending_compare(struct ending *ending)
{
    const struct rota_job *job = job_of_ending(ending);

    ending->has_progress = ending->progress.cursor != job->flushed_cursor ||
                           ending->progress.total != job->flushed_total;
}

/* The jobs that have ended since the last cycle, behind those that an earlier
 * one could not record. */
static void
gather_endings(struct rota *rota, struct batch *batch)
{
    struct ending **end = &batch->work.endings;

    rota->linger_until = 0;
    batch->work.endings = rota->unrecorded;
    rota->unrecorded = NULL;
    while (*end != NULL)
        end = &(*end)->next;
    *end = ended_take(rota);
    for (struct ending *e = batch->work.endings; e != NULL; e = e->next) {
        ending_compare(e);
        batch->n_endings++;
    }
}

/* A claim that nobody has come to: it is to be given back. */
static void
job_give_back(struct rota *rota, struct batch *batch, struct rota_job *job)
{
    job->place = JOB_RELEASED;
    job->ending.never_started = true;
    job->ending.error = ROTA_CANCELED;
    job->ending.stop = ROTA_STOP_SHUTDOWN;
    job_fill_ending(job);
    ending_compare(&job->ending);
    job->ending.next = batch->work.endings;
    batch->work.endings = &job->ending;
    rota->unstarted--;
}

/* If no worker has come to any claim since the last flush, while others may be
 * idle elsewhere, all those that wait are given back. They are not counted
 * among the endings, which make room for as many claims. */
static void
gather_released(struct rota *rota, struct batch *batch)
{
    bool are_stuck = rota->unstarted > 0 && rota->starts == rota->starts_seen;

    rota->starts_seen = rota->starts;
    if (!are_stuck)
        return;
    for (int b = 0; b < JOB_BUCKETS; b++)
        for (struct link *l = rota->jobs[b].next; l != &rota->jobs[b];
             l = l->next) {
            struct rota_job *job = OWNER_OF(l, struct rota_job, on_bucket);

            if (job->place == JOB_CLAIMED)
                job_give_back(rota, batch, job);
        }
    rota->prefetch = 0;
}

/* -- Whose progress the store lacks ---------------------------------------- */

/* See whether a running job ignores that its context has ended. It is to be
 * told of when its grace is over, and whenever the time has doubled since. */
static void
gather_stuck(struct rota *rota, struct batch *batch, struct rota_job *job,
             int64_t now)
{
    if (!ctx_done(job->ctx))
        return;
    if (job->end_seen_at == 0) {
        job->end_seen_at = now;
        job->report_at = saturating_add(now, kind_grace(job->kind));
    }
    if (now < job->report_at)
        return;
    job->report_at = saturating_add(now, now - job->end_seen_at);
    if (job->stuck_since == 0) {
        job->stuck_since = rota_now(rota) - (now - job->end_seen_at) / 1000000;
        rota->stuck++;
        batch->is_newly_stuck = true;
    }
    if (!grow(batch->reports, batch->n_reports, batch->reports_room))
        return; /* the view says it */
    batch->reports[batch->n_reports++] =
        (struct stuck_report){.id = job->claim.id,
                              .kind = job->kind->name,
                              .ctx = ctx_ref(job->ctx),
                              .time = now - job->end_seen_at};
}

/* Add the job's progress to the work, if there is any that the store lacks. */
static void
gather_one(struct batch *batch, const struct rota_job *job)
{
    struct progress progress = job_progress(job);

    progress.stuck_since = job->stuck_since;
    if (progress.cursor != job->flushed_cursor ||
        progress.total != job->flushed_total ||
        progress.stuck_since != job->flushed_stuck || !job->flushed_start)
        batch->work.progress[batch->work.n_progress++] = progress;
}

/* Of every running job; and those that should have stopped. */
static void
gather_progress(struct rota *rota, struct batch *batch, int64_t now)
{
    size_t room = (size_t)rota->active;

    batch->work.progress =
        room == 0 ? NULL : calloc(room, sizeof(*batch->work.progress));
    if (batch->work.progress == NULL)
        return; /* later, then */
    for (int b = 0; b < JOB_BUCKETS; b++)
        for (struct link *l = rota->jobs[b].next; l != &rota->jobs[b];
             l = l->next) {
            struct rota_job *job = OWNER_OF(l, struct rota_job, on_bucket);

            if (job->place != JOB_RUNNING)
                continue;
            gather_stuck(rota, batch, job, now);
            if (batch->work.n_progress < room)
                gather_one(batch, job);
        }
}

static void
gather_flush(struct rota *rota, struct batch *batch, int64_t now)
{
    bool is_due = now >= rota->next_flush;

    if (!is_due && !rota->must_flush)
        return;
    if (is_due)
        gather_released(rota, batch);
    gather_progress(rota, batch, now);
    rota->must_flush = false;
    rota->next_flush = now + FLUSH_EVERY;
}

/* -- How many may be claimed ----------------------------------------------- */

/* How many claims to keep ahead of the workers: as many as end while a cycle
 * lasts. Jobs that take long are not claimed ahead, so that they stay free for
 * other processes. */
static void
prefetch_adapt(struct rota *rota, int64_t ended)
{
    int64_t now = ctx_now();

    if (ended == 0)
        return;
    rota->prefetch =
        (now - rota->last_end_cycle) / ended < ROTA_MS(5) ? 2 * ended : 0;
    if (rota->prefetch > PREFETCH_MAX)
        rota->prefetch = PREFETCH_MAX;
    rota->last_end_cycle = now;
}

/* One for each worker, and those ahead. */
static size_t
claim_limit(struct rota *rota, const struct batch *batch)
{
    int64_t limit;

    prefetch_adapt(rota, batch->n_endings);
    if (!engine_may_claim(rota) ||
        (!batch->work.may_be_ready && batch->n_endings == 0))
        return 0;
    limit = engine_room(rota) + batch->n_endings;
    return limit > 0 ? (size_t)limit : 0;
}

/* While the store is failing, claims are put off like all that nobody asks for.
 * But rota_step() and rota_run() do ask for theirs: it is tried with what they
 * wish, and they get the store's answer. */
static bool
claim_is_asked(const struct rota *rota)
{
    return rota->is_stepping || engine_awaits_job(rota);
}

/* What runs here, but for what has ended. */
static struct aboard
aboard_left(const struct rota *rota, struct ending *ending)
{
    struct aboard aboard = rota->aboard;

    for (; ending != NULL; ending = ending->next)
        aboard_add(&aboard, job_of_ending(ending)->claim.suspicion, -1);
    return aboard;
}

static void
gather_claims(struct rota *rota, struct batch *batch, int64_t now)
{
    struct work *work = &batch->work;

    work->scope = rota->scope;
    work->may_be_ready = rota->maybe_ready || !list_is_empty(&work->wishes) ||
                         (rota->is_limited && batch->n_endings > 0);
    if (now >= rota->retry_at || claim_is_asked(rota))
        work->claim_limit = claim_limit(rota, batch);
    work->aboard = aboard_left(rota, work->endings);
    rota->is_claiming = work->claim_limit > 0;
    if (rota->is_claiming && work->may_be_ready)
        rota->maybe_ready = false; /* before the claim looks */
}

/* -- The batch ------------------------------------------------------------ */

static bool
somebody_waits_for(const struct rota *rota, const struct ending *ending)
{
    for (; ending != NULL; ending = ending->next)
        for (const struct link *l = rota->sleepers.next; l != &rota->sleepers;
             l = l->next)
            if (OWNER_OF(l, struct sleeper, on_sleepers)->id == ending->id)
                return true;
    return false;
}

void
batch_gather(struct rota *rota, struct batch *batch)
{
    struct work *work = &batch->work;
    int64_t now = ctx_now();

    *batch = (struct batch){.n_endings = 0};
    list_init(&work->wishes);
    lock_take(&rota->lock);
    work->is_unsettled = rota->is_unsettled;
    list_splice(&work->wishes, &rota->requests);
    if (!list_is_empty(&work->wishes) || now >= rota->retry_at)
        gather_endings(rota, batch);
    gather_flush(rota, batch, now);
    gather_claims(rota, batch, now);
    /* an answer is durable; so is an end that somebody waits for */
    work->is_durable = (rota->options.flags & ROTA_NORMAL) == 0 &&
                       (!list_is_empty(&work->wishes) ||
                        somebody_waits_for(rota, work->endings));
    lock_drop(&rota->lock);
}

bool
batch_is_empty(const struct batch *batch)
{
    const struct work *work = &batch->work;

    return list_is_empty(&work->wishes) && work->endings == NULL &&
           work->n_progress == 0 && work->claim_limit == 0 &&
           !work->is_unsettled;
}
