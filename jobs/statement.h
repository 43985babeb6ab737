/*
 * Statements about what a job keeps in a file of its target's: every such table
 * begins with the columns queue and job, as ids of jobs repeat from one queue
 * to another. Called on the thread of the job's run; no lock.
 */
#ifndef STATEMENT_H
#define STATEMENT_H

#include <sqlite3.h>

#include "jobs/jobs.h"

/* Prepare text for db: ?1 is the job's queue, ?2 its id. To be finalized. A
 * code of SQLite's. */
int statement_prepare(struct rota_job *job, sqlite3 *db, const char *text,
                      sqlite3_stmt **ret_statement);

/* Why SQLite's last call on db failed: its words, and the system's reason if a
 * file could not be written. */
void statement_says(sqlite3 *db, char *text, size_t size);

#endif
