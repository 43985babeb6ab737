/*
 * Durable state: the queue's file, and every move a job can make in it. The
 * embedded store, on SQLite. Knows nothing of threads that run jobs.
 *
 * A store is the one connection that writes. All its calls are for one thread
 * at a time: whoever holds the writer's role (cycle.c). Calls that change
 * something are made between store_begin() and store_commit(); an error from
 * one of them means that the transaction must be rolled back, with
 * store_rollback(). A reader is a connection that only reads, likewise for one
 * thread at a time.
 *
 * Errors everywhere: ROTA_STORE, ROTA_FULL (disk), ROTA_BUSY (a foreign client
 * holds the lock), ROTA_CORRUPT, ROTA_NOMEM; words by message_get().
 */
#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rota/job.h>
#include <rota/scheduler.h>

struct store;

/* -- Life ---------------------------------------------------------------- */

/* Open the queue at path, making it if it is not there (never if readonly).
 * Errors besides: ROTA_NOTFOUND, ROTA_VERSION, ROTA_INVALID, ROTA_SYSTEM. */
ROTA_MUST_USE enum rota_error store_open(const char *path, bool readonly,
                                         struct store **ret_store);
void store_close(struct store *store);

/* The canonical path; <path>-wal and <path>-lock are its companions. */
const char *store_path(const struct store *store);

/* Whether this process is a forked child of the one that opened it, which must
 * not touch it; words by message_get(). Any thread. */
bool store_is_inherited(const struct store *store);

/* Its connection, whose files a reader's must be. Any thread. */
struct connection;
const struct connection *store_connection(const struct store *store);

/* What tells this queue from any other: a random text. */
const char *store_instance(const struct store *store);

/* What the store's clock says, the machine's at first. Any thread. */
int64_t store_now(const struct store *store);

/* Have it be this one. Before anything else. */
typedef int64_t store_clock_fn(void *arg);
void store_set_clock(struct store *store, store_clock_fn *clock, void *arg);

/* -- Transactions --------------------------------------------------------- */

/* Pass the gate and begin. durable: the commit will survive power loss, and
 * with it everything committed before. */
ROTA_MUST_USE enum rota_error store_begin(struct store *store, bool durable);
ROTA_MUST_USE enum rota_error store_commit(struct store *store);
void store_rollback(struct store *store);

/* See whether the log can be begun anew by now. Not in a transaction. */
void store_log_try(struct store *store);

/* How many bytes the log has, and whether it cannot be begun anew because
 * somebody reads in one long transaction. store_log_readers() says who reads,
 * "" if nobody of another process does. */
int64_t store_log_size(const struct store *store, bool *ret_is_kept);
void store_log_readers(const struct store *store, char *text, size_t size);

/* Whether the file that is open is no longer the one at its path: what is
 * written goes nowhere. Words by message_get(). */
bool store_has_moved(struct store *store);

/* -- Names ---------------------------------------------------------------- */

/* The number of a queue, made if it is new. */
ROTA_MUST_USE enum rota_error store_queue(struct store *store, const char *name,
                                          int64_t *ret_queue);

/* The number of a kind, made if it is new; its defaults are recorded for the
 * views. */
ROTA_MUST_USE enum rota_error store_kind(struct store *store, const char *name,
                                         int max_attempts, int64_t timeout_ms,
                                         int64_t *ret_kind);

/* -- Processes ------------------------------------------------------------ */

/* Record this process and hold its byte of the lock file. */
ROTA_MUST_USE enum rota_error store_process_begin(struct store *store,
                                                  int threads,
                                                  int64_t *ret_process);

/* Record that process knows kind. */
ROTA_MUST_USE enum rota_error store_handle(struct store *store, int64_t process,
                                           int64_t kind);

/* Have process be the only one that claims in queue, while it lives.
 * store_queue_is_free() tells whether another one is already: ROTA_EXISTS. */
ROTA_MUST_USE enum rota_error store_queue_is_free(struct store *store,
                                                  int64_t queue);
ROTA_MUST_USE enum rota_error store_own_queue(struct store *store,
                                              int64_t queue, int64_t process);

/* Record that process has left; its jobs must have come back. */
ROTA_MUST_USE enum rota_error store_process_end(struct store *store,
                                                int64_t process);

/* Make the jobs of a process that died ready again; count their crashes, fail
 * those that have crashed three times without getting further, cancel those
 * whose cancel was asked. Nothing happens if it lives, or was rescued before.
 * *ret_jobs is how many there were. */
ROTA_MUST_USE enum rota_error store_rescue(struct store *store,
                                           int64_t process, int64_t *ret_jobs);

/* Whether somebody else's process lives. Any thread. */
bool store_lives(struct store *store, int64_t process);

/* -- Moves ---------------------------------------------------------------- */

/* new -> ready, scheduled or blocked, for n jobs: all or none. The submissions
 * have been checked. ROTA_EXISTS: ret_ids[0] has the unique key of one;
 * ROTA_NOTFOUND: a job that one names is not there. Nothing has changed then. */
ROTA_MUST_USE enum rota_error
store_submit(struct store *store, const struct rota_submission *submissions,
             size_t n, int64_t *ret_ids);

/* scheduled -> ready for what is due, and ready, scheduled or blocked -> failed
 * for what is past its deadline, at most 1,000 of each. *ret_next is when there
 * will be more, INT64_MAX if never. */
ROTA_MUST_USE enum rota_error store_promote(struct store *store,
                                            int64_t *ret_next);

/* Tell the jobs that others' ends or returns concern: blocked -> ready,
 * scheduled or cancelled, cancelled -> blocked again, and the children of what
 * was cancelled. At most limit of them; *ret_more: there are more. */
ROTA_MUST_USE enum rota_error store_settle(struct store *store, size_t limit,
                                           bool *ret_more);

/* Whether something became ready in this transaction. */
bool store_made_ready(const struct store *store);

/* Forget those of the n jobs that have ended before the time, that none waits
 * for, and whose children have heard of it. *ret_count is how many they were. */
ROTA_MUST_USE enum rota_error store_prune(struct store *store,
                                          const int64_t *ids, size_t n,
                                          int64_t before, int64_t *ret_count);

/* Which jobs a process runs. */
struct scope {
    int64_t process;      /* who it is */
    const int64_t *kinds; /* of these kinds */
    size_t n_kinds;
    int64_t queue;        /* in this queue; 0: in any */
    int64_t job;          /* this one; 0: all of those */
};
bool scope_has_kind(const struct scope *scope, int64_t kind);

/* A job as it is claimed. */
struct claim {
    int64_t id, lease, kind;
    int64_t run_at, created_at;
    int64_t deadline_at;  /* 0: none */
    int64_t timeout_ms;   /* 0: the kind's */
    int64_t failures, crashes;
    int64_t cursor, total;
    int64_t restart;      /* runs up to this lease are forgotten */
    int max_attempts;     /* 0: the kind's */
    void *args; /* malloc'd, a NUL after it; the taker's */
    size_t args_size;
};
/* Take *claim; claim->args with it. false: not taken; it and those behind it
 * stay where they are. */
typedef bool claim_fn(void *arg, const struct claim *claim);

/* A job that was there at so many deaths of its process in a row, and got no
 * further, is to run alone, so that no neighbour is blamed for the next. */
#define CRASHES_ALONE 2

/* ready -> running for at most limit jobs of the scope, soonest sort key first;
 * those past their deadline fail instead, and those whose key is at its limit
 * are held. *ret_rest is what may be claimed later. */
enum claim_rest {
    CLAIM_NOTHING, /* that is not claimed, or becomes ready */
    CLAIM_LIMITED, /* some, when a job ends */
    CLAIM_MORE     /* some at once: others were put aside for long enough */
};
ROTA_MUST_USE enum rota_error store_claim(struct store *store,
                                          const struct scope *scope,
                                          size_t limit, claim_fn *fn, void *arg,
                                          enum claim_rest *ret_rest);

/* Say that store_claim() will follow in this transaction with at least that
 * limit, whatever else the calls before it do. Jobs that come until then need
 * not be lined up first. Between a store_submit() and the claim, before any call
 * that is not a store_submit() either and may concern jobs that wait,
 * store_line_up() lines them up after all. */
void store_expect(struct store *store, const struct scope *scope, size_t limit);
ROTA_MUST_USE enum rota_error store_line_up(struct store *store);

/* How far a run has got, for store_progress(). */
struct progress {
    int64_t id, lease;
    int64_t started_at;
    int64_t cursor, total; /* total < 0: unknown */
    int64_t base, base_at; /* where this run took up, and when */
    int64_t stuck_since;   /* ignores its context; 0: it does not */
};

/* How a run ended, for store_end(). */
struct ending {
    int64_t id, lease;
    int64_t started_at, delivered_at; /* 0: it never was */
    enum rota_error error;            /* what the job returned */
    enum rota_stop_reason stop;       /* why its context was done */
    bool never_started;               /* a claim that is given back */
    int64_t process, failures; /* of the run that comes to an end by itself */
    int max_attempts;
    int64_t snooze_ms;
    const struct progress *progress; /* NULL: nothing new */
    const char *reason;    /* of a cancel that is not in the file yet */
    const char *message;   /* NULL: none */
    const void *result;    /* NULL: none */
    size_t result_size;
};

/* running -> where the ending leads: the outcome rules of rota/job.h.
 * *ret_state is where; ROTA_LOST if the lease is not this run's any more, and
 * then nothing was written. */
ROTA_MUST_USE enum rota_error store_end(struct store *store,
                                        const struct ending *ending,
                                        enum rota_state *ret_state);

/* Write down that a run has started, and how far it has got. ROTA_LOST as
 * above. */
ROTA_MUST_USE enum rota_error store_progress(struct store *store,
                                             const struct progress *progress);

/* The SQL command, INSERT INTO cancel. ROTA_NOTFOUND. */
ROTA_MUST_USE enum rota_error
store_cancel(struct store *store, int64_t id, const char *reason,
             enum rota_cancel_answer *ret_answer);

/* INSERT INTO retry. ROTA_NOTFOUND; ROTA_INVALID: it has not ended;
 * ROTA_EXISTS: another job has its unique key. */
ROTA_MUST_USE enum rota_error store_retry(struct store *store, int64_t id,
                                          bool restart);

/* INSERT INTO reschedule. NULL: as it is. ROTA_NOTFOUND; ROTA_INVALID: it does
 * not wait. */
ROTA_MUST_USE enum rota_error store_reschedule(struct store *store, int64_t id,
                                               const int64_t *priority,
                                               const int64_t *run_at);

/* INSERT INTO pause, or INTO resume: ROTA_NOTFOUND. */
ROTA_MUST_USE enum rota_error store_pause(struct store *store,
                                          const char *queue, bool pauses);

/* INSERT INTO set_limit, INTO retain. One of queue and key is NULL; 0: none. */
ROTA_MUST_USE enum rota_error store_set_limit(struct store *store,
                                              const char *queue,
                                              const char *key, int64_t limit);
ROTA_MUST_USE enum rota_error store_retain(struct store *store,
                                           const char *queue, int64_t ms);

/* Change something, so that a durable commit syncs all before it. */
ROTA_MUST_USE enum rota_error store_touch(struct store *store);

/* -- Reading -------------------------------------------------------------- */

struct reader;

/* On the same file as store, and no other that is at its path by now. */
ROTA_MUST_USE enum rota_error reader_open(const struct store *store,
                                          struct reader **ret_reader);
void reader_close(struct reader *reader);

/* store_has_moved(), for what it reads. */
bool reader_has_moved(struct reader *reader);

/* True if anybody, this process included, has committed since the last call.
 * True on doubt. */
bool reader_changed(struct reader *reader);

/* Where a job stands. ROTA_NOTFOUND. ret_outcome->state decides; the rest is
 * filled for ended jobs. */
ROTA_MUST_USE enum rota_error reader_outcome(struct reader *reader, int64_t id,
                                             struct rota_outcome *ret_outcome);

/* Call fn(arg, job, lease, reason) for each running job of process whose
 * cancel was asked; reason may be NULL. */
typedef void reader_cancel_fn(void *arg, int64_t id, int64_t lease,
                              const char *reason);
ROTA_MUST_USE enum rota_error reader_cancels(struct reader *reader,
                                             int64_t process,
                                             reader_cancel_fn *fn, void *arg);

/* Call fn for each process that has not been seen to end. */
struct peer {
    int64_t id;
    int64_t pid, start_ticks;
    const char *boot; /* valid during the call */
};
typedef void reader_peer_fn(void *arg, const struct peer *peer);
ROTA_MUST_USE enum rota_error reader_peers(struct reader *reader,
                                           reader_peer_fn *fn, void *arg);

/* What waits for somebody to act. */
struct waiting {
    bool ready;    /* a job of the scope's kinds and queue may be claimed */
    bool limited;  /* one is ready but for the limit of its queue or key */
    bool unsettled; /* there are jobs for store_settle() */
    int64_t next;  /* when store_promote() has something to do; INT64_MAX */
};
ROTA_MUST_USE enum rota_error reader_waiting(struct reader *reader,
                                             const struct scope *scope,
                                             struct waiting *ret_waiting);

/* rota_query(). ROTA_CANCELED: somebody interrupted the connection. */
ROTA_MUST_USE enum rota_error reader_query(struct reader *reader,
                                           const char *sql,
                                           const struct rota_value *params,
                                           int n, rota_row_fn *fn, void *arg);

/* The first queue behind *queue that keeps its jobs for a time only, and for how
 * long; *queue is 0 if there is none. */
ROTA_MUST_USE enum rota_error reader_retaining(struct reader *reader,
                                               int64_t *queue, int64_t *ret_ms);

/* Up to n jobs of queue behind the id *last that have ended before the time;
 * *last is set to how far it looked, INT64_MAX if there are no more. */
ROTA_MUST_USE enum rota_error
reader_prunable(struct reader *reader, int64_t queue, int64_t before,
                int64_t *last, int64_t *ids, size_t n, size_t *ret_n);

/* The connection, for who wants to interrupt it. */
struct sqlite3 *reader_db(struct reader *reader);

#endif
