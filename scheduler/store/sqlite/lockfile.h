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

/* From this byte on a byte for each process id: read locks of those that have
 * the queue open. Nobody waits for them; yield.h looks who they are. */
#define LOCKFILE_PIDS (UINT64_C(1) << 40)

/* Open, making the file with mode 0600 if it is not there. In a forked child
 * the descriptor is closed, so that a child cannot keep its parent's locks
 * alive. Errors: ROTA_SYSTEM, ROTA_NOMEM. */
ROTA_MUST_USE enum rota_error lockfile_open(const char *path,
                                            struct lockfile **ret_file);

/* The same, only to be known as one of rota's; the file need not be there. */
ROTA_MUST_USE enum rota_error lockfile_open_look(const char *path,
                                                 struct lockfile **ret_file);

/* Whether it was opened by the process that this one was forked from. */
bool lockfile_is_inherited(const struct lockfile *file);

/* Whether this process is the forked child of one that had opened the queue
 * whose lock file is at path: SQLite takes what it remembers of its parent's
 * locks for its own, so that the file must not be opened here. */
bool lockfile_was_open(const char *path);

/* Drop every lock of ours. NULL is a no-op. */
void lockfile_close(struct lockfile *file);

/* Wait for our turn to write, in order of arrival among all rota processes,
 * until deadline; 0: not at all. One thread at a time per lockfile. Errors:
 * ROTA_BUSY, without words; ROTA_SYSTEM. */
ROTA_MUST_USE enum rota_error lockfile_enter(struct lockfile *file,
                                             int64_t deadline);
void lockfile_leave(struct lockfile *file);

/* Say that process (its id in the queue) lives, until close, or until it is
 * dead and so is all that its keepers keep. At most one at a time. */
ROTA_MUST_USE enum rota_error lockfile_live(struct lockfile *file,
                                            int64_t process);

/* Take that back: its number will be somebody else's. */
void lockfile_unlive(struct lockfile *file);

/* Whether somebody else's process lives. On doubt: yes. Any thread. */
bool lockfile_lives(struct lockfile *file, int64_t process);

#endif
