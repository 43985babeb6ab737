/*
 * The work of one cycle, as the engine hands it to a store: what has ended,
 * what callers wish, how far running jobs have got, and how many may be
 * claimed. store_cycle() carries all of it out in one transaction and fills in
 * the answers. Data only; it belongs to whoever holds the writer's role, and no
 * lock guards it.
 *
 * What is asked and what is answered stand apart in each struct. Times are Unix
 * milliseconds; 0 is none, except where a field says otherwise. Texts and
 * arrays are the asker's, and must live until the cycle returns.
 */
#ifndef WORK_H
#define WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rota/job.h>
#include <rota/scheduler.h>

#include "base/base.h"
#include "store/suspicion.h"

/* -- What a run came to --------------------------------------------------- */

/* How far a run has got. */
struct progress {
    int64_t id, lease;
    int64_t started_at, stuck_since;
    int64_t cursor, total; /* total: -1 is unknown */
    int64_t base, base_at; /* where and when this run took up, for the rate */
    /* the answer: a later run has taken over, and nothing was written */
    bool is_lost;
};

/* A run that has ended, or a claim that is given back. */
struct ending {
    struct ending *next; /* of the same work */
    int64_t id, lease;
    int64_t process;                  /* that ran it */
    int64_t started_at, delivered_at; /* of the run; of a cancel */
    enum rota_error error;            /* what the job returned */
    enum rota_stop_reason stop;       /* why its context had ended */
    bool never_started;               /* the function was not called */
    int64_t failures;  /* charged before this run, as the claim said */
    int max_attempts;  /* the submission's, or the kind's */
    int64_t snooze_ms; /* of ROTA_SNOOZE */
    bool has_progress; /* progress is news */
    struct progress progress;
    const char *reason;  /* of a cancel that the store may not know; or NULL */
    const char *message; /* the job's words, or NULL */
    const void *result;  /* or NULL */
    size_t result_size;
    /* the answers */
    enum rota_state state; /* where the job went */
    bool is_lost; /* a later run has taken over, and nothing was written */
};

/* -- What callers wish ---------------------------------------------------- */

enum wish_kind {
    WISH_SUBMIT, /* new -> ready, scheduled or blocked */
    WISH_CANCEL, /* the command of that name; and so on */
    WISH_CANCEL_MANY,
    WISH_RETRY,
    WISH_RESCHEDULE,
    WISH_PAUSE, /* or resume */
    WISH_LIMIT,
    WISH_RETAIN,
    WISH_PRUNE,
    WISH_COMMIT, /* a run's progress, durably */
    WISH_SYNC,   /* that all that was written before survives power loss */
    WISH_CHORES, /* what time brings: due jobs, deadlines */
    WISH_RESCUE, /* the jobs of a process that died */
    WISH_JOIN,   /* a process begins to run jobs */
    WISH_LEAVE   /* and ends; its jobs have come back */
};

/* A kind of job that a process knows, and how its jobs are run unless their
 * submissions say otherwise. */
struct joined_kind {
    const char *name;
    int max_attempts;
    int64_t timeout_ms;
    bool is_isolated; /* suspicion.h */
    int64_t number;   /* the answer */
};

/*
 * A wish. kind says which member counts. error, and message with its words, is
 * an answer to this wish alone: nothing was done for it, and the rest of the
 * work went on. It is ROTA_OK or
 *
 *   ROTA_NOTFOUND  a job or queue that it names is not there
 *   ROTA_EXISTS    another job has the unique key (ids[0], of a submit);
 *                  another process owns the queue (of a join)
 *   ROTA_INVALID   the job does not wait (reschedule), has not ended (retry)
 *   ROTA_LOST      a later run has taken over (commit)
 *   ROTA_FULL      the store takes no more jobs for now (submit)
 */
struct wish {
    struct link on_wishes;
    enum wish_kind kind;
    enum rota_error error;
    char message[256];
    union {
        struct { /* checked already; all of them or none */
            const struct rota_submission *submissions;
            size_t n;
            int64_t *ids; /* answers, room for n */
        } submit;
        struct {
            int64_t job;
            const char *reason; /* or NULL */
            enum rota_cancel_answer answer;
        } cancel;
        struct { /* a job that is not there is too late for */
            const int64_t *jobs;
            size_t n;
            const char *reason;
            enum rota_cancel_answer *answers; /* room for n */
        } cancel_many;
        struct {
            int64_t job;
            bool restarts; /* from the beginning, not from its cursor */
        } retry;
        struct {
            int64_t job;
            const int64_t *priority, *run_at; /* NULL: as it is */
        } reschedule;
        struct {
            const char *queue;
            bool pauses; /* or resumes */
        } pause;
        struct {
            const char *queue, *key; /* one of them is NULL */
            int64_t max_running;     /* 0: any number */
        } limit;
        struct {
            const char *queue;
            int64_t time_ms; /* 0: for ever */
        } retain;
        struct { /* those that have ended before, and that nobody waits for */
            const int64_t *jobs;
            size_t n;
            int64_t before;
            int64_t count; /* answer: how many are gone */
        } prune;
        struct progress commit;
        struct {
            int64_t next; /* answer: when there is more; INT64_MAX: never */
        } chores;
        struct { /* nothing happens if it lives, or was rescued before */
            int64_t process;
            int64_t jobs; /* answer: how many it was running */
        } rescue;
        struct {
            struct joined_kind *kinds;
            size_t n_kinds;
            const char *queue; /* its own, that no other claims in; or NULL */
            int threads;
            int64_t process, queue_number; /* answers */
        } join;
        struct {
            int64_t process;
        } leave;
    };
};

/* -- What may be claimed -------------------------------------------------- */

/* Which jobs a process runs. */
struct scope {
    int64_t process;      /* who it is; 0: nobody, who claims nothing */
    const int64_t *kinds; /* of these kinds */
    size_t n_kinds;
    size_t n_isolated; /* the first so many of them are isolated */
    int64_t queue;     /* in this queue; 0: in any */
    int64_t job;       /* this one; 0: all of those; or SCOPE_NEXT */
};
/* The job that is submitted next, whichever it will be. The first one that a
 * work submits becomes it, and is claimed in the same cycle, before anybody
 * else can see it. */
#define SCOPE_NEXT (-1)

/* A job as it is claimed. */
struct claim {
    int64_t id, lease, kind;
    int64_t run_at, created_at, deadline_at;
    int64_t timeout_ms; /* 0: the kind's */
    int max_attempts;   /* 0: the kind's */
    int64_t failures;
    int64_t crashes;
    enum suspicion suspicion;
    int64_t cursor, total;
    int64_t restart; /* runs up to this lease are forgotten */
    bool has_args;   /* or none, which are no bytes */
    void *args;      /* malloc'd, a NUL after it; the asker's */
    size_t args_size;
    enum rota_error args_error; /* why they could not be read: args is NULL */
};

/* What a claim has left. */
enum claim_rest {
    CLAIM_NOTHING, /* that is not claimed, or becomes ready */
    CLAIM_LIMITED, /* some that may be claimed when a job ends */
    CLAIM_MORE     /* some that may be claimed at once */
};

/* -- The work ------------------------------------------------------------- */

struct work {
    struct ending *endings; /* oldest first */
    struct link wishes;     /* wish.on_wishes, in their order */
    struct progress *progress;
    size_t n_progress;
    bool is_durable; /* it is to survive power loss, and all before it */
    struct scope scope;
    struct claim *claims; /* room for claim_limit */
    size_t claim_limit;   /* how many jobs may be claimed */
    bool may_be_ready;    /* some may be, whatever this work brings */
    bool is_unsettled;    /* what the last work answered; answered anew: more
                           * jobs are to be told of others' ends */
    struct aboard aboard; /* what runs in the scope's process, but for what
                           * ends by this work */
    /* the answers */
    bool has_begun;       /* the store was to be had: what failed then is the
                           * work, and one part of it may go where all do not */
    bool is_gone;         /* what is open is no longer the queue that its name
                           * means, or is damaged: nothing can be recorded in
                           * it */
    size_t n_claims;      /* in their order */
    bool has_looked;      /* for jobs to claim: */
    enum claim_rest rest; /* what it left. CLAIM_MORE counts in any case */
};

#endif
