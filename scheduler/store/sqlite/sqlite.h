/*
 * The queue in a SQLite file: the writing connection, and what the files of
 * this folder do for each other with it.
 *
 * Everything here is for one thread at a time, whoever has the writer's role,
 * in a transaction that transaction_begin() has opened (but for opening,
 * closing and the transaction's own calls). An error from one of these calls
 * means that the transaction must be rolled back.
 *
 * To change a table:
 *   1. schema.c: the CREATE TABLE, SCHEMA_VERSION + 1 (schema.h), and a
 *      step that makes a file of the version before into one of this;
 *   2. schema_commands.c, schema_views.c: the triggers that write it, the
 *      views that show it; a new column of a view goes to the end, and
 *      into man/rota.5;
 *   3. the statements that name it: grep its name in this folder;
 *   4. tests/schemas/: the file as the version before made it.
 * tests/test_schema.c tells whether an upgraded file is like a new one,
 * tests/test_plans.c whether a statement scans, tests/test_manual.sh whether
 * the manual has every column, tests/test_interleave whether the moves still
 * agree with the model.
 */
#ifndef SQLITE_H
#define SQLITE_H

#include "store/ops.h"
#include "store/sqlite/arrivals.h"
#include "store/sqlite/lockfile.h"
#include "store/sqlite/log.h"
#include "store/sqlite/names.h"
#include "store/sqlite/statement.h"
#include "store/sqlite/yield.h"

struct sqlite_store {
    struct store base;
    struct connection connection; /* that writes */
    struct lockfile *lockfile;
    struct yield yield;
    struct log log;
    struct names kinds, queues, batches;
    bool is_durable;      /* what PRAGMA synchronous says */
    bool is_shut_out;     /* others kept us from writing, and this was said */
    bool has_moved;       /* as the last transaction_begin() found */
    int64_t data_version; /* as of then */
    /* of a copy: the last job that came with it, and the number that the leases
     * of these begin above; 0: it is none (origin.c) */
    int64_t copied, lease_base;
    int64_t latest; /* the latest time in the file (times.c); 0: look it up */
    /* of the transaction that is open */
    int64_t now; /* Unix milliseconds: its moves are of one moment */
    bool has_made_ready;
    int64_t joined; /* the process that has joined in it; 0: none */
    struct arrivals arrivals;
    struct ids {              /* that are reserved */
        int64_t first, last;  /* none are left if first > last */
        int64_t reserve;      /* how many to reserve next */
        int64_t taken, usual; /* in this one; in the last that took any */
    } ids;
};

static inline struct sqlite_store *
sqlite_store_of(struct store *store)
{
    return OWNER_OF(store, struct sqlite_store, base);
}

/* Run a statement with integers for ?1, ?2, ...; see statement_run(). */
#define RUN(store, statement, ret_changed, ...)                              \
    statement_run(&(store)->connection, &(statement), ret_changed,           \
                  (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), \
                  (const int64_t[]){__VA_ARGS__})
/* One that moves a row that has been read; see statement_run_one(). */
#define RUN_ONE(store, statement, ...)                             \
    statement_run_one(                                             \
        &(store)->connection, &(statement),                        \
        (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), \
        (const int64_t[]){__VA_ARGS__})
/* One without any. */
#define RUN_BARE(store, statement) \
    statement_run(&(store)->connection, &(statement), NULL, 0, NULL)

/* -- open.c --------------------------------------------------------------- */

enum rota_error sqlite_open(const char *path,
                            const struct store_options *options,
                            struct store **ret_store);
void sqlite_close(struct store *store);
bool sqlite_is_inherited(const struct store *store);

/* -- origin.c ------------------------------------------------------------- */

/* If the file is a copy, make it a queue of its own. The gate is held, and no
 * transaction open. */
ROTA_MUST_USE enum rota_error origin_settle(struct sqlite_store *store);

/* Read whose its jobs are: identity.former, copied and lease_base. */
ROTA_MUST_USE enum rota_error origin_read(struct sqlite_store *store);

/* The lease that a run of the job gets, where it would be that one. */
int64_t origin_lease(const struct sqlite_store *store, int64_t id,
                     int64_t lease);

/* -- cycle.c -------------------------------------------------------------- */

enum rota_error sqlite_cycle(struct store *store, struct work *work);

/* -- transaction.c -------------------------------------------------------- */

/* Pass the gate, when it is our turn. ROTA_BUSY: somebody keeps us waiting for
 * too long, and is named. */
ROTA_MUST_USE enum rota_error transaction_gate(struct sqlite_store *store);

/* Pass the gate and begin. is_durable: the commit will survive power loss, and
 * with it everything committed before. */
ROTA_MUST_USE enum rota_error transaction_begin(struct sqlite_store *store,
                                                bool is_durable);
ROTA_MUST_USE enum rota_error transaction_commit(struct sqlite_store *store);
void transaction_rollback(struct sqlite_store *store);

/* Prepare what a rollback takes: it must be possible without memory. */
ROTA_MUST_USE enum rota_error transaction_prepare(struct sqlite_store *store);

/* Change something, so that a durable commit syncs all before it. */
ROTA_MUST_USE enum rota_error transaction_touch(struct sqlite_store *store);

/* -- times.c -------------------------------------------------------------- */

/* Note what time it is, in store->now; and if it was later before, set right
 * what waits by the clock. */
ROTA_MUST_USE enum rota_error times_check(struct sqlite_store *store);

/* Whether there is something to set right: the clock was set back, and nobody
 * has written since. On any connection. */
ROTA_MUST_USE enum rota_error times_are_back(struct connection *connection,
                                             int64_t now, bool *ret_back);

/* -- submit.c ------------------------------------------------------------- */

/* new -> ready, scheduled or blocked, for n jobs: all or none. ROTA_EXISTS:
 * ret_ids[0] has the unique key of one; ROTA_NOTFOUND: a job that one names is
 * not there. Nothing has changed then. */
ROTA_MUST_USE enum rota_error
jobs_submit(struct sqlite_store *store,
            const struct rota_submission *submissions, size_t n,
            int64_t *ret_ids);

/* Give back the ids that were reserved and not taken, before the commit. */
ROTA_MUST_USE enum rota_error ids_return(struct sqlite_store *store);

/* -- waiting.c ------------------------------------------------------------ */

/* Put a job that may run now where claims look, or take it out. */
ROTA_MUST_USE enum rota_error ready_insert(struct sqlite_store *store,
                                           int64_t queue, int64_t kind,
                                           int64_t sort_key, int64_t id);
ROTA_MUST_USE enum rota_error ready_delete(struct sqlite_store *store,
                                           int64_t queue, int64_t kind,
                                           int64_t sort_key, int64_t id);

/* Put the job where it waits to be run, by its time: is_pause, a time that
 * comes of how long it is to wait, and not of its asker's word. */
ROTA_MUST_USE enum rota_error job_line_up(struct sqlite_store *store,
                                          int64_t id, bool is_pause);

/* It is due: likewise. */
ROTA_MUST_USE enum rota_error job_make_ready(struct sqlite_store *store,
                                             int64_t id);

/* Take the job out of wherever it waits, or out of where it is blocked.
 * *ret_waited: it was there. */
ROTA_MUST_USE enum rota_error job_leave_line(struct sqlite_store *store,
                                             int64_t id, bool *ret_waited);
ROTA_MUST_USE enum rota_error job_leave_blocked(struct sqlite_store *store,
                                                int64_t id, bool *ret_waited);

/* -- due.c ---------------------------------------------------------------- */

/* scheduled -> ready for what is due, and what waits -> failed for what is past
 * its deadline, at most 1,000 of each. *ret_next is when there will be more,
 * INT64_MAX if never. */
ROTA_MUST_USE enum rota_error due_promote(struct sqlite_store *store,
                                          int64_t *ret_next);

/* The job's deadline has passed, and it has left the line: it fails. */
ROTA_MUST_USE enum rota_error due_expire(struct sqlite_store *store,
                                         int64_t id);

/* When due_promote() has something to do. On any connection. */
ROTA_MUST_USE enum rota_error due_next(struct connection *connection,
                                       int64_t *ret_next);

/* -- limits.c ------------------------------------------------------------- */

/* How many more jobs with key may run. */
ROTA_MUST_USE enum rota_error key_room(struct sqlite_store *store,
                                       const char *key, int64_t *ret_room);

/* Hold a ready job. */
struct candidate;
ROTA_MUST_USE enum rota_error key_hold(struct sqlite_store *store,
                                       const struct candidate *job);

/* A run with this key has ended: bring back as many of those that are held for
 * it as there is room for. NULL: no key. */
ROTA_MUST_USE enum rota_error key_release(struct sqlite_store *store,
                                          const char *key);

/* If it is held and its key has room, have this one be ready: of others nobody
 * may want those that are before it. */
ROTA_MUST_USE enum rota_error key_release_one(struct sqlite_store *store,
                                              int64_t id);

/* A job that waited will not be run, and has left the line: likewise. */
ROTA_MUST_USE enum rota_error key_release_after(struct sqlite_store *store,
                                                int64_t id);

/* -- claim.c -------------------------------------------------------------- */

/* ready -> running for at most limit jobs of work's scope, soonest sort key
 * first, into work->claims; those past their deadline fail instead, and those
 * whose key is at its limit are held. Sets work->rest. */
ROTA_MUST_USE enum rota_error jobs_claim(struct sqlite_store *store,
                                         struct work *work, size_t limit);

/* -- end.c ---------------------------------------------------------------- */

/* What _running and _job say of a run that ends. */
struct run {
    int64_t id, lease, process, started_at; /* started_at as the file has it */
    int64_t cancel_at;                      /* 0: no cancel was asked for */
    char *cancel_reason;                    /* malloc'd or NULL */
    char *limit_key;                        /* the same */
    int64_t failures, max_attempts, crashes, deadline_at, ties;
    bool has_advanced; /* in this run */
    bool is_isolated;  /* its kind is */
};

/* Those of a WHERE that follows. */
#define RUNS                                                                \
    "SELECT r.id, r.lease, r.process, r.started_at, r.cancel_at,"           \
    " r.cancel_reason, r.limit_key, j.failures, j.max_attempts, j.crashes," \
    " j.deadline_at, j.ties, p.advanced AND p.lease = r.lease,"             \
    " k.is_isolated"                                                        \
    " FROM _running r JOIN _job j ON j.id = r.id"                           \
    " LEFT JOIN _kind k ON k.id = j.kind"                                   \
    " LEFT JOIN _progress p ON p.id = r.id"
struct run run_of(struct stmt *row);
void run_clear(struct run *run);

/* running -> where the ending leads (outcome.h): ending->state, or is_lost. */
ROTA_MUST_USE enum rota_error end_run(struct sqlite_store *store,
                                      struct ending *ending);

/* The process of run has died, in which it was_alone, or not (outcome.h):
 * likewise. */
ROTA_MUST_USE enum rota_error end_orphan(struct sqlite_store *store,
                                         const struct run *run, bool was_alone);

/* A job has ended: tell those that it concerns, if there are any. */
ROTA_MUST_USE enum rota_error end_tell(struct sqlite_store *store, int64_t id,
                                       enum rota_state state);

/* -- progress.c ----------------------------------------------------------- */

/* Write down that a run has started, and how far it has got. ROTA_LOST: a later
 * run has taken over. */
ROTA_MUST_USE enum rota_error progress_record(struct sqlite_store *store,
                                              const struct progress *progress);

/* -- rescue.c ------------------------------------------------------------- */

/* Make the jobs of a process that died ready again, unless it lives or was
 * rescued before. *ret_jobs is how many there were. */
ROTA_MUST_USE enum rota_error worker_rescue(struct sqlite_store *store,
                                            int64_t process, int64_t *ret_jobs);

/* -- dependents.c --------------------------------------------------------- */

/* Tell the jobs that others' ends or returns concern. At most limit of them;
 * *ret_more: there are more. */
ROTA_MUST_USE enum rota_error dependents_settle(struct sqlite_store *store,
                                                size_t limit, bool *ret_more);

/* -- commands.c ----------------------------------------------------------- */

/* Each is the SQL command of that name, with an answer; the errors are those of
 * its wish (work.h). */
ROTA_MUST_USE enum rota_error
command_cancel(struct sqlite_store *store, int64_t id, const char *reason,
               enum rota_cancel_answer *ret_answer);
ROTA_MUST_USE enum rota_error command_retry(struct sqlite_store *store,
                                            int64_t id, bool restarts);
ROTA_MUST_USE enum rota_error command_reschedule(struct sqlite_store *store,
                                                 int64_t id,
                                                 const int64_t *priority,
                                                 const int64_t *run_at);
ROTA_MUST_USE enum rota_error command_pause(struct sqlite_store *store,
                                            const char *queue, bool pauses);
ROTA_MUST_USE enum rota_error command_limit(struct sqlite_store *store,
                                            const char *queue, const char *key,
                                            int64_t max_running);
ROTA_MUST_USE enum rota_error
command_retain(struct sqlite_store *store, const char *queue, int64_t time_ms);

/* The retry itself, of a job that has ended and may wait again. */
ROTA_MUST_USE enum rota_error retry_do(struct sqlite_store *store, int64_t id,
                                       bool restarts);

/* -- prune.c -------------------------------------------------------------- */

/* Forget those of the n jobs that have ended before the time, that none waits
 * for, and whose children have heard of it. *ret_count is how many they were.
 */
ROTA_MUST_USE enum rota_error jobs_prune(struct sqlite_store *store,
                                         const int64_t *ids, size_t n,
                                         int64_t before, int64_t *ret_count);

/* -- workers.c ------------------------------------------------------------ */

/* A process begins to run jobs: its row, its kinds, its queue, and its byte of
 * the lock file. ROTA_EXISTS: another process owns the queue. */
struct wish;
ROTA_MUST_USE enum rota_error worker_join(struct sqlite_store *store,
                                          struct wish *wish);

/* Record how it ended, unless that has been. */
ROTA_MUST_USE enum rota_error worker_end(struct sqlite_store *store,
                                         int64_t process, const char *how);

/* Whether nobody has recorded the end of process yet. */
ROTA_MUST_USE enum rota_error worker_is_open(struct sqlite_store *store,
                                             int64_t process, bool *ret_open);

#endif
