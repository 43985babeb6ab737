/*
 * Child processes as jobs want them: one that cannot be started because this
 * process or the system is short of something for the moment is no failure of
 * the job's. Any thread; a lock of this file's own, under which no other is
 * taken.
 */
#ifndef CHILDREN_H
#define CHILDREN_H

#include <stdbool.h>
#include <stdint.h>

#include <rota/process.h>

/* A copy of given, as it is for us (base/abi.h). False, with words by
 * message_get(): it is no such struct, or says what cannot be. */
bool process_take(struct rota_process *ours, const struct rota_process *given);

/* rota_process_run() of a process that was taken. is_modest: while another
 * child runs, which will give back what it has, some descriptors are left for
 * whoever else needs one, and that there are no more is EMFILE. */
ROTA_MUST_USE enum rota_error process_run(struct ctx *ctx,
                                          const struct rota_process *process,
                                          bool is_modest,
                                          struct rota_process_result *result);

/* Whether an errno number says that something has run out that others give
 * back: descriptors, processes, memory. */
bool room_is_short(int error);

/* Children begin and end: so many run. */
void room_take(void);
void room_give(void);
int room_taken(void);

/* How many have ended. */
uint64_t room_given(void);

/* Wait until more than so many have ended, or for a while, in case that
 * somebody else makes room; *pause, which begins as 0, is how long, and grows.
 * ROTA_OK: it is time to try again. ctx_err(ctx). */
ROTA_MUST_USE enum rota_error room_await(struct ctx *ctx, uint64_t given,
                                         int64_t *pause);

#endif
