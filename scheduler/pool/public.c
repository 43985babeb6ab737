/*
 * The pool as programs call it (rota/group.h): opening and closing one, and
 * callbacks that run on it when a context ends. The engine uses pool.h itself.
 *
 * Any thread may call, and no lock is wanted; closing waits for what is queued.
 * Groups, which are the way to give a pool tasks, are in group.c.
 */
#include <rota/group.h>

#include <unistd.h>

#include "base/base.h"
#include "pool/pool.h"

enum rota_error
rota_pool_open(int workers, struct rota_pool **ret_pool)
{
    if (workers == 0)
        workers = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (workers < 1) {
        message_set("a pool has at least one worker");
        return ROTA_INVALID;
    }
    return pool_open(workers, "rota-pool", ret_pool);
}

enum rota_error
rota_pool_close(struct rota_pool *pool)
{
    enum rota_error error = pool_close(pool);

    if (error == ROTA_INVALID)
        message_set("a pool cannot be closed by one of its own workers");
    return error;
}

struct pool_hook {
    struct ctx_hook hook;
    struct rota_pool *pool;
    ctx_hook_fn *fn;
    void *arg;
};
_Static_assert(sizeof(struct pool_hook) <= sizeof(struct rota_pool_hook),
               "a hook fits into what callers provide");

/* A ctx_hook_fn. */
static void
hook_queue(void *arg)
{
    const struct pool_hook *hook = arg;

    if (pool_submit(hook->pool, hook->fn, hook->arg) != ROTA_OK)
        hook->fn(hook->arg);
}

void
rota_pool_after(struct rota_pool *pool, struct ctx *ctx,
                struct rota_pool_hook *pool_hook, ctx_hook_fn *fn, void *arg)
{
    struct pool_hook *hook = (struct pool_hook *)(void *)pool_hook;

    hook->pool = pool;
    hook->fn = fn;
    hook->arg = arg;
    ctx_after(ctx, &hook->hook, hook_queue, hook);
}
