#include "store/outcome.h"

#include "base/base.h"

/* -- The rules ------------------------------------------------------------ */

#define E(end) (1U << (end))
#define ANY    (E(RUN_ENDS) - 1U)
#define STOPS  (E(END_TIMED_OUT) | E(END_SHUT_DOWN) | E(END_STOPPED))
/* Ends that are no failure of the job's own. */
#define MILD (STOPS | E(END_SNOOZED) | E(END_UNSTARTED) | E(END_DIED))

/* clang-format off */
const struct outcome_rule outcome_rules[] = {
    /* success is success, even if a cancel came too late */
    {E(END_OK), 0,
     ROTA_SUCCEEDED, ROTA_OK, CAUSE_LATE_CANCEL, NULL, AGAIN_UNCHANGED, false},
    /* what was to be cancelled and did anything but succeed was cancelled */
    {ANY, IF_CANCELLED,
     ROTA_CANCELLED, CODE_STOPPED, CAUSE_CANCEL, NULL, AGAIN_UNCHANGED, false},
    /* past its deadline nothing is run again */
    {MILD, IF_LATE,
     ROTA_JOB_FAILED, ROTA_DEADLINE, CAUSE_DEADLINE, NULL, AGAIN_UNCHANGED,
     false},
    {E(END_DIED), IF_POISON,
     ROTA_JOB_FAILED, ROTA_FATAL, CAUSE_POISON, NULL, AGAIN_UNCHANGED, false},
    {E(END_DIED), 0,
     ROTA_READY, ROTA_LOST, CAUSE_DEATH, "crashed", AGAIN_UNCHANGED, false},
    /* it comes back as if it had never been claimed */
    {E(END_UNSTARTED), 0,
     ROTA_READY, ROTA_OK, CAUSE_OWN, NULL, AGAIN_UNCHANGED, false},
    {E(END_SHUT_DOWN), 0,
     ROTA_READY, ROTA_OK, CAUSE_OWN, "interrupted", AGAIN_UNCHANGED, false},
    {E(END_SNOOZED), 0,
     ROTA_SCHEDULED, ROTA_OK, CAUSE_OWN, "snoozed", AGAIN_SNOOZED, false},
    /* all that is left are failures, and each is charged */
    {E(END_FATAL), 0,
     ROTA_JOB_FAILED, CODE_OWN, CAUSE_ERROR, NULL, AGAIN_UNCHANGED, true},
    {ANY, IF_SPENT,
     ROTA_JOB_FAILED, CODE_OWN, CAUSE_ERROR, NULL, AGAIN_UNCHANGED, true},
    {ANY, IF_LATE,
     ROTA_JOB_FAILED, CODE_OWN, CAUSE_ERROR_LATE, NULL, AGAIN_UNCHANGED, true},
    {ANY, 0,
     ROTA_SCHEDULED, CODE_OWN, CAUSE_ERROR, "failed", AGAIN_LATER, true},
};
/* clang-format on */

const int n_outcome_rules =
    (int)(sizeof(outcome_rules) / sizeof(outcome_rules[0]));

int
outcome_rule_of(enum run_end end, unsigned conditions)
{
    int n = 0;

    while ((outcome_rules[n].ends & E(end)) == 0 ||
           (outcome_rules[n].needs & ~conditions) != 0)
        n++; /* the last one fits */
    return n;
}

/* -- How it ended --------------------------------------------------------- */

enum run_end
run_end_of(enum rota_error error, enum rota_stop_reason stop,
           bool never_started)
{
    if (never_started)
        return END_UNSTARTED;
    if (error == ROTA_OK)
        return END_OK;
    if (error == ROTA_SNOOZE)
        return END_SNOOZED;
    if (error == ROTA_FATAL)
        return END_FATAL;
    if (error != ROTA_CANCELED && error != ROTA_DEADLINE)
        return END_FAILED;
    return stop == ROTA_STOP_DEADLINE   ? END_TIMED_OUT
           : stop == ROTA_STOP_SHUTDOWN ? END_SHUT_DOWN
                                        : END_STOPPED;
}

/* -- What it comes to ----------------------------------------------------- */

static enum rota_error
code_of(int code, enum run_end end, enum rota_error error)
{
    if (code >= 0)
        return (enum rota_error)code;
    if (code == CODE_OWN)
        return end == END_TIMED_OUT ? ROTA_TIMEOUT : error;
    return (E(end) & (STOPS | E(END_UNSTARTED) | E(END_DIED))) != 0
               ? ROTA_CANCELED
               : error;
}

/* When a job that has failed so often runs again: after 1 s, 2 s, 4 s ... an
 * hour, give or take a quarter. */
static int64_t
retry_at(int64_t failures, int64_t now, uint32_t random)
{
    int64_t delay = failures > 12 ? 3600000 : INT64_C(1000) << (failures - 1);

    return now + delay - delay / 4 + random % (delay / 2 + 1);
}

/* Whether it is given up for the death of its process, the crashes-th. */
static bool
is_poison(const struct standing *standing, int64_t crashes)
{
    return standing->is_isolated
               ? crashes >= CRASHES_MAX_ISOLATED
               : crashes >= CRASHES_MAX && standing->was_alone;
}

struct outcome
outcome_of(enum run_end end, enum rota_error error, int64_t snooze_ms,
           const struct standing *standing, int64_t now, uint32_t random)
{
    int64_t crashes = standing->crashes + (end == END_DIED);
    int64_t failures = standing->failures + 1;
    unsigned conditions = (standing->is_cancelled ? IF_CANCELLED : 0) |
                          (standing->is_late ? IF_LATE : 0) |
                          (is_poison(standing, crashes) ? IF_POISON : 0) |
                          (failures >= standing->max_attempts ? IF_SPENT : 0);
    const struct outcome_rule *rule =
        &outcome_rules[outcome_rule_of(end, conditions)];
    struct outcome outcome = {.state = rule->state,
                              .code = code_of(rule->code, end, error),
                              .cause = rule->cause,
                              .attempt = rule->attempt,
                              .failures = rule->is_charged ? failures
                                                           : standing->failures,
                              .crashes = crashes};

    if (rule->again == AGAIN_LATER)
        outcome.run_at = retry_at(failures, now, random);
    else if (rule->again == AGAIN_SNOOZED)
        outcome.run_at = saturating_add(now, snooze_ms);
    if (rule->again == AGAIN_SNOOZED && snooze_ms == 0)
        outcome.state = ROTA_READY; /* at once */
    return outcome;
}
