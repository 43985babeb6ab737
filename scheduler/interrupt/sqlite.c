/*
 * A job's own SQLite connection, and the exactly-once step on it.
 *
 * The cursor lives in the target, in the same transaction as the rows it
 * counts: two files are never committed together, because a commit across two
 * write-ahead logs tears. Its row carries the lease of the latest run: a run
 * that was overtaken updates no row, and rolls back.
 *
 * Locking: none. One thread at a time per connection.
 */
#define _GNU_SOURCE
#include "interrupt/interrupt.h"

#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>

#include "base.h"

/* Wait a little for a lock, longer each time, but not past the context. */
static int
busy_wait(void *arg, int times)
{
    int64_t pause = times < 10 ? ROTA_US(100) << times / 2 : ROTA_MS(5);

    return ctx_sleep(arg, pause) == ROTA_OK;
}

static enum rota_error
target_error(struct ctx *ctx, struct sqlite3 *db)
{
    int code = sqlite3_errcode(db) & 0xff;
    const char *path = sqlite3_db_filename(db, "main");

    if (code == SQLITE_BUSY && ctx_done(ctx)) {
        message_set("%s", ctx_cause(ctx));
        return ctx_err(ctx);
    }
    message_set("%s: %s", path == NULL ? "database" : path, sqlite3_errmsg(db));
    switch (code) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ROTA_BUSY;
    case SQLITE_FULL:
        return ROTA_FULL;
    case SQLITE_NOMEM:
        return ROTA_NOMEM;
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return ROTA_CORRUPT;
    default:
        return ROTA_STORE;
    }
}

enum rota_error
target_open(struct ctx *ctx, const char *path, struct sqlite3 **ret_db)
{
    struct sqlite3 *db = NULL;
    enum rota_error error = ROTA_OK;

    if (sqlite3_open_v2(path, &db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                            SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK) {
        error = db == NULL ? ROTA_NOMEM : target_error(ctx, db);
        message_set("%s: %s", path, sqlite3_errmsg(db));
        (void)sqlite3_close(db);
        return error;
    }
    (void)sqlite3_extended_result_codes(db, 1);
    (void)sqlite3_busy_handler(db, busy_wait, ctx);
    *ret_db = db;
    return ROTA_OK;
}

void
target_close(struct sqlite3 *db)
{
    sqlite3_stmt *statement;

    while ((statement = sqlite3_next_stmt(db, NULL)) != NULL)
        (void)sqlite3_finalize(statement);
    if (!sqlite3_get_autocommit(db))
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    (void)sqlite3_close(db);
}

bool
target_is_file(struct sqlite3 *db, const char *path)
{
    const char *name = sqlite3_db_filename(db, "main");
    struct stat a, b;

    /* stat() opens nothing, so it drops none of SQLite's locks */
    return name != NULL && stat(name, &a) == 0 && stat(path, &b) == 0 &&
           a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Run sql with the target's queue, job, lease and cursor bound to ?1 .. ?4.
 * *ret_row, unless NULL, is the integer in the first row's first column. */
static enum rota_error
target_run(struct ctx *ctx, struct sqlite3 *db, const char *sql,
           const struct target *target, int64_t cursor, int64_t *ret_row)
{
    sqlite3_stmt *statement = NULL;
    enum rota_error error = ROTA_OK;
    int code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL), n;

    if (code != SQLITE_OK)
        return target_error(ctx, db);
    n = sqlite3_bind_parameter_count(statement);
    if (n >= 1)
        (void)sqlite3_bind_text(statement, 1, target->queue, -1,
                                SQLITE_STATIC);
    if (n >= 2)
        (void)sqlite3_bind_int64(statement, 2, target->job);
    if (n >= 3)
        (void)sqlite3_bind_int64(statement, 3, target->lease);
    if (n >= 4)
        (void)sqlite3_bind_int64(statement, 4, cursor);
    code = sqlite3_step(statement);
    if (code == SQLITE_ROW && ret_row != NULL)
        *ret_row = sqlite3_column_int64(statement, 0);
    else if (code != SQLITE_DONE && code != SQLITE_ROW)
        error = target_error(ctx, db);
    (void)sqlite3_finalize(statement);
    return error;
}

/* Make sure that nothing of a step is left. Never interrupted. */
static void
target_roll_back(struct sqlite3 *db)
{
    sqlite3_stmt *statement = NULL;

    /* a statement that is still at a row would keep the transaction open */
    while ((statement = sqlite3_next_stmt(db, statement)) != NULL)
        (void)sqlite3_reset(statement);
    if (!sqlite3_get_autocommit(db))
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
}

static enum rota_error
target_begin(struct ctx *ctx, struct sqlite3 *db)
{
    if (ctx_done(ctx)) {
        message_set("%s", ctx_cause(ctx));
        return ctx_err(ctx);
    }
    if (!sqlite3_get_autocommit(db)) {
        message_set("the database is in a transaction already");
        return ROTA_INVALID;
    }
    return target_run(ctx, db, "BEGIN IMMEDIATE", NULL, 0, NULL);
}

static enum rota_error
lost(const struct target *target)
{
    message_set("a later run of job %jd has taken over in the target",
                (intmax_t)target->job);
    return ROTA_LOST;
}

enum rota_error
target_resume(struct ctx *ctx, struct sqlite3 *db, const struct target *target,
              int64_t *ret_cursor)
{
    int64_t lease = 0, cursor = 0;
    enum rota_error error = target_begin(ctx, db);

    if (error != ROTA_OK)
        return error;
    error = target_run(ctx, db,
                       "CREATE TABLE IF NOT EXISTS _rota_cursor(queue TEXT,"
                       " job INTEGER, lease INTEGER NOT NULL,"
                       " cursor INTEGER NOT NULL, PRIMARY KEY(queue, job))"
                       " WITHOUT ROWID",
                       NULL, 0, NULL);
    if (error == ROTA_OK)
        error = target_run(ctx, db,
                           "INSERT INTO _rota_cursor VALUES(?1, ?2, ?3, 0)"
                           " ON CONFLICT(queue, job) DO UPDATE"
                           " SET lease = max(lease, excluded.lease)",
                           target, 0, NULL);
    if (error == ROTA_OK)
        error = target_run(ctx, db,
                           "SELECT lease FROM _rota_cursor"
                           " WHERE queue = ?1 AND job = ?2",
                           target, 0, &lease);
    if (error == ROTA_OK && lease != target->lease)
        error = lost(target);
    if (error == ROTA_OK)
        error = target_run(ctx, db,
                           "SELECT cursor FROM _rota_cursor"
                           " WHERE queue = ?1 AND job = ?2",
                           target, 0, &cursor);
    if (error == ROTA_OK)
        error = target_run(ctx, db, "COMMIT", NULL, 0, NULL);
    if (error != ROTA_OK) {
        target_roll_back(db);
        return error;
    }
    *ret_cursor = cursor;
    return ROTA_OK;
}

enum rota_error
target_step(struct ctx *ctx, struct sqlite3 *db, const struct target *target,
            int64_t cursor, rota_step_fn *fn, void *arg)
{
    enum rota_error error = target_begin(ctx, db);

    if (error != ROTA_OK)
        return error;
    error = fn(db, arg);
    if (error == ROTA_OK && sqlite3_get_autocommit(db)) {
        message_set("the step ended its transaction, or an error did");
        error = ROTA_STORE;
    }
    if (error == ROTA_OK)
        error = target_run(ctx, db,
                           "UPDATE _rota_cursor SET cursor = ?4"
                           " WHERE queue = ?1 AND job = ?2 AND lease = ?3",
                           target, cursor, NULL);
    if (error == ROTA_OK && sqlite3_changes(db) == 0)
        error = lost(target);
    /* from here on a cancel comes too late */
    if (error == ROTA_OK)
        error = target_run(ctx, db, "COMMIT", NULL, 0, NULL);
    if (error != ROTA_OK)
        target_roll_back(db);
    return error;
}
