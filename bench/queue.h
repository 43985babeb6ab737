/*
 * The queue that is measured, and SQLite by itself doing what it does: one file
 * in a folder of the program's own, the same tables, the same rows, and no
 * scheduler around them.
 */
#ifndef BENCH_QUEUE_H
#define BENCH_QUEUE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rota/scheduler.h>

#define WORKERS 2
#define CHUNK   256 /* jobs a transaction */

/* Make the folder in parent; it goes when the program ends. */
void queue_folder(const char *parent);

/* The file in it; remove it. */
const char *queue_path(void);
void queue_clear(void);

/* End the program unless it went well. */
void must(enum rota_error error, const char *what);

/* A queue in a new file; one in the file that is there. Acknowledged to the
 * disk, or not. */
struct rota *queue_open(bool is_full);
struct rota *queue_reopen(bool is_full);

void queue_start(struct rota *rota, const char *kind, rota_job_fn *fn,
                 void *arg);

/* The arguments of each job. */
extern const char queue_args[65];

struct rota_submission submission_of(const char *kind);

/* The job that does it. */
enum rota_error do_nothing(struct ctx *ctx, struct rota_job *job);

/* Start its workers and submit so many such jobs, in chunks, while they run.
 * How many a second are submitted, run and recorded. */
double lives_rate(struct rota *rota, size_t jobs);

/* The one integer that sql gives. */
int64_t queue_number(struct rota *rota, const char *sql);

/* No job may be missing in the history. */
void history_check(struct rota *rota, size_t jobs);

/* -- SQLite by itself ------------------------------------------------------ */

struct bare {
    sqlite3 *db;
    int frames; /* in the log, after the last commit */
};

/* The file that is there, or a new one. */
void bare_open(struct bare *bare, bool is_full);

/* rota's tables in a new file, made by rota, and checkpoints as rota's. */
void bare_open_tables(struct bare *bare, bool is_full);

void bare_close(struct bare *bare);
void bare_script(struct bare *bare, const char *sql);
sqlite3_stmt *bare_statement(struct bare *bare, const char *sql);

/* Run it with the values bound. */
void bare_run(sqlite3_stmt *statement);

/* After a commit. */
void bare_checkpoint(struct bare *bare);

/* What a job costs in rota's tables if its place is known beforehand: nothing
 * is looked up, and no thread waits for another. ?1 is the job, ?2 the time. */
enum ceiling {
    CEILING_BEGIN,
    CEILING_JOB,
    CEILING_READY,
    CEILING_UNREADY,
    CEILING_RUNNING,
    CEILING_DONE,
    CEILING_NOT_RUNNING,
    CEILING_COMMIT,
    CEILINGS
};

void ceiling_prepare(struct bare *bare, sqlite3_stmt **ret_statements);

/* Run two statements for each of n jobs from first on. */
void ceiling_pair(sqlite3_stmt *const *pair, size_t first, size_t n,
                  int64_t now);

#endif
