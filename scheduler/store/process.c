/*
 * The processes that run jobs: a row in _process for people to read, and a
 * byte of the lock file that tells the truth about who lives.
 * One thread at a time, inside a transaction.
 */
#define _GNU_SOURCE
#include <unistd.h>

#include "base.h"
#include "store/private.h"

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
    return connection_run(&store->connection, s, NULL);
}

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
    return lockfile_live(store->lockfile, *ret_process);
}

enum rota_error
store_process_end(struct store *store, int64_t process)
{
    return process_end(store, process, "left");
}
