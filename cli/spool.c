/*
 * See spool.h. spool->lock guards the lists of what is kept and ready, and the
 * ranges of ids that say whose turn it is. It is a leaf, held for moments and
 * never while something is written or printed. The heap of what is held is the
 * main thread's alone: it moves streams to a file, which may take long, and no
 * worker waits for that.
 */
#define _GNU_SOURCE
#include "cli/spool.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "jobs/grow.h"

/* What ends within so long of another is printed with it: to wake up for each
 * costs more than a short command does. */
#define GATHER ROTA_MS(5)

/* -- The spool ------------------------------------------------------------- */

void
spool_init(struct spool *spool, bool in_order)
{
    pthread_condattr_t attr;

    memset(spool, 0, sizeof(*spool));
    (void)pthread_mutex_init(&spool->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&spool->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    spool->kept_end = &spool->kept;
    spool->ready_end = &spool->ready;
    spool->in_order = in_order;
    spool->held_fd = -1;
}

static void
list_free(struct written *written)
{
    while (written != NULL) {
        struct written *next = written->next;

        written_free(written);
        written = next;
    }
}

void
spool_fini(struct spool *spool)
{
    list_free(spool->kept);
    list_free(spool->ready);
    for (size_t i = 0; i < spool->n_held; i++)
        written_free(spool->held[i]);
    free(spool->held);
    free(spool->ranges);
    if (spool->held_fd >= 0)
        (void)close(spool->held_fd);
    (void)pthread_cond_destroy(&spool->changed);
    (void)pthread_mutex_destroy(&spool->lock);
}

static void
append(struct written ***end, struct written *written)
{
    written->next = NULL;
    **end = written;
    *end = &written->next;
}

void
spool_keep(struct spool *spool, struct written *written)
{
    (void)pthread_mutex_lock(&spool->lock);
    append(&spool->kept_end, written);
    (void)pthread_mutex_unlock(&spool->lock);
}

/* spool->lock held. What the job wrote: nothing, if it ended without having
 * begun. NULL without memory. */
static struct written *
kept_take(struct spool *spool, int64_t job)
{
    struct written **link = &spool->kept, *written;

    while ((written = *link) != NULL && written->job != job)
        link = &written->next;
    if (written == NULL)
        return written_new(job);
    *link = written->next;
    if (spool->kept_end == &written->next)
        spool->kept_end = link;
    return written;
}

static bool
is_final(enum rota_state state)
{
    return state == ROTA_SUCCEEDED || state == ROTA_JOB_FAILED ||
           state == ROTA_CANCELLED;
}

void
spool_settle(struct spool *spool, int64_t job, enum rota_state state)
{
    struct written *written;

    (void)pthread_mutex_lock(&spool->lock);
    written = kept_take(spool, job);
    if (written != NULL) { /* else main finds in the file that it ended */
        written->state = state;
        if (!is_final(state))
            written_forget(written);
        append(&spool->ready_end, written);
        spool->n_ready++;
    }
    if (spool->n_ready <= 1) /* those behind the first find main awake */
        (void)pthread_cond_signal(&spool->changed);
    (void)pthread_mutex_unlock(&spool->lock);
}

/* spool->lock held. Begin a range with id. Ids of one batch mostly follow each
 * other, so that few ranges stand for many jobs; those that were used up are
 * dropped when all are. False without memory. */
static bool
range_add(struct spool *spool, int64_t id)
{
    if (spool->at_range > 0 && spool->at_range == spool->n_ranges)
        spool->at_range = spool->n_ranges = 0;
    if (!GROW(spool->ranges, spool->room_ranges, spool->n_ranges + 1))
        return false;
    spool->ranges[spool->n_ranges++] = (struct range){id, id};
    return true;
}

void
spool_expect(struct spool *spool, const int64_t *ids, size_t n)
{
    struct range *last;

    (void)pthread_mutex_lock(&spool->lock);
    for (size_t i = 0; i < n && spool->in_order; i++) {
        if (ids[i] <= spool->passed)
            continue; /* it could not be held, and is printed */
        last = spool->n_ranges > spool->at_range
                   ? &spool->ranges[spool->n_ranges - 1]
                   : NULL;
        if (last != NULL && last->last + 1 == ids[i])
            last->last++;
        else if (!range_add(spool, ids[i]))
            spool->passed = ids[i]; /* no memory: printed as it ends */
    }
    (void)pthread_mutex_unlock(&spool->lock);
}

void
spool_expect_no_more(struct spool *spool)
{
    (void)pthread_mutex_lock(&spool->lock);
    spool->knows_all = true;
    (void)pthread_mutex_unlock(&spool->lock);
    spool_poke(spool);
}

int64_t
spool_backlog(struct spool *spool)
{
    int64_t n;

    (void)pthread_mutex_lock(&spool->lock);
    n = spool->n_ready;
    (void)pthread_mutex_unlock(&spool->lock);
    return n;
}

/* spool->lock held; let go of while asleep, held again on return. Sleep until
 * spool_poke(), until deadline, or, unless is_gathering, until there is
 * something to print. */
static void
doze(struct spool *spool, int64_t deadline, bool is_gathering)
{
    struct timespec until = {.tv_sec = deadline / 1000000000,
                             .tv_nsec = deadline % 1000000000};
    int code = 0;

    while (!spool->poked && (is_gathering || spool->ready == NULL) && code == 0)
        code = pthread_cond_timedwait(&spool->changed, &spool->lock, &until);
}

void
spool_wait(struct spool *spool, int64_t deadline)
{
    (void)pthread_mutex_lock(&spool->lock);
    doze(spool, deadline, false);
    doze(spool, ctx_now() + GATHER, true); /* let some more end */
    spool->poked = false;
    (void)pthread_mutex_unlock(&spool->lock);
}

void
spool_poke(struct spool *spool)
{
    (void)pthread_mutex_lock(&spool->lock);
    spool->poked = true;
    (void)pthread_cond_signal(&spool->changed);
    (void)pthread_mutex_unlock(&spool->lock);
}

/* -- Order ----------------------------------------------------------------- */

/* Whether it is job's turn: nothing that was given before it is to come, and
 * what may have been is known. */
static bool
is_due(struct spool *spool, int64_t job)
{
    bool due;

    (void)pthread_mutex_lock(&spool->lock);
    if (spool->at_range < spool->n_ranges)
        due = job <= spool->ranges[spool->at_range].first;
    else
        due = job <= spool->passed || spool->knows_all;
    (void)pthread_mutex_unlock(&spool->lock);
    return due;
}

/* Note that job has had its turn, and that those given before it are waited for
 * no longer. */
static void
turn_over(struct spool *spool, int64_t job)
{
    struct range *range;

    (void)pthread_mutex_lock(&spool->lock);
    if (job > spool->passed)
        spool->passed = job;
    while (spool->at_range < spool->n_ranges) {
        range = &spool->ranges[spool->at_range];
        if (job < range->first)
            break;
        if (job < range->last) {
            range->first = job + 1;
            break;
        }
        spool->at_range++;
    }
    (void)pthread_mutex_unlock(&spool->lock);
}

static bool
is_before(const struct written *a, const struct written *b)
{
    return a->job < b->job;
}

/* Put what a job wrote aside until its turn. False, without memory or disk:
 * then it has to be printed at once. */
static bool
hold(struct spool *spool, struct written *written)
{
    size_t i = spool->n_held;

    if (!GROW(spool->held, spool->room_held, spool->n_held + 1))
        return false;
    if (!written_move(written, &spool->held_fd, &spool->held_size))
        return false;
    for (; i > 0 && is_before(written, spool->held[(i - 1) / 2]);
         i = (i - 1) / 2)
        spool->held[i] = spool->held[(i - 1) / 2];
    spool->held[i] = written;
    spool->n_held++;
    return true;
}

/* Take the one with the lowest id of those held, of which there is one. */
static struct written *
held_take(struct spool *spool)
{
    struct written *first = spool->held[0],
                   *moved = spool->held[--spool->n_held];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < spool->n_held) {
        if (child + 1 < spool->n_held &&
            is_before(spool->held[child + 1], spool->held[child]))
            child++;
        if (!is_before(spool->held[child], moved))
            break;
        spool->held[i] = spool->held[child];
        i = child;
    }
    spool->held[i] = moved;
    return first;
}

/* Take the first that is ready; NULL if none is. */
static struct written *
ready_take(struct spool *spool)
{
    struct written *written;

    (void)pthread_mutex_lock(&spool->lock);
    written = spool->ready;
    if (written != NULL) {
        spool->ready = written->next;
        if (spool->ready == NULL)
            spool->ready_end = &spool->ready;
        spool->n_ready--;
    }
    (void)pthread_mutex_unlock(&spool->lock);
    return written;
}

struct written *
spool_next(struct spool *spool, bool is_last)
{
    struct written *written = NULL;

    if (spool->n_held == 0 && spool->held_size > 0 &&
        ftruncate(spool->held_fd, 0) == 0)
        spool->held_size = 0; /* the last of it has been printed */
    /* What is held and due goes first. If nothing is, take what is ready, and
     * hold it in turn if it is not due; a run that is to be repeated has
     * printed nothing, and is in nobody's way. */
    while (spool->n_held == 0 || !is_due(spool, spool->held[0]->job)) {
        written = ready_take(spool);
        if (written == NULL && (!is_last || spool->n_held == 0))
            return NULL;
        if (written == NULL || !spool->in_order || !is_final(written->state) ||
            is_due(spool, written->job) || !hold(spool, written))
            break;
        written = NULL;
    }
    if (written == NULL)
        written = held_take(spool);
    if (is_final(written->state))
        turn_over(spool, written->job);
    return written;
}
