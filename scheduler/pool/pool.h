/*
 * A fixed number of worker threads that run what they are given: the pool as
 * the engine uses it, and public.c, which is the pool of programs.
 *
 * No call here wants a lock. Each takes the pool's own, a leaf but for those of
 * the workers' queues, for a moment; pool_close() waits. So all but
 * pool_close() may be called under any lock of the caller's.
 */
#ifndef POOL_H
#define POOL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include <rota/error.h>
#include <rota/group.h>

/* A task's body. Runs once, on a worker, with no lock of ours held. */
typedef void pool_fn(void *arg);

/* -- The pool -------------------------------------------------------------- */

/* Start workers threads named "<name>-0", "<name>-1", ... Errors:
 * ROTA_INVALID (workers < 1), ROTA_NOMEM, ROTA_SYSTEM (a thread could not be
 * started; those that were are joined). */
ROTA_MUST_USE enum rota_error pool_open(int workers, const char *name,
                                        struct rota_pool **ret_pool);

/* Refuse further tasks, run those that are queued, join the workers, free.
 * Tasks may submit until the last has run; other threads must be done with the
 * pool. ROTA_INVALID, and nothing done, from one of its own workers. NULL is a
 * no-op. */
enum rota_error pool_close(struct rota_pool *pool);

/* Make room for n queued tasks, so that submitting them cannot fail. */
ROTA_MUST_USE enum rota_error pool_reserve(struct rota_pool *pool, size_t n);

/* Queue fn(arg). Any thread, workers included. Errors: ROTA_NOMEM,
 * ROTA_CLOSED; fn will then not run. */
ROTA_MUST_USE enum rota_error pool_submit(struct rota_pool *pool, pool_fn *fn,
                                          void *arg);

/* Queue fn(args[0]) ... fn(args[n - 1]) under one lock: all or none. */
ROTA_MUST_USE enum rota_error pool_submit_many(struct rota_pool *pool,
                                               pool_fn *fn, void *const *args,
                                               size_t n);

/* True on a thread of pool. */
bool pool_is_worker(const struct rota_pool *pool);

/* How many there are. */
int pool_workers(const struct rota_pool *pool);

#endif
