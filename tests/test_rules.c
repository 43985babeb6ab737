/*
 * The outcome rules (store/outcome.h): each row of the table, what else follows
 * from it, and every way in which a run can end compared with the model that
 * the stores are held against (statemodel.h); and who is suspected of a death
 * (store/suspicion.h). No threads, no store.
 */
#include <check.h>
#include <string.h>

#include "statemodel.h"
#include "store/outcome.h"
#include "support.h"

#define NOW INT64_C(1700000000000)

/* -- Row by row ------------------------------------------------------------ */

/* What the table says, in the words of rota/job.h; one line for each row, with
 * an end and conditions that meet it and no row above it. */
static const struct expected {
    enum run_end end;
    unsigned conditions;
    enum rota_error error; /* what the job returned */
    enum rota_state state;
    enum rota_error code;
    enum cause cause;
    const char *attempt;
    bool is_charged;
} rows[] = {
    {END_OK, IF_ALL, ROTA_OK, ROTA_SUCCEEDED, ROTA_OK, CAUSE_LATE_CANCEL, NULL,
     false},
    {END_FAILED, IF_CANCELLED, ROTA_BUSY, ROTA_CANCELLED, ROTA_BUSY,
     CAUSE_CANCEL, NULL, false},
    {END_SHUT_DOWN, IF_LATE, ROTA_CANCELED, ROTA_JOB_FAILED, ROTA_DEADLINE,
     CAUSE_DEADLINE, NULL, false},
    {END_DIED, IF_POISON, ROTA_LOST, ROTA_JOB_FAILED, ROTA_FATAL, CAUSE_POISON,
     NULL, false},
    {END_DIED, IF_SPENT, ROTA_LOST, ROTA_READY, ROTA_LOST, CAUSE_DEATH,
     "crashed", false},
    {END_UNSTARTED, IF_SPENT, ROTA_CANCELED, ROTA_READY, ROTA_OK, CAUSE_OWN,
     NULL, false},
    {END_SHUT_DOWN, IF_SPENT, ROTA_CANCELED, ROTA_READY, ROTA_OK, CAUSE_OWN,
     "interrupted", false},
    {END_SNOOZED, IF_SPENT, ROTA_SNOOZE, ROTA_SCHEDULED, ROTA_OK, CAUSE_OWN,
     "snoozed", false},
    {END_FATAL, 0, ROTA_FATAL, ROTA_JOB_FAILED, ROTA_FATAL, CAUSE_ERROR, NULL,
     true},
    {END_FAILED, IF_SPENT, ROTA_FAILED, ROTA_JOB_FAILED, ROTA_FAILED,
     CAUSE_ERROR, NULL, true},
    {END_FAILED, IF_LATE, ROTA_FAILED, ROTA_JOB_FAILED, ROTA_FAILED,
     CAUSE_ERROR_LATE, NULL, true},
    {END_TIMED_OUT, 0, ROTA_DEADLINE, ROTA_SCHEDULED, ROTA_TIMEOUT, CAUSE_ERROR,
     "failed", true},
};
#define ROWS ((int)(sizeof(rows) / sizeof(*rows)))

static struct standing
standing_with(unsigned conditions)
{
    return (struct standing){
        .is_cancelled = (conditions & IF_CANCELLED) != 0,
        .is_late = (conditions & IF_LATE) != 0,
        .failures = (conditions & IF_SPENT) != 0 ? 4 : 0,
        .max_attempts = 5,
        .crashes = (conditions & IF_POISON) != 0 ? CRASHES_MAX - 1 : 0,
        .was_alone = true};
}

START_TEST(each_row_of_the_outcome_table_leads_where_it_says)
{
    const struct expected *row = &rows[_i];
    struct standing standing = standing_with(row->conditions);
    struct outcome outcome =
        outcome_of(row->end, row->error, 3000, &standing, NOW, 0);

    ck_assert_int_eq(outcome_rule_of(row->end, row->conditions), _i);
    ck_assert_int_eq(outcome.state, row->state);
    ck_assert_int_eq(outcome.code, row->code);
    ck_assert_int_eq(outcome.cause, row->cause);
    ck_assert(outcome.attempt == row->attempt ||
              strcmp(outcome.attempt, row->attempt) == 0);
    ck_assert_int_eq(outcome.failures, standing.failures + row->is_charged);
}
END_TEST

START_TEST(every_row_decides_something_and_every_end_is_decided)
{
    bool has_decided[ROWS] = {false};
    int rule;

    ck_assert_int_eq(n_outcome_rules, ROWS);
    for (int end = 0; end < RUN_ENDS; end++)
        for (unsigned conditions = 0; conditions <= IF_ALL; conditions++) {
            rule = outcome_rule_of((enum run_end)end, conditions);
            ck_assert_int_lt(rule, ROWS);
            has_decided[rule] = true;
        }
    for (int i = 0; i < ROWS; i++)
        ck_assert_msg(has_decided[i], "row %d never decides", i);
}
END_TEST

/* -- What else follows ----------------------------------------------------- */

START_TEST(retries_wait_1_s_2_s_4_s_up_to_an_hour_give_or_take_a_quarter)
{
    struct standing standing = {.max_attempts = 100, .failures = _i};
    int64_t delay = _i >= 12 ? 3600000 : INT64_C(1000) << _i;
    int64_t first, last;

    first = outcome_of(END_FAILED, ROTA_FAILED, 0, &standing, NOW, 0).run_at;
    last = outcome_of(END_FAILED, ROTA_FAILED, 0, &standing, NOW,
                      (uint32_t)(delay / 2))
               .run_at;
    ck_assert_int_eq(first, NOW + delay - delay / 4);
    ck_assert_int_eq(last, NOW + delay - delay / 4 + delay / 2);
}
END_TEST

START_TEST(a_snooze_of_no_time_is_ready_at_once_and_a_long_one_saturates)
{
    struct standing standing = {.max_attempts = 1};
    struct outcome outcome =
        outcome_of(END_SNOOZED, ROTA_SNOOZE, 0, &standing, NOW, 7);

    ck_assert_int_eq(outcome.state, ROTA_READY);
    ck_assert_int_eq(outcome.run_at, NOW);
    outcome =
        outcome_of(END_SNOOZED, ROTA_SNOOZE, INT64_MAX, &standing, NOW, 7);
    ck_assert_int_eq(outcome.state, ROTA_SCHEDULED);
    ck_assert_int_eq(outcome.run_at, INT64_MAX);
}
END_TEST

START_TEST(only_deaths_count_as_crashes)
{
    struct standing standing = {.max_attempts = 9, .crashes = 1};

    for (int end = 0; end < RUN_ENDS; end++)
        ck_assert_int_eq(
            outcome_of((enum run_end)end, ROTA_FAILED, 0, &standing, NOW, 0)
                .crashes,
            end == END_DIED ? 2 : 1);
}
END_TEST

/* -- Deaths -----------------------------------------------------------------
 */

static bool
is_given_up(int64_t deaths, bool is_isolated, bool was_alone)
{
    struct standing standing = {.max_attempts = 1,
                                .crashes = deaths - 1,
                                .is_isolated = is_isolated,
                                .was_alone = was_alone};
    struct outcome outcome =
        outcome_of(END_DIED, ROTA_LOST, 0, &standing, NOW, 0);

    ck_assert_int_eq(outcome.crashes, deaths);
    return outcome.state == ROTA_JOB_FAILED;
}

START_TEST(no_job_is_given_up_for_a_death_that_may_be_anothers_doing)
{
    for (int64_t deaths = 1; deaths <= 20; deaths++) {
        ck_assert(!is_given_up(deaths, false, false));
        ck_assert_int_eq(is_given_up(deaths, false, true), deaths >= 3);
    }
}
END_TEST

START_TEST(a_job_of_an_isolated_kind_is_given_up_after_ten_deaths)
{
    for (int64_t deaths = 1; deaths <= 20; deaths++)
        for (int alone = 0; alone < 2; alone++)
            ck_assert_int_eq(is_given_up(deaths, true, alone), deaths >= 10);
}
END_TEST

/* As many jobs as there are letters: i of an isolated kind, n, s and a by how
 * far they are suspected. */
static struct aboard
aboard_with(const char *jobs)
{
    struct aboard aboard = {0};

    for (; *jobs != '\0'; jobs++)
        aboard_add(&aboard, (enum suspicion)(strchr("insa", *jobs) - "insa"),
                   1);
    return aboard;
}

static const struct {
    const char *aboard;
    bool none, some, alone; /* whom it admits besides */
} companies[] = {
    {"", true, true, true},     {"iii", true, true, true},
    {"n", true, true, false},   {"nnni", true, true, false},
    {"s", true, false, false},  {"sn", true, false, false},
    {"a", false, false, false}, {"ai", false, false, false},
};
#define COMPANIES ((int)(sizeof(companies) / sizeof(*companies)))

START_TEST(suspects_run_apart_and_from_the_third_death_on_alone)
{
    struct aboard aboard = aboard_with(companies[_i].aboard);

    ck_assert_int_eq(aboard_admits(&aboard, suspicion_of(1, false)),
                     companies[_i].none);
    ck_assert_int_eq(aboard_admits(&aboard, suspicion_of(2, false)),
                     companies[_i].some);
    ck_assert_int_eq(aboard_admits(&aboard, suspicion_of(3, false)),
                     companies[_i].alone);
    for (int64_t crashes = 0; crashes < 12; crashes++)
        ck_assert(aboard_admits(&aboard, suspicion_of(crashes, true)));
}
END_TEST

START_TEST(who_leaves_counts_no_more)
{
    struct aboard aboard = aboard_with("insa");

    for (int suspicion = 0; suspicion <= SUSPICION_ALONE; suspicion++)
        aboard_add(&aboard, (enum suspicion)suspicion, -1);
    ck_assert_int_eq(aboard.jobs, 0);
    ck_assert(aboard_admits(&aboard, SUSPICION_ALONE));
}
END_TEST

/* -- Against the model ------------------------------------------------------
 */

/* What a job may return, and why its context may have ended by then. */
static const enum rota_error errors[] = {
    ROTA_OK,     ROTA_CANCELED, ROTA_DEADLINE, ROTA_TIMEOUT, ROTA_NOMEM,
    ROTA_FAILED, ROTA_FATAL,    ROTA_SNOOZE,   ROTA_LOST};
#define ERRORS ((int)(sizeof(errors) / sizeof(*errors)))

static struct model
model_running(unsigned conditions, int64_t failures)
{
    struct model model = {.now = NOW, .key_limit = 1, .n_jobs = 1};

    model.processes[model.n_processes++] =
        (struct model_process){1, true, true};
    model.jobs[0] = (struct model_job){
        .id = 1,
        .state = ROTA_RUNNING,
        .lease = 1,
        .worker = 1,
        .max_attempts = 3,
        .parent = MODEL_NOBODY,
        .skipped_by = MODEL_NOBODY,
        .failures = failures,
        .crashes = (conditions & IF_POISON) != 0 ? CRASHES_MAX - 1 : 0,
        .deadline_at = (conditions & IF_LATE) != 0 ? NOW - 1 : 0,
        .is_asked = (conditions & IF_CANCELLED) != 0};
    return model;
}

static void
same_as_model(const struct outcome *outcome, const struct model *model,
              bool has_run)
{
    const struct model_job *job = &model->jobs[0];
    bool has_ended = outcome->state >= ROTA_SUCCEEDED;

    ck_assert_int_eq(outcome->state, job->state);
    if (has_ended) {
        ck_assert_int_eq(outcome->code, job->code);
        return;
    }
    ck_assert_int_eq(outcome->failures, job->failures);
    ck_assert_int_eq(outcome->crashes, job->crashes);
    ck_assert_int_eq(outcome->attempt != NULL, has_run && job->n_runs > 0);
    if (outcome->attempt == NULL)
        return;
    ck_assert_str_eq(outcome->attempt, job->runs[0].outcome);
    ck_assert_int_eq(outcome->code, job->runs[0].code);
}

START_TEST(every_return_leads_where_the_model_of_jobs_says)
{
    unsigned conditions = (unsigned)_i & IF_ALL;
    int64_t failures = (_i >> 4) % 3;

    for (int e = 0; e < ERRORS; e++)
        for (int stop = ROTA_STOP_NONE; stop <= ROTA_STOP_SHUTDOWN; stop++) {
            struct model model = model_running(conditions, failures);
            struct standing standing = {.is_cancelled =
                                            (conditions & IF_CANCELLED) != 0 ||
                                            stop == ROTA_STOP_CANCEL,
                                        .is_late = (conditions & IF_LATE) != 0,
                                        .failures = failures,
                                        .max_attempts = 3,
                                        .crashes = model.jobs[0].crashes};
            struct model_ending ending = {.error = errors[e],
                                          .stop = (enum rota_stop_reason)stop,
                                          .cursor = -1,
                                          .snooze_ms = 3000};
            enum run_end end =
                run_end_of(ending.error, ending.stop, ending.never_started);
            struct outcome outcome =
                outcome_of(end, ending.error, 3000, &standing, NOW, 1);
            enum rota_state state;

            ck_assert_int_eq(model_end(&model, 0, 1, &ending, &state), ROTA_OK);
            same_as_model(&outcome, &model, true);
        }
}
END_TEST

START_TEST(a_claim_given_back_and_a_death_lead_where_the_model_says)
{
    unsigned conditions = (unsigned)_i & IF_ALL;
    struct standing standing = {.is_cancelled =
                                    (conditions & IF_CANCELLED) != 0,
                                .is_late = (conditions & IF_LATE) != 0,
                                .max_attempts = 3,
                                .was_alone = true};
    const struct model_ending unstarted = {.error = ROTA_CANCELED,
                                           .stop = ROTA_STOP_SHUTDOWN,
                                           .never_started = true,
                                           .cursor = -1};
    struct model model = model_running(conditions, 0);
    struct outcome outcome;
    enum rota_state state;
    int64_t jobs;

    standing.crashes = model.jobs[0].crashes;
    outcome = outcome_of(run_end_of(unstarted.error, unstarted.stop, true),
                         ROTA_CANCELED, 0, &standing, NOW, 1);
    ck_assert_int_eq(model_end(&model, 0, 1, &unstarted, &state), ROTA_OK);
    same_as_model(&outcome, &model, false);

    model = model_running(conditions, 0);
    model.processes[0].lives = false;
    outcome = outcome_of(END_DIED, ROTA_LOST, 0, &standing, NOW, 1);
    model_rescue(&model, 1, &jobs);
    ck_assert_int_eq(jobs, 1);
    same_as_model(&outcome, &model, true);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("rules");
    TCase *table = tcase_create("table");
    TCase *rest = tcase_create("what follows");
    TCase *deaths = tcase_create("deaths");
    TCase *model = tcase_create("model");

    tcase_add_loop_test(
        table, each_row_of_the_outcome_table_leads_where_it_says, 0, ROWS);
    tcase_add_test(table, every_row_decides_something_and_every_end_is_decided);
    suite_add_tcase(suite, table);
    tcase_add_loop_test(
        rest, retries_wait_1_s_2_s_4_s_up_to_an_hour_give_or_take_a_quarter, 0,
        16);
    tcase_add_test(
        rest, a_snooze_of_no_time_is_ready_at_once_and_a_long_one_saturates);
    tcase_add_test(rest, only_deaths_count_as_crashes);
    suite_add_tcase(suite, rest);
    tcase_add_test(deaths,
                   no_job_is_given_up_for_a_death_that_may_be_anothers_doing);
    tcase_add_test(deaths,
                   a_job_of_an_isolated_kind_is_given_up_after_ten_deaths);
    tcase_add_loop_test(deaths,
                        suspects_run_apart_and_from_the_third_death_on_alone, 0,
                        COMPANIES);
    tcase_add_test(deaths, who_leaves_counts_no_more);
    suite_add_tcase(suite, deaths);
    tcase_add_loop_test(model, every_return_leads_where_the_model_of_jobs_says,
                        0, 48);
    tcase_add_loop_test(
        model, a_claim_given_back_and_a_death_lead_where_the_model_says, 0, 16);
    suite_add_tcase(suite, model);
    return suite_run(suite);
}
