/*
 * A condition variable that a context can end the wait on. Any thread, with no
 * lock of ours held, and with or without the caller's mutex.
 *
 * A waiter is on its caller's stack, and sits in the condition's ring by one
 * link and in its context's by another, so that a signal wakes one sleeper, and
 * the end of a context wakes those of its subtree and nobody else.
 *
 * Locking: the ring is under cond->lock, a leaf. Who signals takes the waiter
 * out under the lock and sets its wake when he has dropped it: in between the
 * waiter's memory is his, until WAKE_SET is seen. The hard case is a sleeper
 * whose context ends at the same moment. It looks, under the lock, whether it
 * was taken out: if so it waits for WAKE_SET, and answers that it was
 * signalled, for nobody else will get that signal.
 */
#include "context/node.h"

struct cond {
    pthread_mutex_t lock;
    struct link waiters; /* struct cond_waiter, in the order they came */
};
_Static_assert(sizeof(struct cond) <= sizeof(struct ctx_cond),
               "a condition fits into what callers provide");
_Static_assert(_Alignof(struct cond) <= _Alignof(struct ctx_cond),
               "at an address that suits it");

struct cond_waiter {
    struct link on_cond; /* under cond->lock, as is_taken is */
    bool is_taken;       /* by a signal: wake will be set */
    struct wake wake;
};

static struct cond *
cond_of(struct ctx_cond *cond)
{
    return (struct cond *)(void *)cond;
}

void
ctx_cond_init(struct ctx_cond *ctx_cond)
{
    struct cond *cond = cond_of(ctx_cond);

    lock_init(&cond->lock);
    list_init(&cond->waiters);
}

/* The first waiter, taken out; NULL if there is none. cond->lock held. */
static struct cond_waiter *
cond_waiter_take(struct cond *cond)
{
    struct link *first = list_take(&cond->waiters);
    struct cond_waiter *waiter;

    if (first == NULL)
        return NULL;
    waiter = OWNER_OF(first, struct cond_waiter, on_cond);
    waiter->is_taken = true;
    return waiter;
}

void
ctx_cond_signal(struct ctx_cond *ctx_cond)
{
    struct cond *cond = cond_of(ctx_cond);
    struct cond_waiter *waiter;

    lock_take(&cond->lock);
    waiter = cond_waiter_take(cond);
    lock_drop(&cond->lock);
    if (waiter != NULL)
        wake_up(&waiter->wake, WAKE_SET);
}

void
ctx_cond_broadcast(struct ctx_cond *ctx_cond)
{
    struct cond *cond = cond_of(ctx_cond);
    struct cond_waiter *waiter;
    struct link taken, *item, *next;

    list_init(&taken);
    lock_take(&cond->lock);
    while ((waiter = cond_waiter_take(cond)) != NULL)
        list_append(&taken, &waiter->on_cond);
    lock_drop(&cond->lock);
    for (item = taken.next; item != &taken; item = next) {
        next = item->next; /* item is gone once its sleeper is awake */
        wake_up(&OWNER_OF(item, struct cond_waiter, on_cond)->wake, WAKE_SET);
    }
}

/* True if a signal has taken waiter out, and is about to set its wake. If not,
 * it is out now, by our hand. */
static bool
cond_waiter_is_taken(struct cond *cond, struct cond_waiter *waiter)
{
    bool is_taken;

    lock_take(&cond->lock);
    is_taken = waiter->is_taken;
    if (!is_taken)
        list_remove(&waiter->on_cond);
    lock_drop(&cond->lock);
    return is_taken;
}

enum rota_error
ctx_cond_wait(struct ctx *ctx, struct ctx_cond *ctx_cond,
              pthread_mutex_t *mutex, int64_t deadline)
{
    struct cond *cond = cond_of(ctx_cond);
    struct cond_waiter waiter = {.wake = WAKE_INIT};
    enum rota_error error;

    if (ctx_done(ctx))
        return ctx_err(ctx);
    lock_take(&cond->lock);
    list_append(&cond->waiters, &waiter.on_cond);
    lock_drop(&cond->lock);
    lock_drop(mutex);
    error = wake_wait_ctx(&waiter.wake, ctx, deadline);
    if (error != ROTA_OK && cond_waiter_is_taken(cond, &waiter)) {
        (void)wake_wait(&waiter.wake, ROTA_FOREVER);
        error = ROTA_OK;
    }
    lock_take(mutex);
    return error;
}
