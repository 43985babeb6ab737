/*
 * Letting clients that are not rota's write, while we write without pause.
 *
 * Whoever waits for SQLite's write lock looks for it now and then, up to 100 ms
 * apart, and comes in vain as long as a transaction of ours follows the last:
 * rota processes pass the gate (lockfile.h) in turn, but others do not know it.
 * So as long as we are busy and others have the file open, all rota processes
 * leave the lock free at the same times, which are read off the clock that they
 * share: for WINDOW of each PERIOD, chosen so that whoever looks as SQLite's
 * busy_timeout does is in within 35 ms, and a little later if a transaction
 * takes long.
 *
 * users.h tells who has the file open; where it cannot be told, others are
 * assumed. It is asked only when inotify says that somebody has opened the
 * file, when those who were there may have left, and every ten seconds.
 *
 * One thread at a time: the holder of the writer's role.
 */
#ifndef YIELD_H
#define YIELD_H

#include <stdbool.h>
#include <stdint.h>

#include <rota/error.h>

struct yield {
    char *shm, *lock;    /* paths, malloc'd */
    int64_t since, busy; /* this period's beginning, our share of it */
    int64_t began, asked, looked;
    int opens;       /* an inotify descriptor; -1: none */
    int64_t until;   /* others are to be minded */
    bool is_crowded; /* we left little of the last period to them */
};

/* Of the database at path. ROTA_NOMEM. */
ROTA_MUST_USE enum rota_error yield_begin(struct yield *yield,
                                             const char *path);
void yield_end(struct yield *yield);

/* Before the gate: wait if it is the others' time. */
void yield_wait(struct yield *yield);

/* After it: so long we wrote, or waited to. */
void yield_wrote(struct yield *yield);

/* Whether a process that is not rota's has the file open; on doubt: yes. */
bool yield_looks(const struct yield *yield);

#endif
