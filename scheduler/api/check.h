/*
 * What callers hand in, checked before it goes further: structs, names,
 * numbers, times. What is wrong is ROTA_INVALID, or false, and words about it
 * by message_get(). No state; no lock. Any thread.
 */
#ifndef CHECK_H
#define CHECK_H

#include "engine/engine.h"

/* -- Structs; of older and newer versions too (base/abi.h) ------------------
 */

/* NULL is the defaults. */
ROTA_MUST_USE enum rota_error options_take(struct rota_options *ours,
                                           const struct rota_options *given);
ROTA_MUST_USE enum rota_error defaults_take(struct rota_defaults *ours,
                                            const struct rota_defaults *given);

/* Of n submissions, each as long as the first says. *ret_taken is what they
 * are for us: themselves, or a copy in *ret_copy, which is to be freed. */
ROTA_MUST_USE enum rota_error
submissions_take(const struct rota *rota,
                 const struct rota_submission *submissions, size_t n,
                 const struct rota_submission **ret_taken,
                 struct rota_submission **ret_copy);

/* Give a caller as much of outcome as his struct has room for. NULL: he does
 * not want it. */
void outcome_give(struct rota_outcome *ret_outcome,
                  const struct rota_outcome *outcome);

/* -- Values --------------------------------------------------------------- */

bool name_is_valid(const char *name, const char *what);
bool reason_is_valid(const struct rota *rota, const char *reason);
bool priority_is_valid(int64_t priority);
/* 0 is one. */
bool time_is_valid(const struct rota *rota, int64_t time, const char *what);
bool limit_is_valid(int64_t max_running);

#endif
