/*
 * The file that an import reads: its rows from where the cursor stands. On the
 * thread that runs the job; no lock.
 */
#ifndef SOURCE_H
#define SOURCE_H

#include "jobs/rows.h"
#include "jobs/table.h"

struct source {
    struct ctx *ctx;
    struct rota_job *job;
    const char *path;
    const char *into;    /* another file than this, please */
    const char *columns; /* a list; NULL: the first row has their names */
    struct dialect dialect;
    int64_t skip; /* lines before the first row */
    bool is_open;
    int fd;
    struct rows rows;
    struct rowset group; /* the rows read and not yet cleared */
    uint64_t digest;     /* of all rows read, digest.h */
    size_t n_columns;
    int64_t not_text;      /* fields that were read and are no text, and */
    int64_t not_text_line; /* the line of the first of them */
};

/* Open the file, or fail the job for good. */
enum rota_error source_open(struct source *source);
void source_close(struct source *source);

/* Read the file once: give table its columns and the job its total, and go to
 * the row at cursor. */
enum rota_error source_survey(struct source *source, struct table *table,
                              int64_t cursor);

/* Append the next row to the group. *ret_is_end: there is none. Errors:
 * ctx_err(), ROTA_NOMEM, ROTA_FAILED. */
enum rota_error source_next(struct source *source, bool *ret_is_end);

#endif
