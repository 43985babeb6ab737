/*
 * A job's own SQLite connections, and the exactly-once step on them. The engine
 * and the job's public calls use it, on the thread that runs the job.
 *
 * The cursor lives in the target, in the same transaction as the rows it
 * counts: two files are never committed together, because a commit across two
 * write-ahead logs tears. Its row carries the lease of the latest run: a run
 * that was overtaken updates no row, and rolls back.
 *
 * Locking: none, and none of ours is to be held, as the calls wait for the
 * disk. One thread at a time for each connection.
 */
#define _GNU_SOURCE
#include "interrupt/target.h"

#include <sqlite3.h>
#include <stdlib.h>

#include "base/base.h"
#include "base/companions.h"
#include "base/sqlite_error.h"

/* No single value is longer: SQLite looks for an interrupt between the steps of
 * a statement, and a function that makes a huge value is a single step. */
#define VALUE_MAX (64 << 20)

const char *
target_path(struct sqlite3 *db)
{
    return sqlite3_db_filename(db, "main");
}

/* What the last call on db, which is at path, failed with, after saying so. */
static enum rota_error
open_error(struct sqlite3 *db, const char *path)
{
    char words[400];
    enum rota_error error = error_of_connection(
        db, sqlite3_extended_errcode(db), words, sizeof(words));

    message_set("%s: %s", path == NULL ? "database" : path, words);
    return error;
}

static enum rota_error
target_error(struct sqlite3 *db)
{
    return open_error(db, target_path(db));
}

enum rota_error
target_open(struct ctx *ctx, const char *path, struct target **ret_target)
{
    struct target *target = malloc(sizeof(*target));
    enum rota_error error;

    if (target == NULL)
        return ROTA_NOMEM;
    if (sqlite3_open_v2(path, &target->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                            SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK) {
        error = target->db == NULL ? no_memory() : open_error(target->db, path);
        (void)sqlite3_close(target->db);
        free(target);
        return error;
    }
    (void)sqlite3_extended_result_codes(target->db, 1);
    (void)sqlite3_limit(target->db, SQLITE_LIMIT_LENGTH, VALUE_MAX);
    rota_sqlite_bind(&target->bound, ctx, target->db);
    *ret_target = target;
    return ROTA_OK;
}

/* -- Closing --------------------------------------------------------------- */

/*
 * The statements of a connection are the job's and those that virtual tables
 * (FTS, R-Tree) have prepared for themselves. SQLite does not say which is
 * whose. To finalize a virtual table's is to free it twice, for the table does
 * so too when it is closed; and a table is not closed as long as a statement of
 * the job's uses it.
 */

/* End what stands at a row and writes, or only reads. */
static void
end_all(struct sqlite3 *db, bool reads)
{
    sqlite3_stmt *statement = NULL;

    while ((statement = sqlite3_next_stmt(db, statement)) != NULL)
        if (sqlite3_stmt_busy(statement) &&
            (sqlite3_stmt_readonly(statement) != 0) == reads)
            (void)sqlite3_reset(statement);
}

/* Whether statement keeps a virtual table open; true also if its text, which
 * may have been about another schema, does not tell. */
static bool
may_keep_table(struct sqlite3 *db, sqlite3_stmt *statement)
{
    char *text = sqlite3_mprintf("EXPLAIN %s", sqlite3_sql(statement));
    sqlite3_stmt *program = NULL;
    bool keeps = false;
    int code = SQLITE_NOMEM;

    if (text != NULL)
        code = sqlite3_prepare_v2(db, text, -1, &program, NULL);
    while (code == SQLITE_OK || code == SQLITE_ROW) {
        code = sqlite3_step(program);
        if (code == SQLITE_ROW) /* VOpen, VUpdate, ... are virtual tables' */
            keeps |= sqlite3_strglob(
                         "V[A-Z]*",
                         (const char *)sqlite3_column_text(program, 1)) == 0;
    }
    (void)sqlite3_finalize(program);
    sqlite3_free(text);
    return keeps || code != SQLITE_DONE;
}

/* Whether all statements of db are the job's: virtual tables are closed by now,
 * but for those that a statement of the job's keeps open. */
static bool
are_all_the_jobs(struct sqlite3 *db)
{
    sqlite3_stmt *statement = NULL;

    while ((statement = sqlite3_next_stmt(db, statement)) != NULL)
        if (sqlite3_sql(statement) != NULL && may_keep_table(db, statement))
            return false;
    return true;
}

bool
target_close(struct target *target)
{
    struct sqlite3 *db = target->db;
    sqlite3_stmt *statement;
    bool is_closed;

    if (!sqlite3_get_autocommit(db))
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    rota_sqlite_unbind(&target->bound);
    free(target);
    /* it may be committed by that, with what virtual tables have still to write
     * and would throw away when they are closed */
    end_all(db, false);
    if (sqlite3_close(db) == SQLITE_OK)
        return true;
    /* that no lock is left. Virtual tables do not mind: all they do with their
     * statements from now on is to reset and to finalize them */
    end_all(db, true);
    /* an interrupt may have kept it from that as long as a statement stood */
    if (!sqlite3_get_autocommit(db))
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    if (are_all_the_jobs(db))
        while ((statement = sqlite3_next_stmt(db, NULL)) != NULL)
            (void)sqlite3_finalize(statement);
    is_closed = sqlite3_close(db) == SQLITE_OK;
    if (!is_closed)
        (void)sqlite3_close_v2(db);
    return is_closed;
}

bool
rota_sqlite_owns(const char *database, const char *path)
{
    return companions_have(database, path);
}

/* Run sql with queue, job, lease and cursor bound to ?1 .. ?4. Unless ret_value
 * is NULL, *ret_value becomes the integer in the first row's first column. */
static enum rota_error
cursor_run(struct sqlite3 *db, const char *sql, const struct stepper *stepper,
           int64_t cursor, int64_t *ret_value)
{
    sqlite3_stmt *statement = NULL;
    enum rota_error error = ROTA_OK;
    int code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);

    if (code != SQLITE_OK)
        return target_error(db);
    (void)sqlite3_bind_text(statement, 1, stepper->queue, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(statement, 2, stepper->job);
    (void)sqlite3_bind_int64(statement, 3, stepper->lease);
    (void)sqlite3_bind_int64(statement, 4, cursor);
    code = sqlite3_step(statement);
    if (code == SQLITE_ROW && ret_value != NULL)
        *ret_value = sqlite3_column_int64(statement, 0);
    else if (code != SQLITE_DONE && code != SQLITE_ROW)
        error = target_error(db);
    (void)sqlite3_finalize(statement);
    return error;
}

/* ROTA_LOST, after saying so. */
static enum rota_error
lost(const struct stepper *stepper)
{
    message_set("a later run of job %jd has taken over in the target",
                (intmax_t)stepper->job);
    return ROTA_LOST;
}

/* -- Resume ---------------------------------------------------------------- */

/* What resume() is given, and what it finds. */
struct resumption {
    const struct stepper *stepper;
    int64_t cursor; /* where the job goes on */
};

/* A rota_sqlite_fn: make the job's row if there is none, put our lease into it,
 * and read the cursor. A row that has a later lease keeps it. */
static enum rota_error
resume(struct sqlite3 *db, void *arg)
{
    struct resumption *r = arg;
    int64_t lease = 0;
    enum rota_error error = cursor_run(
        db,
        "CREATE TABLE IF NOT EXISTS _rota_cursor(queue TEXT, job INTEGER,"
        " lease INTEGER NOT NULL, cursor INTEGER NOT NULL,"
        " PRIMARY KEY(queue, job)) WITHOUT ROWID",
        r->stepper, 0, NULL);

    if (error == ROTA_OK)
        error = cursor_run(db,
                           "INSERT INTO _rota_cursor VALUES(?1, ?2, ?3, 0)"
                           " ON CONFLICT(queue, job) DO UPDATE"
                           " SET cursor ="
                           " CASE WHEN lease <= ?4 THEN 0 ELSE cursor END,"
                           " lease = max(lease, excluded.lease)",
                           r->stepper, r->stepper->restart, NULL);
    if (error == ROTA_OK)
        error = cursor_run(db,
                           "SELECT lease FROM _rota_cursor"
                           " WHERE queue = ?1 AND job = ?2",
                           r->stepper, 0, &lease);
    if (error == ROTA_OK && lease != r->stepper->lease)
        error = lost(r->stepper);
    if (error == ROTA_OK)
        error = cursor_run(db,
                           "SELECT cursor FROM _rota_cursor"
                           " WHERE queue = ?1 AND job = ?2",
                           r->stepper, 0, &r->cursor);
    return error;
}

enum rota_error
target_resume(struct ctx *ctx, struct sqlite3 *db,
              const struct stepper *stepper, int64_t *ret_cursor)
{
    struct resumption resumption = {.stepper = stepper};
    enum rota_error error = rota_sqlite_tx(ctx, db, resume, &resumption);

    if (error == ROTA_OK)
        *ret_cursor = resumption.cursor;
    return error;
}

/* -- Step ------------------------------------------------------------------ */

/* What step() is given. */
struct step {
    const struct stepper *stepper;
    int64_t cursor; /* behind the items of this step */
    rota_sqlite_fn *fn;
    void *arg;
};

/* A rota_sqlite_fn: write the items' rows, and move the cursor behind them.
 * That fn has ended the transaction is for rota_sqlite_tx() to find out. */
static enum rota_error
step(struct sqlite3 *db, void *arg)
{
    const struct step *s = arg;
    enum rota_error error = s->fn(db, s->arg);

    if (error != ROTA_OK || sqlite3_get_autocommit(db))
        return error;
    error = cursor_run(db,
                       "UPDATE _rota_cursor SET cursor = ?4"
                       " WHERE queue = ?1 AND job = ?2 AND lease = ?3",
                       s->stepper, s->cursor, NULL);
    return error == ROTA_OK && sqlite3_changes(db) == 0 ? lost(s->stepper)
                                                        : error;
}

enum rota_error
target_step(struct ctx *ctx, struct sqlite3 *db, const struct stepper *stepper,
            int64_t cursor, rota_sqlite_fn *fn, void *arg)
{
    struct step s = {
        .stepper = stepper, .cursor = cursor, .fn = fn, .arg = arg};

    return rota_sqlite_tx(ctx, db, step, &s);
}
