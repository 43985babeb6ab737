/*
 * A connection that only reads, and the looks at the queue that readers and the
 * watch share. One thread at a time for each connection; every statement is
 * reset before a call returns, so that no reader pins the log.
 */
#ifndef READER_H
#define READER_H

#include "store/ops.h"
#include "store/sqlite/connection.h"

struct sqlite_store;

struct sqlite_reader {
    struct reader base;
    struct sqlite_store
        *store; /* of which only what is for any thread is used */
    struct connection connection;
};

/* Open one more connection on the same file as store, and no other that is at
 * its path by now. */
ROTA_MUST_USE enum rota_error connection_to(const struct sqlite_store *store,
                                            struct connection *connection);

enum rota_error sqlite_reader_open(struct store *store,
                                   struct reader **ret_reader);
void sqlite_reader_close(struct reader *reader);
enum rota_error sqlite_reader_outcome(struct reader *reader, int64_t id,
                                      struct rota_outcome *ret_outcome);
enum rota_error sqlite_reader_waiting(struct reader *reader,
                                      const struct scope *scope,
                                      struct waiting *ret_waiting);
enum rota_error sqlite_reader_dead(struct reader *reader, reader_dead_fn *fn,
                                   void *arg);
enum rota_error sqlite_reader_query(struct ctx *ctx, struct reader *reader,
                                    const char *sql,
                                    const struct rota_value *params, int n,
                                    rota_row_fn *fn, void *arg); /* query.c */
enum rota_error sqlite_reader_retaining(struct reader *reader, int64_t *queue,
                                        int64_t *ret_ms);
enum rota_error sqlite_reader_prunable(struct reader *reader, int64_t queue,
                                       int64_t before, int64_t *last,
                                       int64_t *ids, size_t n, size_t *ret_n);

static inline struct sqlite_reader *
sqlite_reader_of(struct reader *reader)
{
    return OWNER_OF(reader, struct sqlite_reader, base);
}

/* ROTA_STORE, and words, if the file that it has open is no longer the one at
 * its path. */
ROTA_MUST_USE enum rota_error reader_check(struct sqlite_reader *reader);

/* store.h's reader_waiting(), on any connection. */
ROTA_MUST_USE enum rota_error waiting_read(struct connection *connection,
                                           int64_t now,
                                           const struct scope *scope,
                                           struct waiting *ret_waiting);

/* Call fn with each process that has not been seen to end. */
struct open_process {
    int64_t id;
    int64_t pid, start_ticks;
    const char *boot; /* valid during the call */
};
typedef void open_process_fn(void *arg, const struct open_process *process);
ROTA_MUST_USE enum rota_error open_processes_read(struct connection *connection,
                                                  open_process_fn *fn,
                                                  void *arg);

#endif
