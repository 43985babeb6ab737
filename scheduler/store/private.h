/*
 * The writing connection, as the files of scheduler/store/ share it. One
 * thread at a time, except where a field says otherwise.
 */
#ifndef PRIVATE_H
#define PRIVATE_H

#include "store/connection.h"
#include "store/lockfile.h"
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

struct store {
    struct connection connection;
    struct lockfile *lockfile; /* NULL if read-only */
    char instance[64];
    struct names kinds, queues, batches;
    int64_t now;          /* of this transaction, Unix milliseconds */
    int64_t first_id;     /* ids reserved in this transaction: first_id to */
    int64_t last_id;      /* last_id; none left if first_id > last_id */
    int wal_frames;       /* in the WAL after the last commit */
    int checkpoint_at;    /* frames at which the next checkpoint is due */
    bool durable;         /* what PRAGMA synchronous says now */
    int64_t data_version; /* as of the last store_begin() */
    int64_t reserve;      /* how many ids to reserve next */
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
    NEXT_LANE,
    LANE_JOBS,
    ONE_JOB,
    DELETE_READY,
    INSERT_RUNNING,
    EXPIRE_READY,
    FIND_RUNNING,
    INSERT_DONE,
    DELETE_RUNNING,
    GIVE_BACK,
    READY_AGAIN,
    SCHEDULED_AGAIN,
    RECORD_ATTEMPT,
    RECORD_PROGRESS,
    RECORD_START,
    DUE_JOBS,
    DELETE_SCHEDULED,
    NEXT_DUE,
    COMMAND_CANCEL,
    COMMAND_RETRY,
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
    BEGIN_IMMEDIATE,
    COMMIT,
    STATEMENTS
};
extern const char *const store_statements[STATEMENTS];

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

/* Whether nobody has recorded the end of process yet. */
ROTA_MUST_USE enum rota_error process_is_open(struct store *store,
                                              int64_t process, bool *ret_open);
ROTA_MUST_USE enum rota_error process_end(struct store *store, int64_t process,
                                          const char *how);

#endif
