/*
 * Who sleeps until a job ends here, or until any news. A sleeper joins before
 * it looks at the truth, so that no news is lost between the look and the
 * sleep.
 */
#ifndef SLEEPERS_H
#define SLEEPERS_H

#include "engine/engine.h"

/* Be on the list, or not any more. Takes rota.lock. */
void sleeper_join(struct rota *rota, struct sleeper *sleeper);
void sleeper_leave(struct rota *rota, struct sleeper *sleeper);

/* Sleep until there is news, or a while. On ROTA_OK it is on the list again;
 * otherwise, ctx_err(ctx), it is not. No lock held. */
enum rota_error sleeper_sleep(struct rota *rota, struct ctx *ctx,
                              struct sleeper *sleeper);

/* Under rota.lock: wake those who wait for this job, or for any news. id 0:
 * those who wait for any news only. is_durable: its end survives power loss. */
void sleepers_wake(struct rota *rota, int64_t id, bool is_durable);

/* Wake all of them: they look for themselves. Takes rota.lock. */
void sleepers_wake_all(struct rota *rota);

#endif
