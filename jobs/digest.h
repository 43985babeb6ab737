/*
 * What a job has read of a file so far, as a number: kept in the database that
 * it writes, together with the cursor, it tells when the file was changed
 * between two runs.
 */
#ifndef DIGEST_H
#define DIGEST_H

#include <sqlite3.h>

#include "jobs/jobs.h"

/* digest, and then these bytes. It begins with 0. */
uint64_t digest_add(uint64_t digest, const void *data, size_t size);

/* Keep the job's digest in db, in the table _rota_read. Inside a step's
 * transaction. A code of SQLite's. */
int digest_keep(struct rota_job *job, sqlite3 *db, uint64_t digest);

/* Whether db keeps another digest of the job's than this. */
bool digest_differs(struct rota_job *job, sqlite3 *db, uint64_t digest);

#endif
