/*
 * The writer's role: whoever has it owns store_cycle(), and carries out one
 * cycle at a time. A cycle is one transaction: record what ended, do what
 * callers wish, write progress down, claim for the slots that are free. What
 * arrives during a commit forms the next cycle.
 *
 * The role is the flag rota.is_writing, under rota.lock. A caller takes it if
 * it is free and so commits on its own thread; otherwise it sleeps until
 * another has answered it, or handed it the role. The writer thread takes it
 * for work that no caller waits for, and from callers who come faster than they
 * are answered. rota.lock is not held during a cycle but for gathering work
 * (gather.c) and telling of it (publish.c). Contexts' callbacks do not run
 * under the role, except for jobs that were lost, and for all when the store is
 * found damaged.
 *
 * The hard case is a store that fails. If it could not be had at all, everybody
 * gets its error, and what ended is kept in memory and tried again. If it
 * could, something in the work may be to blame: then each part is tried alone,
 * so that everybody gets the answer that is theirs. And if it is damaged, it is
 * not tried again: the workers stop, and what ended meanwhile is told of.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "engine/batch.h"
#include "engine/job.h"
#include "engine/sleepers.h"
#include "engine/state.h"
#include "engine/writer.h"

/* Ends are gathered for so long, as long as nobody waits for one and the
 * workers have enough to do meanwhile: one commit for many. */
#define LINGER ROTA_MS(10)

/* After the store failed, what waits in memory is tried again so often. */
#define RETRY_EVERY ROTA_MS(200)

/* -- Writing -------------------------------------------------------------- */

static enum rota_error
batch_write(struct rota *rota, struct batch *batch)
{
    struct work *work = &batch->work;

    if (!jobs_reserve(rota, work->claim_limit)) {
        work->has_begun = true; /* so that it is tried singly, without claims */
        return no_memory();
    }
    work->claims = rota->claims;
    return store_cycle(rota->store, work);
}

/* -- Failing -------------------------------------------------------------- */

/* Keep what ended in memory until the store works again. is_gone: it will not,
 * and who stops does not wait for it: false, and all is told. */
static bool
endings_keep(struct rota *rota, struct ending *endings, enum rota_error error,
             bool is_gone)
{
    struct ending **end = &rota->unrecorded;

    if (endings == NULL)
        return true;
    if (is_gone && engine_is_stopping(rota)) {
        endings_drop(rota, endings);
        return false;
    }
    while (*end != NULL)
        end = &(*end)->next;
    *end = endings;
    lock_take(&rota->lock);
    rota->retry_at = ctx_now() + RETRY_EVERY;
    rota->kept_error = error;
    text_print(rota->kept_words, sizeof(rota->kept_words), "%s", message_get());
    lock_drop(&rota->lock);
    return true;
}

/* One part of a batch that failed as a whole, by itself. */
static void
write_single(struct rota *rota, struct batch *single)
{
    struct ending *ending = single->work.endings;
    int64_t id = ending == NULL ? 0 : ending->id;
    enum rota_error error = batch_write(rota, single);

    if (error == ROTA_OK) {
        batch_publish(rota, single);
        return;
    }
    if (ending != NULL &&
        endings_keep(rota, ending, error, single->work.is_gone))
        rota_say(rota, id, "its end cannot be recorded yet: %s", message_get());
    single->work.endings = NULL;
    batch_answer(single, error);
}

/* The next part begins with the scope, and what runs, as they stand: what a
 * cycle that failed made of its own is not so, and one that went may have
 * brought the job that is awaited. request: NULL is an ending. True if jobs are
 * to be claimed with it.
 */
static bool
single_begin(struct rota *rota, struct work *work,
             const struct request *request)
{
    bool claims;

    lock_take(&rota->lock);
    work->scope = rota->scope;
    work->aboard = rota->aboard;
    claims = request != NULL && (request->claims || engine_awaits_job(rota));
    rota->is_claiming |= claims;
    lock_drop(&rota->lock);
    return claims;
}

static void
write_singly(struct rota *rota, struct batch *batch)
{
    const struct work *whole = &batch->work;
    struct batch single = {.work = {.is_durable = whole->is_durable}};
    struct work *work = &single.work;
    struct ending *next;
    struct link *l;

    list_init(&work->wishes);
    for (struct ending *e = whole->endings; e != NULL; e = next) {
        next = e->next;
        e->next = NULL;
        work->endings = e;
        (void)single_begin(rota, work, NULL);
        write_single(rota, &single);
    }
    while ((l = list_take(&batch->work.wishes)) != NULL) {
        work->may_be_ready = single_begin(rota, work, request_of(l));
        work->claim_limit = work->may_be_ready ? whole->claim_limit : 0;
        list_append(&work->wishes, l);
        write_single(rota, &single);
    }
}

static void
batch_fail(struct rota *rota, struct batch *batch, enum rota_error error)
{
    struct work *work = &batch->work;

    engine_check_store(rota);
    lock_take(&rota->lock);
    rota->retry_at = ctx_now() + RETRY_EVERY;
    if (work->claim_limit > 0)
        rota->maybe_ready = true; /* as before */
    lock_drop(&rota->lock);
    if (work->has_begun) {
        write_singly(rota, batch);
    } else {
        (void)endings_keep(rota, work->endings, error, work->is_gone);
        batch_answer(batch, error);
    }
    lock_take(&rota->lock);
    rota->is_claiming = false;
    sleepers_wake(rota, 0, false);
    lock_drop(&rota->lock);
}

/* -- The role ------------------------------------------------------------- */

/* One cycle. The role held, rota.lock not. */
static void
cycle(struct rota *rota)
{
    struct batch batch;
    enum rota_error error;

    batch_gather(rota, &batch);
    batch_report(rota, &batch);
    if (!batch_is_empty(&batch)) {
        error = batch_write(rota, &batch);
        if (error == ROTA_OK)
            batch_publish(rota, &batch);
        else
            batch_fail(rota, &batch, error);
    }
    free(batch.work.progress);
}

/* Under rota.lock, by the role's holder: hand it to the next caller. */
static void
role_pass(struct rota *rota)
{
    struct request *next = request_of(rota->requests.next);

    next->has_role = true;
    wake_up(&next->wake, WAKE_SET);
}

/* Under rota.lock, by the role's holder: hand it to those who wait for it, or
 * drop it. True: a thread of its own should have it. When the scheduler closes
 * that thread ends, and callers take turns. */
static bool
role_leave(struct rota *rota)
{
    bool is_waited_for = !list_is_empty(&rota->requests);

    if (is_waited_for && (!rota->has_writer || rota->is_closing)) {
        role_pass(rota);
        return true;
    }
    rota->is_writing = false;
    rota->must_write |= is_waited_for;
    if (rota->has_writer)
        MUST(pthread_cond_signal(&rota->work));
    return false;
}

/* By the role's holder: go through cycles until the request is answered. */
static void
request_lead(struct rota *rota, struct request *request)
{
    bool is_crowded;

    while (!request->is_answered)
        cycle(rota);
    lock_take(&rota->lock);
    is_crowded = role_leave(rota);
    lock_drop(&rota->lock);
    if (is_crowded && writer_start(rota) != ROTA_OK)
        return; /* no thread is to be had: callers go on taking turns */
}

/* The request stands in line; true if its caller has the role. */
static bool
request_join(struct rota *rota, struct request *request)
{
    bool was_free;

    request->is_answered = false;
    request->wake = (struct wake)WAKE_INIT;
    request->behind[0] = request->behind[1] = NULL;
    request->wish.error = ROTA_OK;
    lock_take(&rota->lock);
    list_append(&rota->requests, &request->wish.on_wishes);
    was_free = !rota->is_writing;
    rota->is_writing = true;
    request->has_role = was_free;
    lock_drop(&rota->lock);
    return was_free;
}

enum rota_error
wish_run(struct rota *rota, struct request *request)
{
    if (!request_join(rota, request))
        (void)wake_wait(&request->wake, ROTA_FOREVER);
    if (request->has_role)
        request_lead(rota, request);
    wake_both(request->behind);
    if (request->wish.error != ROTA_OK)
        message_set("%s", request->wish.message);
    return request->wish.error;
}

/* -- The thread; rota.lock is held in all of this section but for cycles ----
 */

/* Whether what has ended is to be recorded now. */
static bool
ends_are_due(struct rota *rota, int64_t now)
{
    if (atomic_load_explicit(&rota->ended, memory_order_relaxed) == NULL)
        return false;
    if (rota->linger_until == 0)
        rota->linger_until = now + LINGER;
    return now >= rota->linger_until || rota->is_stopping ||
           !list_is_empty(&rota->sleepers) || !engine_is_ahead(rota);
}

/* When the writer thread must look even if nobody wakes it. */
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
claim_is_due(const struct rota *rota)
{
    return rota->maybe_ready && engine_may_claim(rota) && engine_room(rota) > 0;
}

static bool
writer_has_work(struct rota *rota)
{
    int64_t now = ctx_now();

    if (rota->is_writing)
        return false;
    if (rota->must_write || rota->must_flush ||
        (rota->is_unsettled && now >= rota->retry_at) ||
        (rota->active > 0 && now >= rota->next_flush))
        return true;
    return now >= rota->retry_at &&
           (rota->unrecorded != NULL || ends_are_due(rota, now) ||
            claim_is_due(rota));
}

static void
writer_sleep(struct rota *rota)
{
    int64_t deadline = writer_deadline(rota);
    struct timespec until = {.tv_sec = deadline / 1000000000,
                             .tv_nsec = deadline % 1000000000};

    if (rota->is_writing || deadline == ROTA_FOREVER)
        MUST(pthread_cond_wait(&rota->work, &rota->lock));
    else
        (void)pthread_cond_timedwait(&rota->work, &rota->lock, &until);
}

static void *
writer_thread(void *arg)
{
    struct rota *rota = arg;

    lock_take(&rota->lock);
    while (!rota->is_closing) {
        if (!writer_has_work(rota)) {
            writer_sleep(rota);
            continue;
        }
        rota->is_writing = true;
        rota->must_write = false;
        lock_drop(&rota->lock);
        cycle(rota);
        lock_take(&rota->lock);
        (void)role_leave(rota);
    }
    /* requests that came while this thread was about to end were left to it:
     * the first of them gets the role */
    if (!rota->is_writing && !list_is_empty(&rota->requests)) {
        rota->is_writing = true;
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
        /* held, so that the thread does not run before it is known */
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
