/*
 * Waiting for one's turn to write, with a limit. The kernel gives a lock to who
 * has waited longest, and wakes him at once; but a thread that waits for it
 * there cannot be called off, and if who has the lock is stopped (Ctrl-Z) it
 * waits for good. So a thread of its own waits in line, and whoever wants the
 * turn waits for that thread, for as long as it likes. Who gives up leaves his
 * place to his next try, if he comes back before the turn has come.
 *
 * The locks are those of one open file: they are the same to all threads, and
 * whose turn it is the caller's business. One caller at a time.
 *
 * Locking: turn.lock guards what the two tell each other. turns_lock guards the
 * list of the descriptors that turns have, and is held across every fork(): a
 * forked child lets go of them, for a copy would keep the locks when we have
 * died. Under neither is another taken.
 */
#ifndef TURN_H
#define TURN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <rota/error.h>

/* Bytes of <db>-lock. */
#define TURNSTILE 0 /* held by whoever is next to write */
#define GATE      1 /* held by whoever writes */

struct turn;

/* Lock or unlock one byte; 0 or -1 with errno. command is F_OFD_SETLK, or
 * F_OFD_SETLKW to wait. */
int byte_lock(int fd, int command, short type, off_t byte);

/* Wait until the gate is ours, by deadline. *turn is NULL, or what was left
 * there by a call that answered ROTA_BUSY: the turn has not come. Errors
 * besides: ROTA_SYSTEM. */
ROTA_MUST_USE enum rota_error turn_take(struct turn **turn, int fd,
                                        int64_t deadline);

/* Nobody will come back for it. */
void turn_leave(struct turn *turn);

#endif
