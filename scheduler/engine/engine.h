/*
 * The engine: what ties the store, the pool and contexts together.
 *
 *   engine.c    open, handle, start, stop, drain, close
 *   cycle.c     the writer's role and its one-transaction cycle,
 *   gather.c    which is: what there is to do,
 *   write.c     all of it in one transaction,
 *   publish.c   and who is told
 *   run.c       a claimed job, from its worker's hands back to the writer's
 *   job.c       what a job can say and ask (rota/job.h)
 *   client.c    submit, wait, run, query
 *   control.c   cancel, retry, reschedule, pause, limits, prune
 *   step.c      one job at a time, for tests of jobs
 *   outside.c   the listener: what other processes did, and who died
 *
 * Locking. rota.lock guards the fields that say so; it is never held across
 * the store, a job or a callback. The store belongs to whoever holds the
 * writer's role (rota.writing, cycle.c), a reader to whoever has taken it out
 * of rota.idle. start_lock is held while the writer's or the listener's thread
 * is started, and is taken with no other lock held. A job's own fields are its worker's while it runs,
 * except those marked. Order: start_lock, then rota.lock, then the pool's and
 * contexts' own.
 */
#ifndef ENGINE_H
#define ENGINE_H

#include <stdatomic.h>

#include <rota/job.h>
#include <rota/scheduler.h>

#include "base/base.h"
#include "context/wake.h"
#include "pool/pool.h"
#include "store/store.h"

/* How long the file may lag behind a job's progress. */
#define FLUSH_EVERY ROTA_MS(500)
/* Unstarted claims kept ahead of the workers, at most. */
#define PREFETCH_MAX 1024
/* None are kept ahead beyond so many bytes of arguments. */
#define PREFETCH_BYTES (64 << 20)
/* From this size on the file's log is told of. */
#define LOG_LONG (INT64_C(64) << 20)
/* And at this one no more jobs are taken, unless the options say otherwise. */
#define LOG_MAX (INT64_C(4) << 30)
/* The latest time in the file, Unix milliseconds. What is less than FIRST_TIME,
 * which was in March 1973, is taken for seconds, except by a clock of a test
 * that is not there yet. */
#define LAST_TIME  INT64_C(99999999999999)
#define FIRST_TIME INT64_C(100000000000)
/* How many jobs are cancelled, or forgotten, in one transaction. */
#define CHUNK_MAX 500
/* Connections for reading that are kept when nobody needs them. */
#define READERS_IDLE 4
/* How long a job may ignore that its context has ended, unless its kind says
 * otherwise, before it is called stuck. */
#define GRACE ROTA_SEC(10)

struct kind {
    struct kind *next;
    char *name;
    rota_job_fn *fn;
    void *arg;
    struct rota_defaults defaults;
    int64_t number; /* in the file; the writer's, then read-only */
};

enum job_place {
    JOB_CLAIMED,  /* in the pool's queue */
    JOB_RUNNING,  /* in its function */
    JOB_RELEASED, /* to be given back; its worker must not start it */
    JOB_ENDED     /* on its way to the file */
};

struct rota_job {
    struct rota *rota;
    const struct kind *kind;
    struct claim claim;
    struct link on_bucket;  /* rota.jobs, under rota.lock */
    enum job_place place;   /* under rota.lock */
    bool in_pool, recorded; /* under rota.lock; freed when neither needs it */
    struct ctx *ctx;        /* while running; set under rota.lock */
    char *cancel_reason;    /* under rota.lock until it ended */
    int64_t delivered_at;   /* the same; when the cancel reached us, or 0 */
    atomic_bool cancelled;  /* set before ctx is, relaxed: ctx publishes */
    atomic_bool lost;       /* the same */
    int64_t deadline;       /* of ctx by itself, monotonic */
    int max_attempts;       /* the submission's, or the kind's */
    int64_t timeout;        /* the same, in nanoseconds; 0: none */
    _Atomic int64_t cursor; /* relaxed: by the job, read by the writer */
    _Atomic int64_t total;  /* the same; -1: unknown */
    _Atomic int64_t base;   /* the same; where this run took up */
    _Atomic int64_t base_at;
    _Atomic int64_t started_at; /* Unix milliseconds; 0: not started */
    int64_t told_at;        /* the writer saw ctx done; 0: not yet. Down to */
    int64_t say_at;         /* stuck_since under rota.lock */
    int64_t stuck_since;    /* Unix milliseconds; 0: it is not stuck */
    int64_t flushed_cursor; /* what the file has: the writer's */
    int64_t flushed_total;
    int64_t flushed_stuck;
    bool flushed_start;
    bool poked; /* the first advance was announced */
    /* what the run came to; the writer's once it ended */
    enum rota_error error;
    enum rota_stop_reason stop;
    bool never_started;
    int64_t snooze_ms;
    char *message;
    void *result;
    size_t result_size;
    enum rota_state came_to; /* where the end led it, once it is in the file */
    bool has_come;
    struct rota_job *next_ended; /* rota.ended, or the writer's list */
    /* the job's databases */
    struct target *targets;   /* that it opened */
    struct sqlite3 **resumed; /* that it may step on */
    size_t n_resumed;
};

#define JOB_BUCKETS 256

/* A caller's wish, on its stack, carried out by whoever has the role. */
enum request_kind {
    REQUEST_SUBMIT,
    REQUEST_CANCEL,
    REQUEST_CANCEL_MANY,
    REQUEST_RETRY,
    REQUEST_RESCHEDULE,
    REQUEST_PAUSE,
    REQUEST_RESUME,
    REQUEST_LIMIT,
    REQUEST_RETAIN,
    REQUEST_PRUNE,
    REQUEST_COMMIT,
    REQUEST_SYNC,
    REQUEST_CHORES,
    REQUEST_RESCUE,
    REQUEST_BEGIN_PROCESS,
    REQUEST_END_PROCESS
};

struct request {
    struct link on_requests; /* under rota.lock; then the role's */
    enum request_kind kind;
    bool claims;   /* it is for a claim too, and so is its answer */
    bool answered; /* the role's; wake publishes it */
    bool lead;     /* the same: its caller has the role */
    struct wake wake;
    struct request *behind[2]; /* whom its caller wakes, once it is awake */
    enum rota_error error; /* the answer, and its words */
    char message[256];
    /* what is asked */
    const struct rota_submission *submissions;
    size_t n;
    int64_t *ids;
    int64_t id, cursor;
    struct rota_job *job;
    const char *reason;
    const char *queue; /* NULL: any */
    const char *limit_key;
    const int64_t *priority, *run_at;
    bool restart;
    enum rota_cancel_answer answer, *answers; /* to id; to each of ids */
    int64_t count, next;
};

/* Somebody who waits for a job's end, or (id 0) for any news. */
struct waiter {
    struct link on_waiters; /* under rota.lock */
    int64_t id;
    struct wake wake;
    atomic_bool durable; /* relaxed, wake publishes: the end is on the disk */
};

struct rota {
    struct rota_options options;
    struct store *store; /* the writer's */
    char *path;
    uintmax_t inode; /* of the file at path */
    bool readonly;
    struct kind *kinds;    /* read-only once started; before, under lock */
    int64_t *kind_numbers; /* the same */
    size_t n_kinds;
    bool takes_next;     /* the job to run is yet to be submitted; the role's */
    struct scope scope;  /* of our claims; set by rota_start(), under lock */
    struct ctx *run_ctx; /* of all jobs; set by rota_start() */
    struct rota_pool *pool;
    _Atomic int64_t process; /* our id in the file; 0: none. Set once */
    pthread_t writer, listener;

    pthread_mutex_t lock; /* guards all down to jobs */
    pthread_cond_t work;  /* for the writer thread */
    bool started, stopping, closing;
    bool has_writer, has_listener;
    bool writing;     /* somebody has the writer's role */
    bool poked;       /* the writer thread has something to look at */
    bool maybe_ready; /* a claim may find something */
    bool claiming;    /* a cycle has not yet published its claims */
    bool limited;     /* the end of a job may let in others */
    bool unsettled;   /* there is more for store_settle() */
    bool stepping;    /* rota_step() stands in for the workers */
    bool in_step;     /* on the thread stepper */
    pthread_t stepper;
    int64_t steps;  /* how many jobs it claims */
    bool alone;     /* what is claimed here must have no neighbour */
    bool flush_now; /* a job has got going */
    int64_t next_flush;
    int64_t retry_at;     /* not before: the store failed; 0: at once */
    int64_t linger_until; /* ends wait until then for others; 0: none do */
    enum rota_error kept_error; /* why the last end was kept in memory */
    char kept_words[256];
    int64_t active;       /* jobs claimed and not yet recorded as ended */
    int64_t unstarted;    /* of these, in the pool's queue */
    int64_t stuck;        /* of these, running, and deaf to their context */
    int64_t starts, starts_seen; /* to notice claims that get nowhere */
    int64_t prefetch;
    size_t args_bytes; /* of the active jobs' arguments */
    int64_t last_cycle;
    struct reader *idle[READERS_IDLE];
    int n_idle;
    struct link requests, waiters;
    struct link jobs[JOB_BUCKETS]; /* by id */

    _Atomic(struct rota_job *) ended; /* a stack; release push, acquire take */
    struct rota_job *unrecorded;      /* the writer's: ended, not in the file */
    int64_t log_told;                 /* the same: the log's size last told */
    bool log_full;                    /* the same, under rota.lock: no more jobs
                                       * are taken or claimed */
    struct rota_job *stepped;         /* claimed for rota_step() */
    atomic_bool unsynced;             /* commits that power loss may undo */

    pthread_mutex_t start_lock;

    struct outside *outside; /* outside.c's */
};

/* cycle.c */

/* Have request carried out, by this thread if nobody else is writing. Returns
 * its error; the words are in message_get(). No lock held. */
enum rota_error request_run(struct rota *rota, struct request *request);

/* Have the writer thread go through a cycle. No lock held. */
void writer_poke(struct rota *rota);

/* Let it look whether it is to: there may be something to claim, or a job has
 * ended, which may wait for others. By a thread that ends before the writer
 * does. */
void writer_tell(struct rota *rota);

/* Under rota.lock: the workers have jobs enough for a while. */
bool engine_is_ahead(const struct rota *rota);
/* Start the writer thread unless it runs. No lock held. */
ROTA_MUST_USE enum rota_error writer_start(struct rota *rota);

/* Under rota.lock: nobody will record what has ended but who asks for it. */
bool engine_is_left_alone(const struct rota *rota);

/* Under rota.lock: no job is claimed here, nor about to be. Whoever waits for
 * it is a waiter for any news. */
bool engine_is_quiet(const struct rota *rota);

/* run.c */

/* A claimed job as the store gives it. NULL: no memory. */
struct rota_job *job_new(struct rota *rota, const struct claim *claim);
void job_free(struct rota_job *job);
void job_run(void *job); /* a pool_fn */

/* Tell a running job of this process to stop. lease 0: whatever run. True if
 * it is here. No lock held: the job's ctx callbacks run on this thread. */
bool job_cancel(struct rota *rota, int64_t id, int64_t lease,
                const char *reason);

struct rota_job *job_find(struct rota *rota, int64_t id); /* under rota.lock */
enum rota_stop_reason job_stop_reason(const struct rota_job *job);

/* job.c */

/* What the tags of the children of process begin with. */
void process_tag(const struct rota *rota, int64_t process, char *tag,
                 size_t size);

/* control.c */

/* ROTA_INVALID, and words, if it was opened to look only, or by the process
 * that this one was forked from. */
enum rota_error writable(const struct rota *rota);

/* client.c */

/* Whether name is a text for the file; words about what if not. */
bool name_is_valid(const char *name, const char *what);
bool priority_is_valid(int64_t priority);
/* 0 is one. */
bool time_is_valid(const struct rota *rota, int64_t time, const char *what);

/* A reader for the caller alone; NULL and *error if none can be opened. Give it
 * back with reader_release(). No lock held. */
struct reader *reader_acquire(struct rota *rota, enum rota_error *error);
void reader_release(struct rota *rota, struct reader *reader);

/* outside.c */

/* Start the listener thread unless it runs. */
ROTA_MUST_USE enum rota_error outside_start(struct rota *rota);
void outside_stop(struct rota *rota);

/* Rescue the jobs of every process that has died. */
ROTA_MUST_USE enum rota_error outside_rescue(struct rota *rota);

/* engine.c */

/* What workers are started for: zero is all that is handled here. */
struct start {
    const char *queue; /* NULL: any */
    int64_t job;       /* 0: any */
    bool is_next;      /* the one that is submitted next */
    bool stepping;     /* without workers */
};
ROTA_MUST_USE enum rota_error engine_start(struct ctx *ctx, struct rota *rota,
                                           const struct start *start);

/* Unix milliseconds, as the file is to see them. Any thread. */
int64_t rota_now(const struct rota *rota);

/* True, after saying that it cannot do what, if a job of rota's calls. */
bool is_own_job(const struct rota *rota, const char *what);

void rota_say(struct rota *rota, int64_t job, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
