/*
 * The storm: processes that work on one queue, submit to it, cancel and retry,
 * until they are killed, and the ledger of what they did, in memory that
 * outlives them. test_storm.c starts them, kills them and compares the ledger
 * with the file.
 *
 * An entry is written by one process, which may die at any instruction: its
 * begun, and its ended, are written after all that they stand for. The test
 * reads the entries of those that are dead. Times are of the ledger's
 * own clock, so that before and after mean just that: no two are equal.
 */
#ifndef STORM_H
#define STORM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <rota/error.h>

#define STORM_PROCESSES 8192
#define STORM_CALLS     500000
#define STORM_RUNS      1000000
#define STORM_KEYS      2 /* limit keys, of 1 each */

/* Descriptors that a role begins with. */
#define STORM_GO_FD     3 /* a byte comes from here when it may get going */
#define STORM_BEGUN_FD  4 /* and goes here when it is about to */
#define STORM_LEDGER_FD 5

enum call_kind {
    CALL_SUBMIT,
    CALL_CANCEL,       /* answer is enum rota_cancel_answer */
    CALL_CANCEL_BLIND, /* by plain SQL, which gives none */
    CALL_RETRY,
    CALL_WAIT /* answer is enum rota_state */
};

struct call {
    enum call_kind kind;
    bool tied;  /* what it submits has a parent, or comes after another */
    int64_t n;  /* how many it submits */
    int64_t id; /* of what job; of the first that it has submitted */
    enum rota_error error; /* what came of it */
    int answer;
    _Atomic int64_t begun, ended; /* 0: not yet. Acknowledged is ended */
};

struct run {
    int64_t job, lease, key, process;
    int64_t cursor;            /* where it took up */
    _Atomic int64_t committed; /* how far it was told that it is durable */
    enum rota_error answer;    /* what it returned */
    _Atomic int64_t begun, ended;
};

struct ledger {
    _Atomic int64_t clock, n_calls, n_runs;
    _Atomic int64_t last_id; /* of the jobs that were acknowledged */
    _Atomic int64_t killed[STORM_PROCESSES]; /* a time before it was */
    struct call calls[STORM_CALLS]; /* a job's args begin with 1 + its call */
    struct run runs[STORM_RUNS];
};

/* What time it is, later than all before. Any thread or process. */
int64_t ledger_now(struct ledger *ledger);

/* Be what argv says, --ROLE QUEUE PROCESS SEED: worker, client, shell, each
 * until it is killed, or drain. main()'s result. */
int storm_play(char *const *argv);

/* -- The test's ------------------------------------------------------------ */

extern struct storm {
    char queue[128];
    struct ledger *ledger;
    unsigned seed;
    int rounds; /* that have begun */
    /* as of the last check */
    int64_t jobs; /* the highest id */
    int64_t acknowledged, runs;
} storm;

/* As ck_assert_msg(), for what is asked a million times. */
#define HOLDS(condition, format, ...)                                        \
    do {                                                                     \
        if (!(condition))                                                    \
            ck_abort_msg("ROTA_TEST_SEED=%u, round %d: not %s: " format,     \
                         storm.seed, storm.rounds, #condition, __VA_ARGS__); \
    } while (0)

/* Hold the file against the ledger, all of whose processes are dead; closely:
 * by looks that take long, too. */
void storm_check(bool closely);

/* After that, and when all there is has been run: what has ended has a reason,
 * and all has but what waits for what never will. */
void storm_check_ends(void);

#endif
