/*
 * The write-ahead log, <db>-wal: how it is kept short, and what is done when it
 * cannot be. One thread at a time: whoever has the writer's role.
 *
 * Checkpoints: SQLite before 3.51.3 can damage a file when a checkpoint runs
 * while somebody else begins the log anew. So ours is the only one of all rota
 * processes, passive, and runs while we hold the gate, when nobody can write;
 * and it runs early, so that a foreign client, which checkpoints by itself at
 * 1,000 frames, rarely has cause to.
 *
 * Nothing can begin the log anew while a client reads in one long transaction.
 * From LOG_LONG on the options' log function is told who reads; from the
 * options' log_max on the queue takes no more jobs, and claims none, until that
 * has ended. What runs goes on, and its ends are recorded.
 */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stdint.h>

#include <rota/error.h>

struct sqlite_store;
struct wish;

struct log {
    int frames;        /* in it after the last commit */
    int checkpoint_at; /* frames at which the next checkpoint is due */
    int64_t retry_at;  /* or when, monotonic; 0: the last one got to the end */
    int64_t told;      /* the size that was last told of; 0: none */
    bool is_full;      /* no more jobs are taken or claimed */
};

/* Have the file keep one. Outside a transaction, the gate held. */
ROTA_MUST_USE enum rota_error log_begin(struct sqlite_store *store);

/* Count its frames from now on. */
void log_count(struct sqlite_store *store);

/* Move it into the file if that is due. Right after a commit, the gate held. */
void log_checkpoint(struct sqlite_store *store);

/* If it is full, see whether it can be begun anew by now. Takes the gate. */
void log_try(struct sqlite_store *store);

/* See whether it has become too long, or short again, and say so. Not in a
 * transaction. */
void log_watch(struct sqlite_store *store);

/* A submit that comes while it is full: answer it. */
void log_refuse(struct sqlite_store *store, struct wish *wish);

#endif
