/*
 * The side file <db>-lock: who is alive, and whose turn it is to write. Nothing
 * is ever stored in it; only its byte locks mean something, and the kernel
 * drops those when a process dies, however it dies.
 */
#ifndef LOCKFILE_H
#define LOCKFILE_H

#include <stdbool.h>
#include <stdint.h>

#include <rota/error.h>

struct lockfile;

/* Open, making the file with mode 0600 if it is not there. In a forked child
 * the descriptor is closed, so that a child cannot keep its parent's locks
 * alive. Errors: ROTA_SYSTEM, ROTA_NOMEM. */
ROTA_MUST_USE enum rota_error lockfile_open(const char *path,
                                            struct lockfile **ret_file);

/* Drop every lock of ours. NULL is a no-op. */
void lockfile_close(struct lockfile *file);

/* Wait for our turn to write, in order of arrival among all rota processes.
 * One thread at a time per lockfile. Errors: ROTA_SYSTEM. */
ROTA_MUST_USE enum rota_error lockfile_enter(struct lockfile *file);
void lockfile_leave(struct lockfile *file);

/* Say that process (its id in the queue) lives, until close or death. */
ROTA_MUST_USE enum rota_error lockfile_live(struct lockfile *file,
                                            int64_t process);

/* Whether somebody else's process lives. On doubt: yes. Any thread. */
bool lockfile_lives(struct lockfile *file, int64_t process);

#endif
