/*
 * The outcome rules: where a run's end, or its process's death, leads its job.
 * Pure: the answer follows from what is given, nothing is read or written.
 * Every kind of store decides by it, so that a job's life is the same in all.
 * Any thread.
 */
#ifndef OUTCOME_H
#define OUTCOME_H

#include <stdbool.h>
#include <stdint.h>

#include <rota/job.h>
#include <rota/scheduler.h>

#include "store/suspicion.h"

/* How a run ended. */
enum run_end {
    END_OK,        /* it returned ROTA_OK */
    END_TIMED_OUT, /* its context's error, at its deadline or timeout */
    END_SHUT_DOWN, /* the same, as its process stops */
    END_STOPPED,   /* the same, for another reason, or a context of its own */
    END_SNOOZED,
    END_FATAL,
    END_FAILED,    /* any other error */
    END_UNSTARTED, /* it was claimed, and its function not called */
    END_DIED,      /* with its process */
    RUN_ENDS
};

/* Which of them it is, by what the job returned and why its context had ended.
 */
enum run_end run_end_of(enum rota_error error, enum rota_stop_reason stop,
                        bool never_started);

/* How the job stands as its run ends. */
struct standing {
    bool is_cancelled; /* a cancel was asked for */
    bool is_late;      /* its deadline has passed */
    int64_t failures;  /* charged before this run */
    int64_t max_attempts;
    int64_t crashes;  /* deaths in a row before this run; 0 if it has got
                       * further since */
    bool is_isolated; /* its kind is (suspicion.h) */
    bool was_alone;   /* its process died, and of those that run inside it was
                       * the only one */
};

/* Whose words say why. */
enum cause {
    CAUSE_OWN,         /* the job's own, if it had any */
    CAUSE_ERROR,       /* the same; else the code's */
    CAUSE_ERROR_LATE,  /* the same, and that its deadline has passed */
    CAUSE_CANCEL,      /* of who asked for the cancel */
    CAUSE_LATE_CANCEL, /* the same, if anybody did */
    CAUSE_DEADLINE,    /* the job's own; else that its deadline has passed */
    CAUSE_DEATH,       /* that its process died */
    CAUSE_POISON       /* that this happened too often */
};

struct outcome {
    enum rota_state state; /* ROTA_READY, ROTA_SCHEDULED or an end */
    enum rota_error code;  /* what is recorded of this run */
    enum cause cause;      /* of the end, or of the return */
    const char *attempt;   /* of a return: what the run's history calls it;
                            * NULL: it leaves none there */
    int64_t run_at;        /* of a return: when again, Unix ms; 0: unchanged */
    int64_t failures, crashes; /* from here on */
};

/* error is what the job returned. now is Unix milliseconds; random, any number,
 * spreads retries, so that jobs which failed together do not return so. */
struct outcome outcome_of(enum run_end end, enum rota_error error,
                          int64_t snooze_ms, const struct standing *standing,
                          int64_t now, uint32_t random);

/* -- The table, for its test ----------------------------------------------- */

/* Conditions of a rule. */
#define IF_CANCELLED (1U << 0)
#define IF_LATE      (1U << 1)
#define IF_POISON    (1U << 2) /* this death is one too many, and its own */
#define IF_SPENT     (1U << 3) /* this failure takes the last attempt */
#define IF_ALL       15U

/* When the job is to run again. */
enum again { AGAIN_UNCHANGED, AGAIN_SNOOZED, AGAIN_LATER };

struct outcome_rule {
    unsigned ends;  /* a bit for each enum run_end that it is for */
    unsigned needs; /* the conditions that it asks for */
    enum rota_state state;
    int code; /* enum rota_error; CODE_OWN, CODE_STOPPED */
    enum cause cause;
    const char *attempt;
    enum again again;
    bool is_charged;
};
#define CODE_OWN     (-1) /* the job's, where a timeout is ROTA_TIMEOUT */
#define CODE_STOPPED (-2) /* the job's, where a stop is ROTA_CANCELED */

/* Top down: the first that fits decides, and the last fits all. */
extern const struct outcome_rule outcome_rules[];
extern const int n_outcome_rules;

/* The number of the rule that decides. */
int outcome_rule_of(enum run_end end, unsigned conditions);

#endif
