/*
 * Which processes have a database open, read it or write to it, as /proc/locks
 * tells: SQLite keeps byte locks in the -shm file. rota's hold one in <db>-lock
 * besides (lockfile.h). To read it stops all locking of the machine for a
 * millisecond or two, so seldom. No state. Any thread.
 */
#ifndef HOLDERS_H
#define HOLDERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Beyond so many of a sort the rest are not told of. */
#define HOLDERS_MAX 64

struct pids {
    int64_t all[HOLDERS_MAX];
    size_t n;
};

struct holders {
    struct pids open, readers, writers;
    struct pids rotas; /* those that are ours */
};

bool pids_have(const struct pids *pids, int64_t pid);

/* Of the database with these companions. false: it cannot be told. Somebody
 * may be missing: what is read is of more than one moment. */
bool holders_read(const char *shm, const char *lock,
                  struct holders *ret_holders);

/* "process 12 (sqlite3) and 2 others": those of pids but for this one; ""
 * if there are none. */
void pids_say(const struct pids *pids, char *text, size_t size);

#endif
