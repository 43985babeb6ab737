/*
 * A scheduler runs jobs from one SQLite file on a fixed number of threads.
 *
 *   1. rota_open()    the file, made if it is not there
 *   2. rota_handle()  a function for each kind of job this process can run
 *   3. rota_start()   workers, until their context ends
 *   4. rota_submit()  jobs, from any thread or process; or INSERT INTO submit
 *   5. rota_wait()    for an outcome, or rota_drain() for all
 *   6. rota_stop()    asks what is running to stop, and gives it back
 *   7. rota_close()
 *
 * A process that only submits, asks and cancels leaves out 2, 3 and 6: it
 * starts no worker. Several processes may have the file open; their jobs are
 * shared, and the jobs of one that dies are ready again for the others within a
 * second. Which of them may have killed it is found out without stopping the
 * rest: see Suspects in rota(5). All calls may be made from any thread, except
 * where one says otherwise, and never from a ctx callback. A forked child must
 * not use its parent's scheduler, close it, or open the same file before it has
 * executed a program: calls answer ROTA_INVALID there. A call that writes waits
 * for its turn among all processes, and answers ROTA_BUSY, and names who keeps
 * it waiting, after a minute, or after five seconds if that one is stopped or
 * is a foreign client; workers try again. Where the size of files is limited
 * (RLIMIT_FSIZE), a program that ignores SIGXFSZ gets ROTA_FULL, and one that
 * does not is ended by it. While the file has been moved away, or another put
 * in its place, they answer ROTA_STORE, and for good once its -wal or its -lock
 * has been removed. Once it has been found damaged they answer ROTA_CORRUPT:
 * nothing more is written to it, what runs is stopped, and the log is told of
 * each end that is not recorded.
 *
 * A program may have its standard input, output or error closed: no descriptor
 * of the library's takes their place.
 */
#ifndef ROTA_SCHEDULER_H
#define ROTA_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rota/ctx.h>
#include <rota/error.h>
#include <rota/job.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rota;

/* -- Opening ------------------------------------------------------------- */

enum rota_open_flags {
    /* Acknowledged writes survive the death of the process, but those of the
     * last moments may be lost with the machine's power. Faster. */
    ROTA_NORMAL = 1 << 0,
    /* Only look: rota_query() and rota_wait(). The file must be there. */
    ROTA_READONLY = 1 << 1,
    /* Wait for nobody who writes: ROTA_BUSY at once. */
    ROTA_NOWAIT = 1 << 2
};

/* Called with one line without a newline. job is 0 if it is about none. Any
 * thread, no lock held. */
typedef void rota_log_fn(void *arg, int64_t job, const char *line);

enum rota_state {
    ROTA_BLOCKED,
    ROTA_SCHEDULED,
    ROTA_READY,
    ROTA_RUNNING,
    ROTA_SUCCEEDED,
    ROTA_JOB_FAILED,
    ROTA_CANCELLED
};

/* The word that the file and the views use for state. Static. */
ROTA_API const char *rota_state_name(enum rota_state state);

/* Called when the end of a run of this process's is in the file. state is where
 * the job went: ROTA_SUCCEEDED, ROTA_JOB_FAILED or ROTA_CANCELLED for good,
 * ROTA_SCHEDULED or ROTA_READY to run again. Must be quick, and make no rota
 * call: nothing is written meanwhile. Any thread, one call at a time, no lock
 * held. */
typedef void rota_ended_fn(void *arg, int64_t job, enum rota_state state);

/* What time it is, in Unix milliseconds. Quick, and makes no rota call. Any
 * thread. */
typedef int64_t rota_clock_fn(void *arg);

/* Zero for defaults: struct rota_options options = ROTA_OPTIONS_INIT; */
struct rota_options {
    size_t size;      /* set by ROTA_OPTIONS_INIT */
    unsigned flags;   /* enum rota_open_flags */
    int workers;      /* threads; 0: one for each CPU */
    rota_log_fn *log; /* NULL: silence. The library never prints */
    void *log_arg;
    rota_ended_fn *ended; /* NULL: nobody wants to know */
    void *ended_arg;
    rota_clock_fn *clock; /* NULL: the machine's. For tests, with rota_step():
                           * decides when jobs are due and retried */
    void *clock_arg;
    int64_t log_max; /* bytes; 0: 4 GiB. The file's log, <path>-wal, cannot be
                      * begun anew while a client reads in one long transaction.
                      * From 64 MiB on the log function is told, with the
                      * process that reads; at log_max no more jobs are taken
                      * (ROTA_FULL) or claimed until it has ended */
};
#define ROTA_OPTIONS_INIT                                                      \
    { sizeof(struct rota_options), 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, 0 }

/* Open the queue in the file path. options may be NULL; it is copied. On
 * failure *ret_rota is untouched and rota_errmsg(NULL) says why. Errors:
 * ROTA_NOTFOUND (read-only, and no such file), ROTA_CORRUPT (not a rota file,
 * or damaged), ROTA_VERSION, ROTA_INVALID, ROTA_BUSY, ROTA_STORE, ROTA_SYSTEM,
 * ROTA_NOMEM. */
ROTA_API ROTA_MUST_USE enum rota_error
rota_open(const char *path, const struct rota_options *options,
          struct rota **ret_rota);

/* Close. Workers that run are stopped first as by rota_stop(rota, 0). NULL is
 * a no-op. ROTA_BUSY, and still open, while a job that ignores its context
 * holds a thread; ROTA_INVALID from inside a job of its own. */
ROTA_API enum rota_error rota_close(struct rota *rota);

/* What went wrong in the last call on this thread that failed, in words.
 * Valid until this thread's next rota call. Never NULL. rota may be NULL. */
ROTA_API const char *rota_errmsg(const struct rota *rota);

/* What tells this queue's file from any other: a text that stays the same for
 * the file's life. A copy has one of its own as soon as it is opened to write,
 * and so has a file that was moved to another disk, which looks like one: see
 * rota_job_instance(). Valid until rota_close(). */
ROTA_API const char *rota_instance(const struct rota *rota);

/* -- Kinds and workers --------------------------------------------------- */

/* How jobs of a kind are run unless their submission says otherwise. */
struct rota_defaults {
    size_t size;      /* set by ROTA_DEFAULTS_INIT */
    int max_attempts; /* 0: 1, that is, a failure is final */
    int64_t timeout;  /* of one run, in nanoseconds; 0: none */
    int64_t grace;    /* to return within, once its context has ended; later it
                       * is called stuck; 0: 10 seconds */
    bool is_isolated; /* what can go wrong happens in a process of its own
                       * (rota_job_process()), and cannot bring down this one:
                       * its jobs are no suspects when a process dies */
};
#define ROTA_DEFAULTS_INIT { sizeof(struct rota_defaults), 0, 0, 0, false }

/* Have jobs of kind run by fn; rota_job_arg() gives them arg. Before
 * rota_start(). kind is copied; defaults may be NULL. Errors: ROTA_EXISTS,
 * ROTA_INVALID, ROTA_BUSY (started), ROTA_NOMEM. */
ROTA_API ROTA_MUST_USE enum rota_error
rota_handle(struct rota *rota, const char *kind, rota_job_fn *fn, void *arg,
            const struct rota_defaults *defaults);

/* Whether jobs of kind have a function here. */
ROTA_API bool rota_handles(struct rota *rota, const char *kind);

/* Not in this library: what a shared object for `rota work --load` exports. It
 * calls rota_handle() for each kind that the object brings. Called once, before
 * rota_start(); an error that it returns is the object's, which is not used
 * then. The object stays loaded until the process ends. */
ROTA_API enum rota_error rota_register(struct rota *rota);

/* Start the workers. They claim jobs of the kinds handled here until ctx ends:
 * then no more are claimed, and running jobs' contexts, which derive from ctx,
 * are done. A job stopped so goes back into the queue with its cursor.
 * Errors: ROTA_BUSY (started before), ROTA_INVALID, ROTA_SYSTEM, ROTA_NOMEM,
 * ROTA_STORE. */
ROTA_API ROTA_MUST_USE enum rota_error rota_start(struct ctx *ctx,
                                                  struct rota *rota);

/* The same, for workers that claim the job id and no other. id 0 is the next
 * job that is submitted through rota: it is claimed as it is submitted, so that
 * it does not begin in another process. */
ROTA_API ROTA_MUST_USE enum rota_error
rota_start_job(struct ctx *ctx, struct rota *rota, int64_t id);

/* The same, for workers that claim jobs in the queue called queue, made if it
 * is new, and in no other. While this process lives nobody else claims in it.
 * ROTA_EXISTS: another process works on it so. */
ROTA_API ROTA_MUST_USE enum rota_error
rota_start_queue(struct ctx *ctx, struct rota *rota, const char *queue);

/* Take back the jobs of processes that died, as workers do within a second of
 * the death. For programs that have none and look nevertheless. Writes nothing
 * if none has. Errors: ROTA_INVALID (read-only, and one has), ROTA_BUSY,
 * ROTA_STORE, ROTA_NOMEM. */
ROTA_API ROTA_MUST_USE enum rota_error rota_rescue(struct rota *rota);

/* Stop claiming; after grace nanoseconds end the contexts of what still runs,
 * and wait until every job has returned and is recorded. ROTA_OK, or
 * ROTA_BUSY if all that is left are jobs that ignore their context beyond
 * their kind's grace; rota_errmsg() names one, and how long it has, and the
 * column stuck of the view workers names all. No-op if not started.
 * ROTA_INVALID from inside a job of its own. ROTA_STORE: that it has left could
 * not be recorded; while its file is moved away neither are the ends of jobs,
 * which others will run again. */
ROTA_API enum rota_error rota_stop(struct rota *rota, int64_t grace);

/*
 * One step, without workers, for testing jobs: what is due by options.clock is
 * promoted, at most one job is claimed and run on this thread under ctx, and
 * its end recorded. *ret_id, unless NULL, is the job's. Instead of
 * rota_start(); one thread at a time. A retry, a snooze or a deadline can be
 * tested by moving the clock, and no test sleeps: the column run_at says how
 * far, for the pause between retries differs by chance. A run that has begun
 * ends at its timeout or deadline by the machine's time all the same. Errors:
 * ROTA_NOTFOUND (no job is ready), ROTA_BUSY (started), ROTA_INVALID,
 * ROTA_FULL, ROTA_STORE.
 */
ROTA_API ROTA_MUST_USE enum rota_error
rota_step(struct ctx *ctx, struct rota *rota, int64_t *ret_id);

/* Wait until no job of the kinds handled here is ready or running in this
 * process. Errors: ctx_err(ctx), ROTA_INVALID (not started, or from inside a
 * job of its own), ROTA_STORE. */
ROTA_API ROTA_MUST_USE enum rota_error rota_drain(struct ctx *ctx,
                                                  struct rota *rota);

/* -- Jobs ---------------------------------------------------------------- */

/* Zero for defaults: struct rota_submission s = ROTA_SUBMISSION_INIT(kind); */
struct rota_submission {
    size_t size; /* set by ROTA_SUBMISSION_INIT */
    const char *kind;
    const void *args; /* UTF-8 text, JSON by custom, or any bytes; copied */
    size_t args_size;
    bool args_blob;    /* store as BLOB; what is not UTF-8 always is */
    const char *queue; /* NULL: "default" */
    const char *batch; /* NULL: none. Jobs that are counted together */
    int64_t priority;  /* smaller is sooner; one level is a minute's wait */
    int64_t run_at;    /* not before, Unix milliseconds (what looks like seconds
                        * is ROTA_INVALID); 0: now */
    int64_t deadline;  /* Unix milliseconds; 0: none */
    int64_t timeout;   /* of one run, in nanoseconds; 0: the kind's */
    int max_attempts;  /* 0: the kind's */
    const char *unique_key; /* NULL: none. One job with it at a time is
                             * anything but ended */
    const char *limit_key;  /* NULL: none. Jobs with it run one at a time, or as
                             * many as rota_limit_key() says, over all queues,
                             * kinds and processes */
    const int64_t *after; /* n_after jobs that must succeed first; if one fails
                           * or is cancelled this one is cancelled, until that
                           * one is retried */
    size_t n_after;
    int64_t parent; /* cancelled with this job; 0: none. For what a
                     * running job submits: rota_job_id() */
};
#define ROTA_SUBMISSION_INIT(kind)                                             \
    { sizeof(struct rota_submission), kind, NULL, 0, false, NULL, NULL,        \
      0, 0, 0, 0, 0, NULL, NULL, NULL, 0, 0 }

/* Put a job into the queue. On ROTA_OK it is durable and *ret_id, unless NULL,
 * is its id; on any error no job was made. Errors: ROTA_EXISTS (a job that has
 * not ended has its unique key, and *ret_id is that job's id), ROTA_NOTFOUND (a
 * job in after, or parent, is not there), ROTA_INVALID, ROTA_FULL (the disk, or
 * options.log_max), ROTA_BUSY (locked by a foreign client), ROTA_STORE,
 * ROTA_NOMEM. */
ROTA_API ROTA_MUST_USE enum rota_error
rota_submit(struct rota *rota, const struct rota_submission *submission,
            int64_t *ret_id);

/* Put n jobs into the queue, all or none; ret_ids, unless NULL, gets n ids, or,
 * with ROTA_EXISTS, the one that stands in the way. */
ROTA_API ROTA_MUST_USE enum rota_error
rota_submit_many(struct rota *rota, const struct rota_submission *submissions,
                 size_t n, int64_t *ret_ids);

struct rota_outcome {
    size_t size; /* set by ROTA_OUTCOME_INIT */
    enum rota_state state;
    enum rota_error error; /* what the job returned; ROTA_OK if it succeeded */
    int64_t attempts;      /* charged runs */
    int64_t cursor;
    char message[512]; /* why it failed or was cancelled; "" otherwise */
};
#define ROTA_OUTCOME_INIT                                                      \
    { sizeof(struct rota_outcome), ROTA_BLOCKED, ROTA_OK, 0, 0, { 0 } }

/* Wait until the job has ended, in whatever process it runs. *ret_outcome,
 * unless NULL, is what became of it, and is durable. Errors: ROTA_NOTFOUND,
 * ctx_err(ctx), ROTA_STORE. */
ROTA_API ROTA_MUST_USE enum rota_error
rota_wait(struct ctx *ctx, struct rota *rota, int64_t id,
          struct rota_outcome *ret_outcome);

/* Submit and wait. The job inherits ctx's deadline, and if ctx ends first the
 * job is cancelled, and its end awaited. ROTA_OK: *ret_outcome says what
 * became of it. Errors: ctx_err(ctx), if it had ended before: nothing was
 * submitted; as rota_submit() and rota_cancel(). While nobody works who knows
 * the kind it waits, for as long as ctx lets it; the column why tells. */
ROTA_API ROTA_MUST_USE enum rota_error
rota_run(struct ctx *ctx, struct rota *rota,
         const struct rota_submission *submission,
         struct rota_outcome *ret_outcome);

struct rota_value; /* below */

/* What a cancel came to. */
enum rota_cancel_answer {
    ROTA_CANCEL_DONE,      /* it was not running, and never will */
    ROTA_CANCEL_REQUESTED, /* it is running, and is being told */
    ROTA_CANCEL_AGAIN,     /* it is running, and was told before */
    ROTA_CANCEL_TOO_LATE   /* it had ended */
};

/* Cancel a job: at once if it waits; if it runs, in whatever process, its
 * context ends. reason may be NULL; it is what ctx_cause() and the file say.
 * *ret_answer, unless NULL, says what it came to. Cancelling a job that has
 * ended is no error. Errors: ROTA_NOTFOUND, ROTA_FULL, ROTA_BUSY, ROTA_STORE:
 * the request is not recorded, but a job of this process has been told. */
ROTA_API enum rota_error rota_cancel(struct rota *rota, int64_t id,
                                     const char *reason,
                                     enum rota_cancel_answer *ret_answer);

/* Cancel every job that has not ended and for which the SQL condition where, on
 * the columns of the view jobs, holds: "batch = ?1", with params as for
 * rota_query(); NULL is all. They are looked up once and cancelled some
 * hundreds at a time, so that nobody waits long for the lock. ret_counts,
 * unless NULL, gets how many answered what. Errors: ctx_err(ctx), with those
 * done so far cancelled and counted; ROTA_INVALID (the condition); as
 * rota_cancel(). */
ROTA_API ROTA_MUST_USE enum rota_error
rota_cancel_where(struct ctx *ctx, struct rota *rota, const char *where,
                  const struct rota_value *params, int n, const char *reason,
                  int64_t ret_counts[ROTA_CANCEL_TOO_LATE + 1]);

/* Have a job that has ended, however it has, run again: its attempts begin
 * anew, its cursor stays where it was, unless restart, the runs before stay in
 * the view attempts, and a deadline that has passed is none any more. Jobs that
 * were cancelled because it did not succeed wait for it again; one that itself
 * waits for a job which has failed is cancelled again. Errors: ROTA_NOTFOUND;
 * ROTA_INVALID: it has not ended; ROTA_EXISTS: another job has its unique key;
 * ROTA_FULL, ROTA_BUSY, ROTA_STORE. */
ROTA_API enum rota_error rota_retry(struct rota *rota, int64_t id,
                                    bool restart);

/* Change the priority, or the time (Unix milliseconds) before which it does not
 * run, of a job that waits; NULL leaves as it is. Errors: ROTA_NOTFOUND;
 * ROTA_INVALID: it runs, or has ended, or the value; ROTA_FULL, ROTA_BUSY,
 * ROTA_STORE. */
ROTA_API enum rota_error rota_reschedule(struct rota *rota, int64_t id,
                                         const int64_t *priority,
                                         const int64_t *run_at);

/* From now on, until rota_resume(), no worker of any process takes a job out of
 * queue (NULL: "default"), which need not have any yet; what runs goes on. Both
 * may be repeated. Errors: ROTA_INVALID, ROTA_FULL, ROTA_BUSY, ROTA_STORE; to
 * resume also ROTA_NOTFOUND. */
ROTA_API enum rota_error rota_pause(struct rota *rota, const char *queue);
ROTA_API enum rota_error rota_resume(struct rota *rota, const char *queue);

/* Let no more than max_running jobs of queue (NULL: "default"), or of those
 * with limit_key, run at once, over all processes; what runs already goes on.
 * 0: as many as there are workers; of a key, 1. Claimed jobs count as running.
 * Errors: ROTA_INVALID, ROTA_FULL, ROTA_BUSY, ROTA_STORE. */
ROTA_API enum rota_error rota_limit_queue(struct rota *rota, const char *queue,
                                          int64_t max_running);
ROTA_API enum rota_error
rota_limit_key(struct rota *rota, const char *limit_key, int64_t max_running);

/* -- Forgetting ---------------------------------------------------------- */

/* Have jobs of queue (NULL: "default") forgotten when they have ended for so
 * many nanoseconds, by any process that has workers or waits; 0: keep them. It
 * may take a sixteenth longer, and a minute until a new time is noticed. Errors
 * as above. */
ROTA_API enum rota_error rota_retain(struct rota *rota, const char *queue,
                                     int64_t time);

/* Forget now every job that has ended and for which where holds, as in
 * rota_cancel_where(): "finished_at < ?1"; NULL is all. A job that others wait
 * for stays, and so does a cancelled one until its children are cancelled.
 * Their ids are not given again. Some hundreds at a time, so that nobody waits
 * long for the lock. *ret_count, unless NULL, is how many. Errors:
 * ctx_err(ctx), ROTA_INVALID, ROTA_FULL, ROTA_BUSY, ROTA_STORE. */
ROTA_API ROTA_MUST_USE enum rota_error
rota_prune(struct ctx *ctx, struct rota *rota, const char *where,
           const struct rota_value *params, int n, int64_t *ret_count);

/* -- Looking in ---------------------------------------------------------- */

enum rota_type { ROTA_NULL, ROTA_INTEGER, ROTA_REAL, ROTA_TEXT, ROTA_BLOB };

struct rota_value {
    enum rota_type type;
    int64_t integer;  /* ROTA_INTEGER */
    double real;      /* ROTA_REAL */
    const char *data; /* ROTA_TEXT, ROTA_BLOB: size bytes; text ends in NUL */
    size_t size;
};

/* One row. names and values are valid during the call. false: no more. Called
 * once with values NULL before the first row. */
typedef bool rota_row_fn(void *arg, int n, const char *const *names,
                         const struct rota_value *values);

/* Read the file with one SQL statement, on a connection that can only read;
 * params, if not NULL, are bound to ?1 ... ?n. The public views are described
 * in rota(5). What a look does not need (ATTACH, transactions, settings,
 * extensions) is refused. Errors: ROTA_INVALID (the statement; the message is
 * SQLite's), ctx_err(ctx), ROTA_STORE. */
ROTA_API ROTA_MUST_USE enum rota_error
rota_query(struct ctx *ctx, struct rota *rota, const char *sql,
           const struct rota_value *params, int n, rota_row_fn *fn, void *arg);

#ifdef __cplusplus
}
#endif
#endif
