/*
 * A fixed number of threads, and groups of tasks that run on them: what stands
 * or falls together. From Go's errgroup and from nurseries.
 *
 *   ROTA_GROUP_AUTO struct rota_group *group = rota_group_open(ctx, pool, 0);
 *
 *   for (int i = 0; i < n; i++)
 *       rota_group_go(group, fetch, &pages[i]);
 *   return rota_group_wait(group);
 *
 * The first task that fails ends the context that all of them were given, with
 * its error as the cause; the others see that they may stop, and the group is
 * still waited for whole.
 *
 * Groups nest: a worker that waits on a group, or that finds it at its limit,
 * runs that group's tasks meanwhile, so that any number of groups inside one
 * another get done on a pool of any size, one thread included. Only who waits
 * on something else, a lock or a pipe that another task is to feed, must see to
 * it that there is a thread for that one.
 *
 * Any thread may call anything here, unless it says otherwise.
 */
#ifndef ROTA_GROUP_H
#define ROTA_GROUP_H

#include <stdbool.h>
#include <stddef.h>

#include <rota/ctx.h>
#include <rota/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/* -- Pools --------------------------------------------------------------- */

struct rota_pool;

/* Start workers threads; 0: one for each CPU. All signals are blocked in them.
 * Errors: ROTA_INVALID, ROTA_NOMEM, ROTA_SYSTEM. */
ROTA_API ROTA_MUST_USE enum rota_error
rota_pool_open(int workers, struct rota_pool **ret_pool);

/* Run what is queued, join the threads, free. Its groups must have been closed.
 * ROTA_INVALID, and nothing done, from one of its own workers. NULL is a
 * no-op. */
ROTA_API enum rota_error rota_pool_close(struct rota_pool *pool);

/* Storage for one registration with rota_pool_after(), the caller's. */
struct rota_pool_hook {
    struct ctx_hook hook;
    void *opaque_[4];
};

/* ctx_after() whose callback runs on pool, where it may take its time: Go's
 * AfterFunc. ctx_hook_stop(&hook->hook) stops it, if true; if not, fn runs or
 * has run, on the pool, and hook and what it touches must stay until it has.
 * Cannot fail: where there is no memory to queue it, it runs on the thread that
 * ends ctx. */
ROTA_API void rota_pool_after(struct rota_pool *pool, struct ctx *ctx,
                              struct rota_pool_hook *hook, ctx_hook_fn *fn,
                              void *arg);

/* -- Groups -------------------------------------------------------------- */

struct rota_group;

/* A task. ctx is the group's: it ends when a task has failed or when the
 * context that the group was opened with ends. Always called, and once; if it
 * is too late, with a context that is done: so it owns its arg. */
typedef enum rota_error rota_group_fn(struct ctx *ctx, void *arg);

ROTA_API enum rota_error rota_group_close(struct rota_group *group);

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#define ROTA_GROUP_MADE_                                         \
    __attribute__((malloc(rota_group_close, 1), returns_nonnull, \
                   warn_unused_result))
#else
#define ROTA_GROUP_MADE_ ROTA_MUST_USE
#endif

/* A group of tasks that run on pool, under a context derived from ctx (NULL:
 * background), limit of them at a time (0: as many as there are workers). Never
 * NULL: without memory a group is given whose context is done with ROTA_NOMEM,
 * and whose tasks run inside rota_group_go(). */
ROTA_API struct rota_group *rota_group_open(struct ctx *ctx,
                                            struct rota_pool *pool,
                                            int limit) ROTA_GROUP_MADE_;

/* The tasks' context: lent. To end it is to call the tasks off. */
ROTA_API struct ctx *rota_group_ctx(struct rota_group *group);

/* Have fn(ctx, arg) run. At the group's limit it waits until a task has ended;
 * called by a task of the group itself, it runs fn instead of waiting. */
ROTA_API void rota_group_go(struct rota_group *group, rota_group_fn *fn,
                            void *arg);

/* The same for fn(ctx, args[0]) to fn(ctx, args[n - 1]). */
ROTA_API void rota_group_go_many(struct rota_group *group, rota_group_fn *fn,
                                 void *const *args, size_t n);

/* The same for a task whose failure is kept and ends nobody. */
ROTA_API void rota_group_go_optional(struct rota_group *group,
                                     rota_group_fn *fn, void *arg);

/* The same, but false, and fn not called, if the group is at its limit. */
ROTA_API bool rota_group_try_go(struct rota_group *group, rota_group_fn *fn,
                                void *arg);

/* Wait until all tasks have ended, whatever becomes of the contexts. ROTA_OK;
 * or the error of the first task that failed, optional ones not counted; or, if
 * none had and the group's context had ended before its last task, that one's
 * ctx_err(). More tasks may be given afterwards, and be waited for.
 * ROTA_INVALID from one of the group's own tasks. */
ROTA_API enum rota_error rota_group_wait(struct rota_group *group);

/* A task that failed. */
struct rota_failure {
    enum rota_error error;
    bool is_optional;
    void *arg;
};

/* The failures of the tasks that have ended, optional ones included, in the
 * order of their ends: the first n of them. Returns how many there are. What
 * failed while there was no memory may be missing. */
ROTA_API size_t rota_group_failures(struct rota_group *group,
                                    struct rota_failure *ret_failures,
                                    size_t n);

/* rota_group_wait(), then end the context and free the group. From one of its
 * own tasks: ROTA_INVALID, and nothing done. NULL is a no-op. */

static inline void
rota_group_auto_close_(struct rota_group **group)
{
    (void)rota_group_close(*group);
}

#if defined(__GNUC__)
/* Closes the group on every way out of the scope. */
#define ROTA_GROUP_AUTO __attribute__((cleanup(rota_group_auto_close_)))
#endif

#ifdef __cplusplus
}
#endif
#endif
