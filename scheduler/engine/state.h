/*
 * Questions about the engine's state, and the few things that everybody does to
 * it. Where a comment says "Under rota.lock", the caller holds it; where it
 * does not, the call may take it.
 */
#ifndef STATE_H
#define STATE_H

#include "engine/engine.h"

/* -- Asking; under rota.lock ----------------------------------------------- */

/* Whether jobs may be claimed here. */
bool engine_may_claim(const struct rota *rota);

/* Whether the job that the workers were started for has yet to come. */
bool engine_awaits_job(const struct rota *rota);

/* How many more may be claimed, by the room that there is. */
int64_t engine_room(const struct rota *rota);

/* The workers have jobs enough for a while. */
bool engine_is_ahead(const struct rota *rota);

/* Between steps nothing is written unless somebody asks: what has ended is
 * recorded by the next call only. */
bool engine_is_between_steps(const struct rota *rota);

/* No job is claimed here, nor about to be. Whoever waits for that sleeps until
 * any news. */
bool engine_is_quiet(const struct rota *rota);

/* -- Asking --------------------------------------------------------------- */

bool engine_is_closing(struct rota *rota);
bool engine_is_stopping(struct rota *rota);

/* If the store is damaged, nothing more is begun here, and what runs is to
 * stop: no end of it can be recorded. Said once. The contexts of jobs end on
 * this thread, no lock held. */
void engine_check_store(struct rota *rota);

/* Our scope as it stands; false, and an empty one, before the start. */
bool engine_scope(struct rota *rota, struct scope *ret_scope);

/* ROTA_INVALID, and words, if it was opened to look only, or by the process
 * that this one was forked from. */
enum rota_error engine_writable(const struct rota *rota);

/* True, after saying that it cannot do what, if a job of rota's calls. */
bool engine_is_own_job(struct rota *rota, const char *what);

/* Unix milliseconds, as the queue is to see them. Any thread. */
int64_t rota_now(const struct rota *rota);

/* Say a line to the log function. No lock held. */
void rota_say(struct rota *rota, int64_t job, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* -- Waking the writer ----------------------------------------------------- */

/* Have the writer thread go through a cycle. */
void writer_poke(struct rota *rota);

/* Wake the writer thread, which decides by itself whether there is work: there
 * may be something to claim, or a job has ended, which may wait for others. For
 * threads that are joined before it is. */
void writer_tell(struct rota *rota);

/* Something may be ready that was not: let the writer look. */
void writer_offer(struct rota *rota);

#endif
