/*
 * Waiting for a job's end, and for all of them. Who waits joins the sleepers
 * (engine/sleepers.h) before it looks. Any thread but a job's own for
 * rota_drain(); no lock held while it sleeps.
 */
#include "api/check.h"
#include "engine/listener.h"
#include "engine/readers.h"
#include "engine/sleepers.h"
#include "engine/state.h"
#include "engine/writer.h"

/* -- One job -------------------------------------------------------------- */

static enum rota_error
outcome_read(struct rota *rota, int64_t id, struct rota_outcome *ret_outcome)
{
    enum rota_error error;
    struct reader *reader = reader_acquire(rota, &error);

    if (reader == NULL)
        return error;
    error = reader_outcome(reader, id, ret_outcome);
    reader_release(rota, reader);
    return error;
}

/* An outcome that was seen must not be lost with the power. */
static enum rota_error
make_durable(struct rota *rota, bool is_durable)
{
    struct request request = {.wish = {.kind = WISH_SYNC}};

    if (is_durable || rota->is_readonly ||
        (rota->options.flags & ROTA_NORMAL) != 0)
        return ROTA_OK;
    return wish_run(rota, &request);
}

/* Look and sleep until the job has ended. The sleeper has joined, and has left
 * on return. */
static enum rota_error
await_end(struct ctx *ctx, struct rota *rota, struct sleeper *sleeper,
          struct rota_outcome *outcome)
{
    enum rota_error error;

    for (;;) {
        error = outcome_read(rota, sleeper->id, outcome);
        if ((error != ROTA_OK && error != ROTA_BUSY) ||
            outcome->state >= ROTA_SUCCEEDED)
            break;
        error = sleeper_sleep(rota, ctx, sleeper);
        if (error != ROTA_OK)
            return error;
    }
    sleeper_leave(rota, sleeper);
    return error;
}

enum rota_error
rota_wait(struct ctx *ctx, struct rota *rota, int64_t id,
          struct rota_outcome *ret_outcome)
{
    struct sleeper sleeper = {.id = id};
    struct rota_outcome outcome = ROTA_OUTCOME_INIT;
    enum rota_error error = listener_start(rota);

    if (error != ROTA_OK)
        return error;
    sleeper_join(rota, &sleeper);
    error = await_end(ctx == NULL ? ctx_background() : ctx, rota, &sleeper,
                      &outcome);
    if (error == ROTA_OK)
        error = make_durable(rota, atomic_load_explicit(&sleeper.is_durable,
                                                        memory_order_relaxed));
    if (error == ROTA_OK)
        outcome_give(ret_outcome, &outcome);
    return error;
}

/* -- All of them ---------------------------------------------------------- */

/* Whether nothing is left to run here. */
static enum rota_error
is_drained(struct rota *rota, bool *ret_drained)
{
    struct waiting waiting = {0};
    enum rota_error error;
    struct reader *reader = reader_acquire(rota, &error);
    struct scope scope;
    bool is_quiet;

    if (reader == NULL)
        return error;
    (void)engine_scope(rota, &scope);
    error = reader_waiting(reader, &scope, &waiting);
    reader_release(rota, reader);
    /* after the look: what was claimed or came back before it is known by now
     */
    lock_take(&rota->lock);
    is_quiet = engine_is_quiet(rota);
    lock_drop(&rota->lock);
    *ret_drained = is_quiet && !waiting.is_ready && !waiting.is_limited &&
                   !waiting.is_unsettled && waiting.next > rota_now(rota);
    return error;
}

static enum rota_error
drain_check(struct rota *rota)
{
    bool has_workers;

    if (store_is_inherited(rota->store))
        return ROTA_INVALID;
    lock_take(&rota->lock);
    has_workers = rota->is_started && !rota->is_stepping;
    lock_drop(&rota->lock);
    if (!has_workers) {
        message_set("rota_start() comes before rota_drain()");
        return ROTA_INVALID;
    }
    return engine_is_own_job(rota, "drain") ? ROTA_INVALID : ROTA_OK;
}

enum rota_error
rota_drain(struct ctx *ctx, struct rota *rota)
{
    struct sleeper sleeper = {.id = 0};
    enum rota_error error = drain_check(rota);
    bool is_over = false;

    if (error != ROTA_OK)
        return error;
    sleeper_join(rota, &sleeper);
    for (;;) {
        error = is_drained(rota, &is_over);
        if (error != ROTA_OK || is_over)
            break;
        error =
            sleeper_sleep(rota, ctx == NULL ? ctx_background() : ctx, &sleeper);
        if (error != ROTA_OK)
            return error;
    }
    sleeper_leave(rota, &sleeper);
    return error;
}
