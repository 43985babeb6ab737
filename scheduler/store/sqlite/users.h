/*
 * Which processes have a database open, read it or write to it, as /proc/locks
 * tells: SQLite keeps byte locks in the -shm file. rota's hold one in <db>-lock
 * besides (lockfile.h). To read it stops all locking of the machine for a
 * millisecond or two, so seldom. No state. Any thread.
 */
#ifndef USERS_H
#define USERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Beyond so many of a sort the rest are not told of. */
#define USERS_MAX 64

struct pids {
    int64_t all[USERS_MAX];
    size_t n;
};

struct users {
    struct pids open, readers, writers;
    struct pids rotas; /* those that are ours */
};

bool pids_have(const struct pids *pids, int64_t pid);

/* Of the database with these companions. false: it cannot be told. Somebody
 * may be missing: what is read is of more than one moment. */
bool users_read(const char *shm, const char *lock, struct users *ret_users);

/* Which other process writes, or is the next to, and keeps all that are rota's
 * waiting. 0: it cannot be told. */
int64_t users_turn(const char *shm, const char *lock);

/* "process 12 (sqlite3) and 2 others": those of pids but for this one, and
 * whether the first is stopped; "" if there are none. */
void pids_say(const struct pids *pids, char *text, size_t size);

#endif
