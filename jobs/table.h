/*
 * The table that an import fills, and beside it _rota_import_bad, which keeps
 * the rows that were no rows: queue and job say whose they are, line where the
 * row begins in the file, reason why, and row is its text, cut to 1000 bytes.
 * Where rows were ignored, _rota_import says how many.
 *
 * All functions here run inside a step's transaction, or before the first.
 */
#ifndef TABLE_H
#define TABLE_H

#include <sqlite3.h>

#include "jobs/jobs.h"
#include "jobs/rows.h"

struct column {
    char *name;
    char *type;      /* as it was declared; "" if it was not */
    size_t repeated; /* bytes of a name that others have, too; else 0 */
};

struct table {
    struct ctx *ctx;
    struct rota_job *job;
    const char *name;       /* the table's */
    struct column *columns; /* one for each field of a row */
    size_t n, room;
    size_t max;             /* columns that a table may have */
    struct column **sorted; /* all of them by name */
    bool is_view;
    int64_t bad;          /* bad rows of this job in the table */
    int64_t ignored;      /* rows that a rule of the table let fall */
    int64_t step_bad;     /* those of the step that is running */
    int64_t step_ignored; /* likewise */
    struct rowset *group; /* the rows that the step inserts */
    char message[512];    /* after an error, what it was */
};

void table_fini(struct table *table);

/* Keep a message and give code. */
enum rota_error table_fail(struct table *table, enum rota_error code,
                           const char *format, ...) ROTA_PRINTF(3, 4);

/* Keep what SQLite says of db, and give the code that goes with it. */
enum rota_error table_db_fail(struct table *table, sqlite3 *db);

/* Take the columns from a list, "path TEXT, bytes INTEGER"; or from the fields
 * of a row, where a name that is there twice gets the number of its column; or
 * have n that are called column1, column2, and so on. Errors: ROTA_FATAL,
 * ROTA_NOMEM. */
enum rota_error table_columns_from_list(struct table *table, const char *list);
enum rota_error table_columns_from_row(struct table *table,
                                       const struct rowset *group,
                                       const struct row *row);
enum rota_error table_columns_unnamed(struct table *table, size_t n);

/* Whether one of the columns is called so, in whatever case. */
bool table_has_column(const struct table *table, const char *name);

/* Count the bad rows and the ignored ones that earlier runs of this job have
 * recorded. */
enum rota_error table_take_up(struct table *table, sqlite3 *db);

/* Say in text what is wrong with the first bad row. */
void table_first_bad(struct table *table, sqlite3 *db, char *text, size_t size);

/* A rota_sqlite_fn: make the tables, or check that what is there fits. */
enum rota_error table_make(sqlite3 *db, void *table);

/* A rota_sqlite_fn: insert table->group's rows. */
enum rota_error table_insert(sqlite3 *db, void *table);

#endif
