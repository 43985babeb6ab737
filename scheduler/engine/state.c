#include "engine/state.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/text.h"
#include "engine/sleepers.h"

/* -- Asking; under rota.lock ----------------------------------------------- */

bool
engine_may_claim(const struct rota *rota)
{
    return rota->is_started && !rota->is_stopping && !rota->is_closing &&
           !ctx_done(rota->run_ctx);
}

bool
engine_awaits_job(const struct rota *rota)
{
    return rota->scope.job == SCOPE_NEXT;
}

int64_t
engine_room(const struct rota *rota)
{
    if (rota->is_stepping)
        return rota->steps - rota->active;
    if (rota->args_bytes > PREFETCH_BYTES)
        return pool_workers(rota->pool) - rota->active;
    return pool_workers(rota->pool) + rota->prefetch - rota->active;
}

bool
engine_is_ahead(const struct rota *rota)
{
    return rota->unstarted >= rota->options.workers &&
           rota->unstarted * 2 >= rota->prefetch;
}

bool
engine_is_between_steps(const struct rota *rota)
{
    return rota->is_stepping && !rota->in_step;
}

bool
engine_is_quiet(const struct rota *rota)
{
    return rota->active == 0 && !rota->is_claiming &&
           !(rota->maybe_ready && engine_may_claim(rota));
}

/* -- Asking --------------------------------------------------------------- */

bool
engine_is_closing(struct rota *rota)
{
    bool is_closing;

    lock_take(&rota->lock);
    is_closing = rota->is_closing;
    lock_drop(&rota->lock);
    return is_closing;
}

bool
engine_is_stopping(struct rota *rota)
{
    bool is_stopping;

    lock_take(&rota->lock);
    is_stopping = rota->is_stopping;
    lock_drop(&rota->lock);
    return is_stopping;
}

void
engine_check_store(struct rota *rota)
{
    const char *damage = store_damage(rota->store);
    struct ctx *ctx = NULL;
    bool was_known;

    if (damage == NULL)
        return;
    lock_take(&rota->lock);
    was_known = rota->is_damaged;
    rota->is_damaged = true;
    rota->is_stopping |= rota->is_started;
    if (rota->is_started && !was_known)
        ctx = ctx_ref(rota->run_ctx);
    lock_drop(&rota->lock);
    if (was_known)
        return;
    rota_say(rota, 0, "%s", damage);
    if (ctx != NULL)
        (void)ctx_cancel_error(ctx, ROTA_CORRUPT, "%s", damage);
    ctx_unref(ctx);
    sleepers_wake_all(rota);
    (void)store_damage(rota->store); /* callbacks may have had words since */
}

bool
engine_scope(struct rota *rota, struct scope *ret_scope)
{
    bool is_started;

    lock_take(&rota->lock);
    is_started = rota->is_started;
    *ret_scope = is_started ? rota->scope : (struct scope){0};
    lock_drop(&rota->lock);
    return is_started;
}

enum rota_error
engine_writable(const struct rota *rota)
{
    if (store_is_inherited(rota->store))
        return ROTA_INVALID;
    if (!rota->is_readonly)
        return ROTA_OK;
    message_set("%s was opened to look only", rota->identity->name);
    return ROTA_INVALID;
}

bool
engine_is_own_job(struct rota *rota, const char *what)
{
    struct rota_pool *pool;
    bool is_own;

    lock_take(&rota->lock);
    pool = rota->pool;
    is_own = rota->in_step && pthread_equal(rota->stepper, pthread_self());
    lock_drop(&rota->lock);
    is_own = is_own || (pool != NULL && pool_is_worker(pool));
    if (is_own)
        message_set("a job cannot %s the scheduler it runs on", what);
    return is_own;
}

int64_t
rota_now(const struct rota *rota)
{
    return store_now(rota->store);
}

void
rota_say(struct rota *rota, int64_t job, const char *format, ...)
{
    char line[1280];
    va_list args;

    if (rota->options.log == NULL)
        return;
    va_start(args, format);
    text_vprint(line, sizeof(line), format, args);
    va_end(args);
    rota->options.log(rota->options.log_arg, job, line);
}

/* -- Waking the writer ----------------------------------------------------- */

void
writer_poke(struct rota *rota)
{
    lock_take(&rota->lock);
    if (!rota->must_write) {
        rota->must_write = true;
        MUST(pthread_cond_signal(&rota->work));
    }
    lock_drop(&rota->lock);
}

/* What it is told of may have been written without the lock (rota.ended).
 * Taking the lock once makes sure that the writer either waits on the
 * condition, and gets the signal, or will look after us, and sees it. */
void
writer_tell(struct rota *rota)
{
    lock_take(&rota->lock);
    lock_drop(&rota->lock);
    MUST(pthread_cond_signal(&rota->work));
}

void
writer_offer(struct rota *rota)
{
    lock_take(&rota->lock);
    rota->maybe_ready = true;
    MUST(pthread_cond_signal(&rota->work));
    lock_drop(&rota->lock);
}
