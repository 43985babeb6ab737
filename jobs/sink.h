/*
 * Rows that go to a file, as CSV, TSV or JSON Lines. For the kind sql, on the
 * thread that runs the job; no lock.
 */
#ifndef SINK_H
#define SINK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "jobs/dialect.h"

struct sqlite3_stmt;

struct sink {
    FILE *file; /* NULL: rows are only counted */
    bool is_json;
    struct dialect dialect; /* of what is not JSON */
    const char *line_end;
    const char *problem; /* what cannot be written so; NULL: errno says it */
    int64_t n_rows;
};

/* Before a statement's first row: the line of names, but for JSON. False:
 * problem or errno says why, here and below. */
bool sink_names(struct sink *sink, struct sqlite3_stmt *statement);

/* Write the row at which statement stands. */
bool sink_row(struct sink *sink, struct sqlite3_stmt *statement);

/* Have what was written reach the disk; *ret_size is the file's size then. */
bool sink_sync(struct sink *sink, int64_t *ret_size);

/* Forget all behind size. */
bool sink_truncate(struct sink *sink, int64_t size);

bool sink_close(struct sink *sink);

#endif
