#include "engine/sleepers.h"

/* A sleeper looks anew so often even if nobody wakes it. */
#define LOOK_AGAIN ROTA_SEC(1)

void
sleeper_join(struct rota *rota, struct sleeper *sleeper)
{
    lock_take(&rota->lock);
    list_append(&rota->sleepers, &sleeper->on_sleepers);
    lock_drop(&rota->lock);
}

void
sleeper_leave(struct rota *rota, struct sleeper *sleeper)
{
    lock_take(&rota->lock);
    list_remove(&sleeper->on_sleepers);
    lock_drop(&rota->lock);
}

enum rota_error
sleeper_sleep(struct rota *rota, struct ctx *ctx, struct sleeper *sleeper)
{
    enum rota_error error = wake_wait_ctx(
        &sleeper->wake, ctx, saturating_add(ctx_now(), LOOK_AGAIN));

    sleeper_leave(rota, sleeper); /* nobody touches the wake from here on */
    if (error == ROTA_CANCELED || error == ROTA_DEADLINE ||
        error == ROTA_NOMEM) {
        message_set("%s", ctx_cause(ctx));
        return error;
    }
    atomic_store_explicit(&sleeper->wake.word, 0, memory_order_relaxed);
    sleeper_join(rota, sleeper);
    return ROTA_OK;
}

void
sleepers_wake(struct rota *rota, int64_t id, bool is_durable)
{
    for (struct link *l = rota->sleepers.next; l != &rota->sleepers;
         l = l->next) {
        struct sleeper *sleeper = OWNER_OF(l, struct sleeper, on_sleepers);

        if (sleeper->id != id && sleeper->id != 0)
            continue;
        if (is_durable)
            atomic_store_explicit(&sleeper->is_durable, true,
                                  memory_order_relaxed);
        wake_up(&sleeper->wake, WAKE_SET);
    }
}

void
sleepers_wake_all(struct rota *rota)
{
    lock_take(&rota->lock);
    for (struct link *l = rota->sleepers.next; l != &rota->sleepers;
         l = l->next)
        wake_up(&OWNER_OF(l, struct sleeper, on_sleepers)->wake, WAKE_SET);
    lock_drop(&rota->lock);
}
