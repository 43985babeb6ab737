/*
 * The kind "sql": a script of SQL statements on any SQLite file, each exactly
 * once, whatever stops the job and how often.
 *
 * An item is a statement, or all from BEGIN to COMMIT; the cursor counts
 * statements. From the first one that writes on, items are steps: what they
 * wrote, the cursor and the size of the file of rows are committed together.
 * A script that only reads leaves no trace in the file, and begins anew when
 * it is run again. VACUUM, ATTACH, DETACH and PRAGMA cannot be in a
 * transaction: they run before their step, and the last three again whenever
 * the job is taken up behind them, as their effect is the connection's.
 *
 *   sql.c        the arguments, what is opened, what an earlier run has left
 *   sql_items.c  the items, run one after the other
 *
 * A run of a job is one thread, and so is all of this; no lock.
 */
#ifndef SQL_H
#define SQL_H

#include <sqlite3.h>

#include "jobs/args.h"
#include "jobs/script.h"
#include "jobs/sink.h"

struct sql {
    struct ctx *ctx;
    struct rota_job *job;
    struct args *args;
    const char *path, *on, *out; /* the script, the database, the rows' file */
    struct script script;
    enum script_role item; /* of the statement that the item begins with */
    struct sink sink;      /* into out */
    sqlite3 *db;           /* on */
    int64_t cursor;        /* statements behind us */
    uint64_t digest;       /* of these and, in an item, of its own; digest.h */
    bool is_stepping;      /* the cursor is kept in the database */
};

/* Read the next statement. *ret_is_end: there is none. */
enum rota_error sql_next(struct sql *sql, bool *ret_is_end);

/* From here on the cursor is kept in the database. If it is there already, it
 * is taken from it. */
enum rota_error sql_begin_stepping(struct sql *sql);

/* Go past what earlier runs have done, and run the rest. */
enum rota_error sql_run_all(struct sql *sql);

/* Fail the job: errno says why the file of rows cannot be written. */
enum rota_error sql_fail_out(struct sql *sql);

#endif
