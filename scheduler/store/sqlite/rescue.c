/*
 * What becomes of the jobs of a process that died: each ends as an orphan
 * (end.c), and the process is recorded as dead in the same transaction, so that
 * two rescuers do not both do it. One thread at a time, inside a transaction.
 */
#include <stdlib.h>

#include "base/base.h"
#include "base/grow.h"
#include "store/sqlite/sqlite.h"

STATEMENT(RUNS_OF_PROCESS) = {RUNS " WHERE r.process = ?1"};

struct orphans {
    struct run *all;
    size_t n, room;
};

static enum rota_error
orphan_read(struct stmt *row, struct orphans *orphans)
{
    if (!grow(orphans->all, orphans->n, orphans->room))
        return no_memory();
    orphans->all[orphans->n++] = run_of(row);
    return ROTA_OK;
}

static enum rota_error
orphans_read(struct sqlite_store *store, int64_t process,
             struct orphans *orphans)
{
    struct stmt stmt = stmt_of(&store->connection, &RUNS_OF_PROCESS);

    (void)sqlite3_bind_int64(stmt.s, 1, process);
    while (stmt_next(&stmt) && stmt_check(&stmt, orphan_read(&stmt, orphans)))
        continue;
    return stmt_end(&stmt);
}

enum rota_error
worker_rescue(struct sqlite_store *store, int64_t process, int64_t *ret_jobs)
{
    struct orphans orphans = {0};
    size_t inside = 0;
    bool is_open = false;
    enum rota_error error;

    *ret_jobs = 0;
    error = worker_is_open(store, process, &is_open);
    if (error != ROTA_OK || !is_open ||
        lockfile_lives(store->lockfile, process))
        return error;
    error = orphans_read(store, process, &orphans);
    for (size_t i = 0; i < orphans.n; i++)
        inside += !orphans.all[i].is_isolated;
    for (size_t i = 0; i < orphans.n; i++) {
        if (error == ROTA_OK)
            error = end_orphan(store, &orphans.all[i], inside == 1);
        run_clear(&orphans.all[i]);
    }
    *ret_jobs = (int64_t)orphans.n;
    free(orphans.all);
    return error == ROTA_OK ? worker_end(store, process, "died") : error;
}
