/*
 * Starting: the kinds that are handled become known to the store, threads and
 * memory are made, and last of all this process joins those who run jobs, since
 * what others see is not undone. One thread at a time, which is_starting sees
 * to; rota.lock is held for moments.
 */
#include "api/start.h"

#include <stdlib.h>

#include "api/check.h"
#include "engine/listener.h"
#include "engine/rescue.h"
#include "engine/state.h"
#include "engine/writer.h"

/* What a start has made, and does not yet belong to the scheduler. */
struct making {
    struct joined_kind *kinds; /* in the order of rota.kinds */
    int64_t *kind_numbers;
    size_t n_kinds, n_isolated;
    struct rota_pool *pool;
    struct ctx *run_ctx;
};

/* Whether it may start; if so, it is starting, and nobody else may. */
static enum rota_error
start_claim(struct rota *rota)
{
    enum rota_error error = engine_writable(rota);

    if (error != ROTA_OK)
        return error;
    lock_take(&rota->lock);
    if (rota->n_kinds == 0) {
        message_set("no kind is handled here: rota_handle() comes first");
        error = ROTA_INVALID;
    } else if (rota->is_started || rota->is_starting) {
        message_set(rota->is_stepping ? "rota_step() runs its jobs"
                                      : "it was started before");
        error = ROTA_BUSY;
    } else {
        rota->is_starting = true;
    }
    lock_drop(&rota->lock);
    return error;
}

/* The kinds, as the store is to know them. The list stays as it is while
 * is_starting. */
static enum rota_error
kinds_list(const struct rota *rota, struct making *making)
{
    size_t n = 0;

    making->n_kinds = rota->n_kinds;
    making->kinds = calloc(rota->n_kinds, sizeof(*making->kinds));
    making->kind_numbers = calloc(rota->n_kinds, sizeof(*making->kind_numbers));
    if (making->kinds == NULL || making->kind_numbers == NULL)
        return no_memory();
    for (const struct kind *kind = rota->kinds; kind != NULL;
         kind = kind->next) {
        int attempts = kind->defaults.max_attempts;

        making->kinds[n++] = (struct joined_kind){
            .name = kind->name,
            .max_attempts = attempts > 0 ? attempts : 1,
            .timeout_ms = /* rounded up: 0 is none */
            saturating_add(kind->defaults.timeout, 999999) / 1000000,
            .is_isolated = kind->defaults.is_isolated};
        making->n_isolated += kind->defaults.is_isolated;
    }
    return ROTA_OK;
}

static enum rota_error
workers_make(const struct rota *rota, struct making *making)
{
    int workers = rota->options.workers;
    enum rota_error error = pool_open(workers, "rota", &making->pool);

    if (error == ROTA_SYSTEM)
        message_set("cannot start %d threads", workers);
    /* the jobs that are claimed, and those given back but still queued */
    return error == ROTA_OK ? pool_reserve(making->pool,
                                           2 * ((size_t)workers + PREFETCH_MAX))
                            : error;
}

static void
making_undo(struct making *making)
{
    (void)pool_close(making->pool);
    free(making->kind_numbers);
    ctx_end(making->run_ctx);
}

/* Join those who run jobs. Last: what others see is not undone. */
static enum rota_error
start_join(struct rota *rota, const struct start *start, struct making *making,
           struct scope *ret_scope)
{
    struct request request = {
        .wish = {.kind = WISH_JOIN,
                 .join = {.kinds = making->kinds,
                          .n_kinds = making->n_kinds,
                          .queue = start->queue,
                          .threads = rota->options.workers}}};
    enum rota_error error = wish_run(rota, &request);

    for (size_t i = 0; error == ROTA_OK && i < making->n_kinds; i++)
        making->kind_numbers[i] = making->kinds[i].number;
    if (error == ROTA_OK)
        *ret_scope = (struct scope){.process = request.wish.join.process,
                                    .kinds = making->kind_numbers,
                                    .n_kinds = making->n_kinds,
                                    .n_isolated = making->n_isolated,
                                    .queue = request.wish.join.queue_number,
                                    .job = start->job};
    return error;
}

/* Hand over what was made: from here on jobs may be claimed. */
static void
start_finish(struct rota *rota, const struct start *start,
             const struct making *making, const struct scope *scope)
{
    size_t n = 0;

    atomic_store_explicit(&rota->process, scope->process, memory_order_relaxed);
    lock_take(&rota->lock);
    for (struct kind *kind = rota->kinds; kind != NULL; kind = kind->next)
        kind->number = making->kind_numbers[n++];
    rota->kind_numbers = making->kind_numbers;
    rota->pool = making->pool;
    rota->run_ctx = making->run_ctx;
    rota->scope = *scope;
    rota->is_stepping = start->is_stepping;
    rota->is_started = true;
    rota->is_starting = false;
    rota->maybe_ready = true;
    lock_drop(&rota->lock);
    writer_poke(rota);
}

/* All that can be undone, and then to join. */
static enum rota_error
start_make(struct ctx *ctx, struct rota *rota, const struct start *start,
           struct making *making, struct scope *ret_scope)
{
    enum rota_error error = kinds_list(rota, making);

    if (error == ROTA_OK && !start->is_stepping)
        error = workers_make(rota, making);
    making->run_ctx = ctx_with_cancel(ctx);
    if (error == ROTA_OK && ctx_err(making->run_ctx) == ROTA_NOMEM)
        error = no_memory(); /* under it nothing would run */
    if (error == ROTA_OK)
        error = rescue_all(rota);
    if (error == ROTA_OK && !start->is_stepping)
        error = writer_start(rota);
    if (error == ROTA_OK && !start->is_stepping)
        error = listener_start(rota);
    return error == ROTA_OK ? start_join(rota, start, making, ret_scope)
                            : error;
}

enum rota_error
engine_start(struct ctx *ctx, struct rota *rota, const struct start *start)
{
    struct making making = {0};
    struct scope scope = {0};
    enum rota_error error = start_claim(rota);

    if (error != ROTA_OK)
        return error;
    error = start_make(ctx, rota, start, &making, &scope);
    if (error == ROTA_OK) {
        start_finish(rota, start, &making, &scope);
    } else {
        making_undo(&making);
        lock_take(&rota->lock);
        rota->is_starting = false;
        lock_drop(&rota->lock);
    }
    free(making.kinds);
    return error;
}

enum rota_error
rota_start(struct ctx *ctx, struct rota *rota)
{
    return engine_start(ctx, rota, &(struct start){0});
}

enum rota_error
rota_start_job(struct ctx *ctx, struct rota *rota, int64_t id)
{
    return engine_start(ctx, rota,
                        &(struct start){.job = id == 0 ? SCOPE_NEXT : id});
}

enum rota_error
rota_start_queue(struct ctx *ctx, struct rota *rota, const char *queue)
{
    if (queue == NULL)
        queue = "default";
    if (!name_is_valid(queue, "queue"))
        return ROTA_INVALID;
    return engine_start(ctx, rota, &(struct start){.queue = queue});
}
