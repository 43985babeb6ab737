/*
 * The writer's role: whoever has it owns the store, the one connection that
 * writes, and carries out one cycle at a time. A cycle is one transaction:
 * record what ended, do what callers ask, write progress down, claim for the
 * slots that are free. What arrives during a commit forms the next cycle.
 *
 * The role is the flag rota.writing, under rota.lock. A caller takes it if it
 * is free and so commits on its own thread; otherwise it sleeps until another
 * has answered it, or handed it the role. The writer thread takes it for work
 * that no caller waits for, and from callers who come faster than they are
 * answered. rota.lock is not held during a cycle but for gathering work
 * (gather.c) and telling of it (publish.c). Contexts' callbacks do not run
 * under the role, except for jobs that were lost.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/batch.h"

/* Ends are gathered for so long, as long as nobody waits for one and the
 * workers have enough to do meanwhile: one commit for many. */
#define LINGER ROTA_MS(10)

/* After the store failed, what waits in memory is tried again so often. */
#define RETRY_EVERY ROTA_MS(200)

/* -- Failing -------------------------------------------------------------- */

/* Keep what ended in memory until the store works again. */
static void
keep_ended(struct rota *rota, struct rota_job *ended, enum rota_error error)
{
    struct rota_job **end = &rota->unrecorded;
    bool stopping;

    if (ended == NULL)
        return;
    lock_take(&rota->lock);
    stopping = rota->stopping;
    lock_drop(&rota->lock);
    if (stopping && store_has_moved(rota->store)) {
        ended_drop(rota, ended);
        return;
    }
    while (*end != NULL)
        end = &(*end)->next_ended;
    *end = ended;
    lock_take(&rota->lock);
    rota->retry_at = ctx_now() + RETRY_EVERY;
    rota->kept_error = error;
    (void)snprintf(rota->kept_words, sizeof(rota->kept_words), "%s",
                   message_get());
    lock_drop(&rota->lock);
}

/* One item of a batch that failed as a whole, by itself: everybody gets the
 * answer that is theirs. */
static void
write_single(struct rota *rota, struct batch *single)
{
    struct rota_job *job = single->ended;
    int64_t id = job == NULL ? 0 : job->claim.id;
    bool began;
    enum rota_error error = batch_write(rota, single, &began);

    if (error == ROTA_OK) {
        batch_publish(rota, single);
        return;
    }
    batch_unclaim(rota, single);
    if (job != NULL) {
        keep_ended(rota, job, error);
        rota_say(rota, id, "its end cannot be recorded yet: %s", message_get());
    }
    batch_answer(single, error);
}

/* claims: how many jobs the batch was to claim. */
static void
write_singly(struct rota *rota, struct batch *batch, size_t claims)
{
    struct batch single = {.durable = batch->durable, .idle = batch->idle};
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
        struct request *request = OWNER_OF(l, struct request, on_requests);

        single.looks = request->claims ||
                       (rota->takes_next && request->kind == REQUEST_SUBMIT);
        single.claim_limit = single.looks ? claims : 0;
        single.no_memory = false;
        list_append(&single.requests, l);
        write_single(rota, &single);
    }
}

/* -- The log --------------------------------------------------------------- */

/* Say that the log is kept and long, whenever it has doubled. size 0: it is not
 * kept any more. */
static void
log_say(struct rota *rota, int64_t size)
{
    char who[128];

    if (size >= LOG_LONG && size / 2 >= rota->log_told) {
        store_log_readers(rota->store, who, sizeof(who));
        rota_say(rota, 0,
                 "%s-wal has grown to %jd MiB: it is kept by a long read of %s",
                 rota->path, (intmax_t)(size >> 20),
                 who[0] != '\0' ? who : "this process");
        rota->log_told = size;
    } else if (size == 0 && rota->log_told > 0) {
        rota_say(rota, 0, "%s-wal is begun anew", rota->path);
        rota->log_told = 0;
    }
}

/* A log that is too long takes no more jobs. */
static void
log_watch(struct rota *rota)
{
    bool is_kept, is_full;
    int64_t size = store_log_size(rota->store, &is_kept);

    is_full = is_kept && size >= rota->options.log_max;
    log_say(rota, is_kept ? size : 0);
    if (is_full == rota->log_full)
        return;
    lock_take(&rota->lock);
    rota->log_full = is_full;
    rota->maybe_ready = true;
    lock_drop(&rota->lock);
    rota_say(rota, 0, "jobs are %s",
             is_full ? "not taken any more" : "taken again");
}

/* -- The role ------------------------------------------------------------- */

/* One cycle. The role held, rota.lock not. */
static void
cycle(struct rota *rota)
{
    struct batch batch;
    enum rota_error error;
    size_t claims;
    bool began;

    if (rota->log_full) {
        store_log_try(rota->store);
        log_watch(rota);
    }
    batch_gather(rota, &batch);
    claims = batch.claim_limit;
    deaf_tell(rota, &batch);
    if (batch_is_empty(&batch)) {
        free(batch.dirty);
        return;
    }
    error = batch_write(rota, &batch, &began);
    if (error == ROTA_OK) {
        batch_publish(rota, &batch);
        log_watch(rota);
    } else {
        batch_unclaim(rota, &batch);
        lock_take(&rota->lock);
        rota->retry_at = ctx_now() + RETRY_EVERY;
        rota->claiming = false;
        waiters_tell(rota, 0, false);
        lock_drop(&rota->lock);
        if (began) {
            write_singly(rota, &batch, claims);
        } else {
            keep_ended(rota, batch.ended, error);
            batch_answer(&batch, error);
        }
    }
    free(batch.dirty);
}

/* Under rota.lock, by the role's holder: hand it to the next caller. */
static void
role_pass(struct rota *rota)
{
    struct request *next =
        OWNER_OF(rota->requests.next, struct request, on_requests);

    next->lead = true;
    wake_up(&next->wake, WAKE_SET);
}

/* Under rota.lock, by the role's holder: hand it to those who wait for it, or
 * drop it. True: a thread of its own should have it. When the scheduler closes
 * that thread ends, and callers take turns. */
static bool
role_leave(struct rota *rota)
{
    bool is_waited_for = !list_is_empty(&rota->requests);

    if (is_waited_for && (!rota->has_writer || rota->closing)) {
        role_pass(rota);
        return true;
    }
    rota->writing = false;
    rota->poked |= is_waited_for;
    if (rota->has_writer)
        MUST(pthread_cond_signal(&rota->work));
    return false;
}

/* By the role's holder: go through cycles until the request is answered. */
static void
request_lead(struct rota *rota, struct request *request)
{
    bool is_crowded;

    while (!request->answered)
        cycle(rota);
    lock_take(&rota->lock);
    is_crowded = role_leave(rota);
    lock_drop(&rota->lock);
    if (is_crowded && writer_start(rota) != ROTA_OK)
        return; /* callers go on taking turns */
}

enum rota_error
request_run(struct rota *rota, struct request *request)
{
    bool is_free;

    request->answered = request->lead = false;
    request->wake = (struct wake)WAKE_INIT;
    request->behind[0] = request->behind[1] = NULL;
    request->error = ROTA_OK;
    lock_take(&rota->lock);
    list_append(&rota->requests, &request->on_requests);
    is_free = !rota->writing;
    rota->writing = true;
    lock_drop(&rota->lock);
    if (is_free)
        request->lead = true;
    else
        (void)wake_wait(&request->wake, ROTA_FOREVER);
    if (request->lead)
        request_lead(rota, request);
    wake_both(request->behind);
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
        (rota->unsettled && now >= rota->retry_at) ||
        (rota->active > 0 && now >= rota->next_flush))
        return true;
    return now >= rota->retry_at &&
           (rota->unrecorded != NULL || ends_are_due(rota, now) ||
            (rota->maybe_ready && engine_is_claiming(rota) && !rota->log_full &&
             engine_room(rota) > 0));
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

static void *
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
        (void)role_leave(rota);
    }
    if (!rota->writing && !list_is_empty(&rota->requests)) {
        rota->writing = true; /* they had been left to us */
        role_pass(rota);
    }
    lock_drop(&rota->lock);
    return NULL;
}

enum rota_error
writer_start(struct rota *rota)
{
    enum rota_error error = ROTA_OK;
    int failed;

    lock_take(&rota->start_lock);
    if (!rota->has_writer) {
        /* held, so that it finds itself known */
        lock_take(&rota->lock);
        failed =
            thread_start(&rota->writer, "rota-writer", writer_thread, rota);
        rota->has_writer = failed == 0;
        lock_drop(&rota->lock);
        if (failed != 0) {
            message_set("cannot start a thread: %s", strerror(failed));
            error = ROTA_SYSTEM;
        }
    }
    lock_drop(&rota->start_lock);
    return error;
}
