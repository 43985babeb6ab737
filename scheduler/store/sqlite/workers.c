/*
 * The processes that run jobs: a row in _process for people to read, and a byte
 * of the lock file that tells the truth about who lives. One thread at a time,
 * inside a transaction.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <unistd.h>

#include "base/base.h"
#include "base/process.h"
#include "store/sqlite/sqlite.h"

/* -- The queue of a process's own ----------------------------------------- */

STATEMENT(OWNER_OF_QUEUE) = {"SELECT p.id, p.pid FROM _queue q"
                             " JOIN _process p ON p.id = q.owner"
                             " WHERE q.id = ?1"};
enum { OWNER_ID, OWNER_PID };
STATEMENT(OWN_QUEUE) = {"UPDATE _queue SET owner = ?2 WHERE id = ?1"};

/* ROTA_EXISTS: a process that lives owns the queue. */
static enum rota_error
owner_check(struct sqlite_store *store, int64_t queue)
{
    struct stmt stmt = stmt_of(&store->connection, &OWNER_OF_QUEUE);
    int64_t owner = 0, pid = 0;
    enum rota_error error;

    (void)sqlite3_bind_int64(stmt.s, 1, queue);
    if (stmt_next(&stmt)) {
        owner = stmt_integer(&stmt, OWNER_ID);
        pid = stmt_integer(&stmt, OWNER_PID);
    }
    error = stmt_end(&stmt);
    if (error != ROTA_OK || owner == 0 ||
        !lockfile_lives(store->lockfile, owner))
        return error;
    message_set("process %" PRId64 " (worker %" PRId64
                ") works on this queue, alone",
                pid, owner);
    return ROTA_EXISTS;
}

/* The number of the queue that the process is to own; 0: none. */
static enum rota_error
owned_find(struct sqlite_store *store, const char *name, int64_t *ret_queue)
{
    struct name *queue;
    enum rota_error error;

    *ret_queue = 0;
    if (name == NULL)
        return ROTA_OK;
    error = queue_find(store, name, &queue);
    if (error != ROTA_OK)
        return error;
    *ret_queue = queue->number;
    return owner_check(store, queue->number);
}

/* -- Join ----------------------------------------------------------------- */

STATEMENT(INSERT_PROCESS) = {
    "INSERT INTO _process(pid, host, boot, start_ticks, threads, version,"
    " started_at) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"};
STATEMENT(HANDLE_KIND) = {"INSERT INTO _handles VALUES(?1, ?2)"};

static enum rota_error
process_insert(struct sqlite_store *store, int threads, int64_t *ret_process)
{
    struct stmt stmt = stmt_of(&store->connection, &INSERT_PROCESS);
    char host[256] = "";
    enum rota_error error;

    (void)gethostname(host, sizeof(host) - 1);
    (void)sqlite3_bind_int64(stmt.s, 1, getpid());
    bind_text(stmt.s, 2, host);
    bind_text(stmt.s, 3, process_boot());
    (void)sqlite3_bind_int64(stmt.s, 4, process_start_ticks(getpid()));
    (void)sqlite3_bind_int(stmt.s, 5, threads);
    bind_text(stmt.s, 6, PACKAGE_VERSION);
    (void)sqlite3_bind_int64(stmt.s, 7, store->now);
    error = stmt_run(&stmt, NULL);
    if (stmt.s != NULL)
        (void)sqlite3_clear_bindings(stmt.s); /* host goes */
    if (error != ROTA_OK)
        return error;
    *ret_process = sqlite3_last_insert_rowid(store->connection.db);
    /* before the commit: nobody sees the row without the lock */
    error = lockfile_live(store->lockfile, *ret_process);
    if (error == ROTA_OK)
        store->joined = *ret_process;
    return error;
}

static enum rota_error
kind_join(struct sqlite_store *store, struct joined_kind *joined)
{
    struct name *kind;
    enum rota_error error = kind_find(store, joined->name, &kind);

    if (error == ROTA_OK)
        error = kind_set(store, kind, joined);
    if (error == ROTA_OK)
        joined->number = kind->number;
    return error;
}

enum rota_error
worker_join(struct sqlite_store *store, struct wish *wish)
{
    struct joined_kind *kinds = wish->join.kinds;
    size_t n = wish->join.n_kinds;
    enum rota_error error = ROTA_OK;
    int64_t queue = 0, process = 0;

    for (size_t i = 0; error == ROTA_OK && i < n; i++)
        error = kind_join(store, &kinds[i]);
    if (error == ROTA_OK)
        error = owned_find(store, wish->join.queue, &queue);
    if (error == ROTA_OK)
        error = process_insert(store, wish->join.threads, &process);
    for (size_t i = 0; error == ROTA_OK && i < n; i++)
        error = RUN(store, HANDLE_KIND, NULL, process, kinds[i].number);
    if (error == ROTA_OK && queue != 0)
        error = RUN_ONE(store, OWN_QUEUE, queue, process);
    if (error == ROTA_OK) {
        wish->join.process = process;
        wish->join.queue_number = queue;
    }
    return error;
}

/* -- End ------------------------------------------------------------------ */

STATEMENT(PROCESS_IS_OPEN) = {"SELECT 1 FROM _process WHERE id = ?1"
                              " AND ended_at IS NULL"};
STATEMENT(END_PROCESS) = {"UPDATE _process SET ended_at = ?2, end = ?3"
                          " WHERE id = ?1 AND ended_at IS NULL"};
STATEMENT(FORGET_KINDS) = {"DELETE FROM _handles WHERE process = ?1"};
STATEMENT(DISOWN_QUEUES) = {"UPDATE _queue SET owner = NULL WHERE owner = ?1"};

enum rota_error
worker_is_open(struct sqlite_store *store, int64_t process, bool *ret_open)
{
    struct stmt stmt = stmt_of(&store->connection, &PROCESS_IS_OPEN);

    (void)sqlite3_bind_int64(stmt.s, 1, process);
    return stmt_exists(&stmt, ret_open);
}

enum rota_error
worker_end(struct sqlite_store *store, int64_t process, const char *how)
{
    struct stmt stmt = stmt_of(&store->connection, &END_PROCESS);
    enum rota_error error;

    (void)sqlite3_bind_int64(stmt.s, 1, process);
    (void)sqlite3_bind_int64(stmt.s, 2, store->now);
    bind_text(stmt.s, 3, how);
    error = stmt_run(&stmt, NULL);
    if (error == ROTA_OK)
        error = RUN(store, FORGET_KINDS, NULL, process);
    return error == ROTA_OK ? RUN(store, DISOWN_QUEUES, NULL, process) : error;
}
