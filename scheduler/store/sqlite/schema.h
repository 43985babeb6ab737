/*
 * The file's tables, triggers and views, as SQL text, and how a file of an
 * older version becomes one of this. What they mean: schema.c,
 * schema_commands.c and schema_views.c. To change a table: sqlite.h. One thread
 * at a time, on the connection that writes.
 */
#ifndef SCHEMA_H
#define SCHEMA_H

#include <rota/scheduler.h>

#include "store/sqlite/connection.h"

#define SCHEMA_APPLICATION_ID 0x726f7461 /* "rota" */
#define SCHEMA_VERSION 3

extern const char schema_tables[];         /* the state, private */
extern const char *const schema_commands[]; /* ends in NULL */
extern const char *const schema_views[];    /* ends in NULL */

/* Whose file it is. *ret_version is 0 if it is nobody's yet. Errors besides the
 * store's: ROTA_CORRUPT, something else's; ROTA_VERSION, a newer rota's. */
ROTA_MUST_USE enum rota_error schema_check(struct connection *connection,
                                           int64_t *ret_version);

/* Have the file be of this version: all or nothing, whoever else tries at the
 * same time. The gate is held. */
ROTA_MUST_USE enum rota_error schema_upgrade(struct connection *connection);

/* -- Shared by the texts --------------------------------------------------- */

/* Unix milliseconds, in SQL. */
#define NOW "CAST((julianday('now') - 2440587.5) * 86400000.0 + 0.5 AS INTEGER)"
#define ISO(column)                                                            \
    "strftime('%Y-%m-%dT%H:%M:%fZ', " column                                   \
    " / 1000.0, 'unixepoch') AS " column "_iso"

/* The states of a job's end, as _done.state has them: stored, never changed. */
#define STATE_SUCCEEDED "4"
#define STATE_FAILED    "5"
#define STATE_CANCELLED "6"
_Static_assert(ROTA_SUCCEEDED == 4 && ROTA_JOB_FAILED == 5 &&
                   ROTA_CANCELLED == 6,
               "as written above");

/* A number that is defined, as the text of it. */
#define TEXT_OF_(n) #n
#define TEXT_OF(n)  TEXT_OF_(n)

/* How many jobs with a key may run at once unless told otherwise. */
#define KEY_LIMIT(key)                                                         \
    "COALESCE((SELECT max_running FROM _limit WHERE key = " key "), 1)"

/* What else a job's end concerns: bits of _job.ties. */
#define TIE_UNIQUE 1   /* its unique key is free then */
#define TIE_DEADLINE 2 /* and its deadline none */
#define TIE_AWAITED 4  /* jobs wait for it */
#define TIE_PARENT 8   /* it has children */

/* What is to be done about those jobs: _settle.what. */
#define SETTLE_AWAITING 1
#define SETTLE_CHILDREN 2
#define AWAITING TEXT_OF(SETTLE_AWAITING)
#define CHILDREN TEXT_OF(SETTLE_CHILDREN)

#endif
