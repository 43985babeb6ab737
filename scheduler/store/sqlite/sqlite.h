/*
 * The writing connection, as the files of scheduler/store/ share it. One
 * thread at a time, except where a field says otherwise.
 */
#ifndef PRIVATE_H
#define PRIVATE_H

#include "store/sqlite/connection.h"
#include "store/sqlite/yield.h"
#include "store/sqlite/lockfile.h"
#include "store/store.h"

/* A name that is a number in the file. They are few, and never renumbered. */
struct name {
    char *text;
    int64_t number;
    int64_t ageing_ms;  /* of a queue */
    int64_t timeout_ms; /* of a kind; 0: none */
    int max_attempts;   /* of a kind */
};

struct names {
    struct name *all;
    size_t n, room;
};

/* A job that may be claimed, and its key in _ready. */
struct candidate {
    struct claim claim;
    int64_t queue, sort_key;
    char *limit_key; /* malloc'd; NULL: none */
    bool is_arrival; /* it has no row in _ready (arrive.c) */
};

struct candidates {
    struct candidate *all;
    size_t n, room;
};

/* What a claim in this transaction will be for, and jobs that wait for it. */
struct arrivals {
    struct candidates jobs;
    const struct scope *scope;
    size_t limit;  /* how many to keep; 0: no claim is expected */
    int64_t queue; /* what is_open is about; 0: none yet */
    bool is_open;
};

struct store {
    struct connection connection;
    struct lockfile *lockfile;
    struct courtesy courtesy;
    char instance[64];
    struct names kinds, queues, batches;
    int64_t now;          /* of this transaction, Unix milliseconds */
    struct ids {          /* that are reserved in this transaction */
        int64_t first, last; /* none are left if first > last */
        int64_t reserve;  /* how many to reserve next */
        int64_t taken, usual; /* in this one, in the last that took any */
    } ids;
    int wal_frames;       /* in the WAL after the last commit */
    int checkpoint_at;    /* frames at which the next checkpoint is due */
    int64_t retry_at;     /* or when, 0: the last one did not get to the end */
    bool durable;         /* what PRAGMA synchronous says now */
    int64_t data_version; /* as of the last store_begin() */
    bool made_ready;      /* this transaction has made jobs ready */
    struct arrivals arrivals; /* of this transaction */
    int64_t began_process; /* it has begun this process; 0: none */
    store_clock_fn *clock; /* NULL: the machine's */
    void *clock_arg;
};

/* The statements, in statements.c. */
enum statement {
    RESERVE_IDS,
    RETURN_IDS,
    INSERT_KIND,
    FIND_KIND,
    SET_KIND_DEFAULTS,
    INSERT_QUEUE,
    FIND_QUEUE,
    INSERT_BATCH,
    FIND_BATCH,
    INSERT_JOB,
    INSERT_READY,
    INSERT_SCHEDULED,
    INSERT_BLOCKED,
    INSERT_HELD,
    SAVEPOINT,
    ROLLBACK_TO,
    RELEASE,
    UNIQUE_JOB,
    INSERT_UNIQUE,
    INSERT_DEADLINE,
    JOB_EXISTS,
    INSERT_DEP,
    TIE_JOB,
    SETTLE_LATECOMER,
    SETTLE_LATE_CHILD,
    HAS_UNMET,
    QUEUE_IS_OPEN,
    NEXT_LANE,
    LANE_JOBS,
    ONE_LANE,
    ONE_JOB,
    DELETE_READY,
    INSERT_RUNNING,
    KEY_ROOM,
    HELD_PLACE,
    KEY_OF_JOB,
    NEXT_HELD_LANE,
    HELD_JOBS,
    DELETE_HELD,
    EXPIRE_READY,
    FIND_RUNNING,
    INSERT_DONE,
    TELL_OF_END,
    DELETE_RUNNING,
    DELETE_PLAIN_RUNNING,
    GIVE_BACK,
    READY_AGAIN,
    SCHEDULED_AGAIN,
    RECORD_ATTEMPT,
    RECORD_PROGRESS,
    RECORD_START,
    DUE_JOBS,
    DELETE_SCHEDULED,
    DUE_DEADLINES,
    DELETE_DEADLINE,
    LEAVE_READY,
    LEAVE_HELD,
    LEAVE_SCHEDULED,
    LEAVE_BLOCKED,
    NEXT_DUE,
    NEXT_SETTLE,
    SETTLE_FURTHER,
    SETTLE_OVER,
    AWAITING_JOBS,
    CHILDREN_JOBS,
    MEET_DEP,
    UNBLOCK,
    SKIP_JOB,
    WAS_SKIPPED,
    KEEP_TIME,
    PRUNE_DONE,
    PRUNE_PROGRESS,
    PRUNE_ATTEMPTS,
    PRUNE_PARENTS,
    PRUNE_CHILDREN,
    PRUNE_SETTLE,
    PRUNE_BATCH,
    PRUNE_JOB,
    COMMAND_CANCEL,
    COMMAND_RETRY,
    COMMAND_RESCHEDULE,
    COMMAND_SET_LIMIT,
    COMMAND_RETAIN,
    COMMAND_PAUSE,
    COMMAND_RESUME,
    QUEUE_EXISTS,
    JOB_STANDING,
    INSERT_PROCESS,
    END_PROCESS,
    PROCESS_IS_OPEN,
    OWN_QUEUE,
    HANDLE_KIND,
    FORGET_KINDS,
    DISOWN_QUEUES,
    OWNER_OF_QUEUE,
    JOBS_OF_PROCESS,
    TOUCH,
    DATA_VERSION,
    USER_VERSION,
    BEGIN_IMMEDIATE,
    COMMIT,
    ROLLBACK,
    STATEMENTS
};
extern const char *const store_statements[STATEMENTS];

/* Those that only look (reader.c); NULL ends them. */
extern const char *const reader_questions[];

/* Statement n, or NULL and *error set. */
sqlite3_stmt *store_statement(struct store *store, enum statement n,
                              enum rota_error *error);

/* Bind integers to ?1, ?2, ... and run; *ret_changed as connection_run(). */
ROTA_MUST_USE enum rota_error store_run(struct store *store, enum statement n,
                                        int64_t *ret_changed, int count,
                                        const int64_t *values);
#define RUN(store, n, ret_changed, ...)                                        \
    store_run(store, n, ret_changed,                                           \
              (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),       \
              (const int64_t[]){__VA_ARGS__})

/* Bind value, or NULL if it is not positive. */
void bind_positive(sqlite3_stmt *statement, int at, int64_t value);

/* Bind as TEXT if it may be, else as BLOB; NULL if data is. Not copied. */
void bind_data(sqlite3_stmt *statement, int at, const void *data, size_t size,
               bool blob);

/* Names must be asked for anew. */
void names_forget(struct store *store);

/* Bind value as TEXT, or NULL. Not copied. */
void bind_text(sqlite3_stmt *statement, int at, const char *text);

/* arrive.c */

/* Add a job that may be claimed, with a copy of args. */
ROTA_MUST_USE enum rota_error candidate_add(struct candidates *candidates,
                                            const struct candidate *candidate,
                                            const void *args, size_t size);
void candidates_clear(struct candidates *candidates);

/* Line up those of them that are not yet. */
ROTA_MUST_USE enum rota_error
candidates_line_up(struct store *store, const struct candidates *candidates);

/* Keep the new job for the claim that is expected, unless it must be lined up
 * like any: *ret_kept. */
ROTA_MUST_USE enum rota_error
arrival_keep(struct store *store, const struct rota_submission *submission,
             const struct candidate *job, bool *ret_kept);

/* The claim has come: move what was kept to its candidates. */
ROTA_MUST_USE enum rota_error arrivals_join(struct store *store,
                                            struct candidates *candidates);

/* The transaction is over. */
void arrivals_forget(struct store *store);

/* Put the job where it waits to be run, by its time. */
ROTA_MUST_USE enum rota_error job_line_up(struct store *store, int64_t id);

/* It is due: likewise. */
ROTA_MUST_USE enum rota_error job_make_ready(struct store *store, int64_t id);

/* Take the job out of wherever it waits. *ret_waited: it was there. */
ROTA_MUST_USE enum rota_error job_leave_line(struct store *store, int64_t id,
                                             bool *ret_waited);

/* Its deadline has passed, and it has left the line: it fails. */
ROTA_MUST_USE enum rota_error job_expire(struct store *store, int64_t id);

/* How many more jobs with key may run. */
ROTA_MUST_USE enum rota_error key_room(struct store *store, const char *key,
                                       int64_t *ret_room);

/* Hold a ready job. */
ROTA_MUST_USE enum rota_error key_hold(struct store *store, const char *key,
                                       int64_t queue, int64_t kind,
                                       int64_t sort_key, int64_t id);

/* A run with this key has ended: bring back as many of those that are held for
 * it as there is room for. NULL: no key. */
ROTA_MUST_USE enum rota_error key_release(struct store *store, const char *key);

/* If it is held and its key has room, have this one be ready: of others nobody
 * may want those that are before it. */
ROTA_MUST_USE enum rota_error key_release_one(struct store *store, int64_t id);

/* A job that waited will not be run, and has left the line: likewise. */
ROTA_MUST_USE enum rota_error key_release_after(struct store *store,
                                                int64_t id);

/* Whether nobody has recorded the end of process yet. */
ROTA_MUST_USE enum rota_error process_is_open(struct store *store,
                                              int64_t process, bool *ret_open);
ROTA_MUST_USE enum rota_error process_end(struct store *store, int64_t process,
                                          const char *how);

#endif
