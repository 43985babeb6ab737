/*
 * The processes that run jobs: a row in _process for people to read, and a
 * byte of the lock file that tells the truth about who lives.
 * One thread at a time, inside a transaction.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <unistd.h>

#include "base/base.h"
#include "base/process.h"
#include "store/sqlite/sqlite.h"

enum rota_error
process_is_open(struct store *store, int64_t process, bool *ret_open)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, PROCESS_IS_OPEN, &error);

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, process);
    error = connection_row(&store->connection, s, ret_open);
    (void)sqlite3_reset(s);
    return error;
}

enum rota_error
process_end(struct store *store, int64_t process, const char *how)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, END_PROCESS, &error);

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, process);
    (void)sqlite3_bind_int64(s, 2, store->now);
    (void)sqlite3_bind_text(s, 3, how, -1, SQLITE_STATIC);
    error = connection_run(&store->connection, s, NULL);
    if (error == ROTA_OK)
        error = RUN(store, FORGET_KINDS, NULL, process);
    return error == ROTA_OK ? RUN(store, DISOWN_QUEUES, NULL, process) : error;
}

/* -- Queues of a process's own -------------------------------------------- */

enum rota_error
store_queue_is_free(struct store *store, int64_t queue)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, OWNER_OF_QUEUE, &error);
    int64_t owner = 0, pid = 0;
    bool row;

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, queue);
    error = connection_row(&store->connection, s, &row);
    if (row) {
        owner = sqlite3_column_int64(s, 0);
        pid = sqlite3_column_int64(s, 1);
    }
    (void)sqlite3_reset(s);
    if (error != ROTA_OK || !row || !store_lives(store, owner))
        return error;
    message_set("process %" PRId64 " (worker %" PRId64
                ") works on this queue, alone",
                pid, owner);
    return ROTA_EXISTS;
}

enum rota_error
store_own_queue(struct store *store, int64_t queue, int64_t process)
{
    return RUN(store, OWN_QUEUE, NULL, queue, process);
}

/* -- Begin and end --------------------------------------------------------- */

enum rota_error
store_process_begin(struct store *store, int threads, int64_t *ret_process)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, INSERT_PROCESS, &error);
    char host[256] = "";

    if (s == NULL)
        return error;
    (void)gethostname(host, sizeof(host) - 1);
    (void)sqlite3_bind_int64(s, 1, getpid());
    (void)sqlite3_bind_text(s, 2, host, -1, SQLITE_STATIC);
    (void)sqlite3_bind_text(s, 3, process_boot(), -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(s, 4, process_start_ticks(getpid()));
    (void)sqlite3_bind_int(s, 5, threads);
    (void)sqlite3_bind_text(s, 6, PACKAGE_VERSION, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(s, 7, store->now);
    error = connection_run(&store->connection, s, NULL);
    (void)sqlite3_clear_bindings(s);
    if (error != ROTA_OK)
        return error;
    *ret_process = sqlite3_last_insert_rowid(store->connection.db);
    /* before the commit: nobody sees the row without the lock */
    error = lockfile_live(store->lockfile, *ret_process);
    if (error == ROTA_OK)
        store->began_process = *ret_process;
    return error;
}

enum rota_error
store_handle(struct store *store, int64_t process, int64_t kind)
{
    return RUN(store, HANDLE_KIND, NULL, process, kind);
}

enum rota_error
store_process_end(struct store *store, int64_t process)
{
    return process_end(store, process, "left");
}
