/*
 * The engine's data: a scheduler, its jobs, what callers ask of it; and who
 * guards each field. What is done with it, in the order to read it:
 *
 *   state.h      questions about it, under rota.lock; waking the writer
 *   writer.c     the writer's role, and its cycle
 *   gather.c     what a cycle is to do (batch.h)
 *   publish.c    what a cycle that is committed means to others
 *   job.c        a claimed job: made, found, cancelled, freed
 *   run.c        a claimed job on its worker
 *   sleepers.c   who waits for a job's end
 *   readers.c    connections to look by
 *   listener.c   the thread that learns what others did
 *   rescue.c     the jobs of processes that died
 *   retention.c  forgetting what was kept long enough
 *
 * Locks, in the order in which they may be taken: rota.start_lock, rota.lock.
 * The writer's role is above both: who has it takes rota.lock for moments, and
 * owns what is marked as the role's without it. No lock is held across the
 * store, nor while a caller's function runs, but for options.clock, which is
 * quick and makes no rota call.
 *
 * The flags, all under rota.lock:
 *
 *   flag         means                     set by            cleared by
 *   is_starting  rota_start() is on        start.c           start.c
 *   is_started   workers may claim         start.c           (stays)
 *   is_stopping  no more claims            life.c, state.c   (stays)
 *   is_damaged   the store is, and that    state.c           (stays)
 *                has been said
 *   is_closing   the threads must end      life.c            (stays)
 *   is_writing   somebody has the role     writer.c          writer.c
 *   must_write   the writer thread is to   writer_poke(),    the thread, as it
 *                go through a cycle        role_leave()      takes the role
 *   maybe_ready  a claim may find          publish.c,        gather.c, before
 *                something                 writer_offer(),   the claim looks
 *                                          start.c, writer.c
 *   is_limited   some wait for a job's     publish.c, by     publish.c
 *                end: of a limit, or of    what claims left
 *                a suspect's
 *   is_unsettled jobs are to be told of    publish.c         publish.c
 *                others' ends
 *   is_claiming  a cycle has claims that   gather.c,         publish.c,
 *                are not published         writer.c          writer.c
 *   must_flush   a job has got going       api/job.c         gather.c
 *   is_stepping  rota_step() stands in     start.c           (stays)
 *                for the workers
 *   in_step      on the thread stepper     step.c            step.c
 */
#ifndef ENGINE_H
#define ENGINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <rota/ctx.h>
#include <rota/job.h>
#include <rota/scheduler.h>

#include "base/base.h"
#include "context/wake.h"
#include "pool/pool.h"
#include "store/store.h"

/* How long the queue may lag behind a job's progress. */
#define FLUSH_EVERY ROTA_MS(500)
/* Unstarted claims kept ahead of the workers, at most. */
#define PREFETCH_MAX 1024
/* None are kept ahead beyond so many bytes of arguments. */
#define PREFETCH_BYTES (64 << 20)
/* The latest time that is stored, Unix milliseconds. What is less than
 * FIRST_TIME, which was in March 1973, is taken for seconds, except by a clock
 * of a test that is not there yet. */
#define LAST_TIME  INT64_C(99999999999999)
#define FIRST_TIME INT64_C(100000000000)
/* How many jobs are cancelled, or forgotten, in one transaction. */
#define CHUNK_MAX 500
/* Connections for reading that are kept when nobody needs them. */
#define READERS_IDLE 4
/* How long a job may ignore that its context has ended, unless its kind says
 * otherwise, before it is called stuck. */
#define GRACE ROTA_SEC(10)

/* A kind of job that is handled here. */
struct kind {
    struct kind *next;
    char *name;
    rota_job_fn *fn;
    void *arg;
    struct rota_defaults defaults;
    int64_t
        number; /* in the store; set before rota.is_started, then read-only */
};

/* -- A claimed job -------------------------------------------------------- */

enum job_place {
    JOB_CLAIMED,  /* in the pool's queue */
    JOB_RUNNING,  /* in its function */
    JOB_RELEASED, /* to be given back; its worker must not start it */
    JOB_ENDED     /* on its way to the store */
};

struct rota_job {
    struct rota *rota;
    const struct kind *kind;
    struct claim claim;
    struct link on_bucket; /* rota.jobs, under rota.lock */
    enum job_place place;  /* under rota.lock */
    bool is_in_pool;       /* the same: a worker will come to it */
    bool is_recorded;      /* the same: freed when neither needs it */
    struct ctx *ctx;       /* while running; set under rota.lock */
    char *cancel_reason;   /* under rota.lock until it ended */
    int64_t delivered_at;  /* the same; when the cancel reached us, or 0 */
    /* why ctx has ended: set before it is, relaxed, as ctx publishes them */
    atomic_bool is_cancelled, is_lost;
    int64_t deadline; /* of ctx by itself, monotonic */
    int max_attempts; /* the submission's, or the kind's */
    int64_t timeout;  /* the same, in nanoseconds; 0: none */
    /* by the job, read by the writer; relaxed: each orders nothing but itself
     */
    _Atomic int64_t cursor;
    _Atomic int64_t total;         /* -1: unknown */
    _Atomic int64_t base, base_at; /* where this run took up, and when */
    _Atomic int64_t started_at;    /* Unix milliseconds; 0: not started */
    bool has_advanced; /* the job's own: its first advance was announced */
    /* whether it ignores that ctx has ended; under rota.lock */
    int64_t end_seen_at; /* the writer saw it, monotonic; 0: not yet */
    int64_t report_at;   /* when that is to be told of next */
    int64_t stuck_since; /* Unix milliseconds; 0: it is not stuck */
    /* what the store has of it; the role's */
    int64_t flushed_cursor, flushed_total, flushed_stuck;
    bool flushed_start;
    /* what the run came to; the worker's until it ended, then the role's. What
     * it points to is the job's */
    struct ending ending;
    int64_t snooze_ms;
    char *message;
    void *result;
    size_t result_size;
    /* the job's databases, its own */
    struct target *targets;   /* that it opened */
    struct sqlite3 **resumed; /* that it may step on */
    size_t n_resumed, resumed_room;
};

#define JOB_BUCKETS 256

/* -- Who asks, and who waits ---------------------------------------------- */

/* A caller's wish, on its stack, and how it is answered. Under rota.lock while
 * it is on rota.requests (by wish.on_wishes); then the role's, until its caller
 * is woken. */
struct request {
    struct wish wish;
    bool claims;      /* it is for a claim too, and so is its answer */
    bool is_answered; /* the role's; wake publishes it */
    bool has_role;    /* the same: it is its caller's */
    struct wake wake;
    struct request *behind[2]; /* whom its caller wakes, once it is awake */
};

/* Somebody who sleeps until a job ends, or (id 0) until any news. */
struct sleeper {
    struct link on_sleepers; /* under rota.lock */
    int64_t id;
    struct wake wake;
    atomic_bool is_durable; /* relaxed, wake publishes: the end survives power
                             * loss */
};

/* -- The scheduler -------------------------------------------------------- */

struct rota {
    /* set by rota_open(), then read-only */
    struct rota_options options;
    bool is_readonly;
    struct store *store; /* store_cycle() is the role's */
    const struct store_identity *identity;

    /* under start_lock: the threads that are started when first needed */
    pthread_mutex_t start_lock;
    pthread_t writer;   /* if has_writer */
    pthread_t listener; /* if has_listener */
    struct listener *hearing;
    bool has_listener;

    pthread_mutex_t lock; /* guards all down to requests */
    pthread_cond_t work;  /* for the writer thread */
    bool is_starting, is_started, is_stopping, is_closing, is_damaged;
    bool is_writing, must_write, maybe_ready, is_limited, is_unsettled;
    bool is_claiming, must_flush, is_stepping, in_step;
    bool has_writer; /* set under start_lock too */
    pthread_t stepper;
    struct kind *kinds; /* the list, those that are isolated first; each is
                         * read-only once started */
    size_t n_kinds;
    /* set before is_started, then read-only */
    int64_t *kind_numbers;
    struct rota_pool *pool; /* NULL if is_stepping */
    struct scope scope;     /* of our claims; its job may become known later */
    struct ctx *run_ctx;    /* of all jobs; a step's while it lasts */

    int64_t active;       /* jobs claimed and not yet recorded as ended */
    struct aboard aboard; /* of these, whom a death of this process concerns */
    int64_t unstarted;    /* of the active ones, in the pool's queue */
    int64_t stuck;        /* the same, running, and their context has ended long
                           * ago */
    size_t args_bytes;    /* of the active jobs' arguments */
    int64_t steps;        /* how many jobs a step's cycle claims */
    struct rota_job *stepped; /* that it has claimed */
    bool was_short;   /* a job was given back for want of memory to run it */
    int64_t prefetch; /* how many are claimed ahead of the workers */
    int64_t starts, starts_seen; /* to notice claims that get nowhere */
    int64_t last_end_cycle;      /* monotonic, as the next three */
    int64_t next_flush;
    int64_t retry_at;     /* not before: the store failed; 0: at once */
    int64_t linger_until; /* ends wait until then for others; 0: none do */
    enum rota_error kept_error; /* why the last end was kept in memory */
    char kept_words[256];
    struct reader *idle[READERS_IDLE];
    int n_idle;
    struct link sleepers;
    struct link jobs[JOB_BUCKETS]; /* by id */
    struct link requests;

    _Atomic int64_t process; /* our id in the store; 0: none. Set once, relaxed:
                              * is_started publishes it to those that need it */
    atomic_bool has_been_short;     /* a job waited for room, and that was said;
                                     * relaxed, as it orders nothing */
    _Atomic(struct ending *) ended; /* a stack; release push, acquire take */

    /* the role's */
    struct ending *unrecorded; /* ended, and not in the store */
    struct rota_job *spares;   /* memory for the next claims, by ending.next */
    size_t n_spares;
    struct claim *claims;      /* room for what a cycle claims, */
    struct rota_job **claimed; /* and for the jobs made from it */
    size_t claims_room, claimed_room;
};

#endif
