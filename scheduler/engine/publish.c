/*
 * What a batch that is in the file means to others: callers get their answers,
 * who waits for a job is woken, ended jobs are forgotten and claimed ones go to
 * the workers. By the holder of the writer's role. rota.lock is taken for what
 * is shared; it is not held while the caller's functions run or contexts end.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/batch.h"

void
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

void
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

void
wake_both(struct request *const behind[2])
{
    for (int i = 0; i < 2; i++)
        if (behind[i] != NULL)
            wake_up(&behind[i]->wake, WAKE_SET);
}

/* Callers are woken as a tree, each by one before it, so that the next commit
 * need not wait until sixty-four are awake. Who has the role is. */
void
batch_answer(struct batch *batch, enum rota_error error)
{
    struct request *first[2] = {NULL, NULL}, **behind = first, *request;
    struct link *parent = &batch->requests; /* to whom behind belongs */
    int n = 0;

    for (struct link *l = parent->next; l != &batch->requests; l = l->next) {
        request = OWNER_OF(l, struct request, on_requests);
        if (error != ROTA_OK) {
            request->error = error;
            (void)snprintf(request->message, sizeof(request->message), "%s",
                           message_get());
        }
        request->answered = true;
        if (request->lead)
            continue;
        if (n == 2) {
            parent = parent->next;
            if (OWNER_OF(parent, struct request, on_requests)->lead)
                parent = parent->next;
            behind = OWNER_OF(parent, struct request, on_requests)->behind;
            n = 0;
        }
        behind[n++] = request;
    }
    list_init(&batch->requests);
    wake_both(first);
}

static void
ended_tell(struct rota *rota, const struct rota_job *job)
{
    for (; rota->options.ended != NULL && job != NULL; job = job->next_ended)
        if (job->has_come)
            rota->options.ended(rota->options.ended_arg, job->claim.id,
                                job->came_to);
}

void
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
        rota->args_bytes -= job->claim.args_size;
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
    if (n == batch->claim_limit && (n > 0 || batch->looks))
        rota->maybe_ready = true; /* there may be more than there was room */
    if (batch->rest == CLAIM_MORE)
        rota->maybe_ready = true;
    if (batch->looks && batch->claim_limit > 0)
        rota->limited = batch->rest != CLAIM_NOTHING;
    rota->unsettled = batch->unsettled;
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
    if (n > 0 && rota->stepping)
        rota->stepped = batch->claimed[0];
    else if (n > 0)
        MUST(pool_submit_many(rota->pool, job_run, (void **)batch->claimed, n));
    free(batch->claimed);
    batch->claimed = NULL;
    batch->n_claimed = batch->claimed_bytes = 0;
}

void
batch_publish(struct rota *rota, struct batch *batch)
{
    if (rota->scope.job > 0)
        rota->takes_next = false;
    dirty_publish(rota, batch);
    ended_publish(rota, batch);
    claimed_publish(rota, batch);
    batch_answer(batch, ROTA_OK);
    lock_take(&rota->lock);
    waiters_tell(rota, 0, false);
    lock_drop(&rota->lock);
}

void
ended_drop(struct rota *rota, struct rota_job *ended)
{
    struct batch batch = {.ended = ended};

    for (struct rota_job *job = ended; job != NULL; job = job->next_ended) {
        rota_say(rota, job->claim.id, "its end is not recorded: %s",
                 message_get());
        job->has_come = false;
    }
    ended_publish(rota, &batch);
}
