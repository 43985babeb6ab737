/*
 * The shared queue of a pool: tasks that no worker has taken yet, oldest first.
 *
 * Only pool.c uses this, with pool->lock held around every call. It is a header
 * so that pool_submit(), which is measured in nanoseconds, has it inlined.
 *
 * Most tasks that are given one after the other are the same call with other
 * arguments. So the queue keeps the arguments, a pointer each, and apart from
 * them the streaks: for how many arguments in a row the call is the same. The
 * fewer bytes a task has, the less it costs to bring it to another thread.
 */
#ifndef SHARED_H
#define SHARED_H

#include "pool/ring.h"
#include "pool/worker.h"

struct shared {
    struct ring args;    /* void *, one for each task */
    struct ring streaks; /* struct streak; their counts add up to args.count */
};

/* So many arguments in a row are for the same call. */
struct streak {
    struct call call;
    size_t count; /* those taken are not counted: 0 if all have been taken */
};

static inline void **
arg_at(const struct ring *ring, size_t i)
{
    return (void **)ring->items + ring_index(ring, i);
}

static inline struct streak *
streak_at(const struct ring *ring, size_t i)
{
    return (struct streak *)ring->items + ring_index(ring, i);
}

/* True if what is called is a task of group, or of a group within it. */
static bool
is_within(struct call call, const struct rota_group *group)
{
    return call.side != NULL && group_is_within(call.side->group, group);
}

/* See to it that there is room for n tasks more, of so many streaks. False
 * without memory: no task has been lost. pool->lock held. */
static bool
shared_reserve(struct shared *shared, size_t n, size_t streaks)
{
    return ring_reserve(&shared->args, n, sizeof(void *)) &&
           ring_reserve(&shared->streaks, streaks, sizeof(struct streak));
}

/* Queue call with each of n args. There is room for n tasks and one streak.
 * pool->lock held. */
static inline void
shared_put(struct shared *shared, struct call call, void *const *args, size_t n)
{
    struct ring *streaks = &shared->streaks;
    struct streak *last = streak_at(streaks, streaks->count - 1);

    if (streaks->count == 0 || last->call.plain != call.plain ||
        last->call.side != call.side) {
        last = streak_at(streaks, streaks->count++);
        *last = (struct streak){call, 0};
    }
    last->count += n;
    for (size_t i = 0; i < n; i++)
        *arg_at(&shared->args, shared->args.count++) = args[i];
}

/* Take the oldest task, which there is. pool->lock held. */
static void
shared_take(struct shared *shared, struct task *ret_task)
{
    while (streak_at(&shared->streaks, 0)->count == 0)
        ring_drop_oldest(&shared->streaks);
    ret_task->call = streak_at(&shared->streaks, 0)->call;
    ret_task->arg = *arg_at(&shared->args, 0);
    streak_at(&shared->streaks, 0)->count--;
    ring_drop_oldest(&shared->args);
}

/* Take the oldest task of group, or of a group within it. False if there is
 * none. pool->lock held. */
static bool
shared_take_within(struct shared *shared, const struct rota_group *group,
                   struct task *ret_task)
{
    for (size_t s = 0, i = 0; s < shared->streaks.count; s++) {
        struct streak *streak = streak_at(&shared->streaks, s);

        if (streak->count == 0 || !is_within(streak->call, group)) {
            i += streak->count;
            continue;
        }
        *ret_task = (struct task){streak->call, *arg_at(&shared->args, i)};
        streak->count--;
        RING_CLOSE(&shared->args, i, arg_at);
        return true;
    }
    return false;
}

#endif
