/*
 * "What a job returns decides what becomes of it": each row of the table in
 * rota/job.h, in one process. What a cancel answers is in test_cancel.c, a
 * retry in test_retry.c, the store's side in test_store.c.
 *
 * Jobs wait for their context or at a gate; who submits looks until they have
 * begun.
 */
#define _GNU_SOURCE
#include <check.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "scratch.h"
#include "stage.h"

/* -- Outcomes ------------------------------------------------------------- */

START_TEST(a_cancelled_job_that_returns_ok_has_succeeded)
{
    int64_t id;

    begin(1, held);
    id = submit_running(3);
    cancel(id, "too late", ROTA_CANCEL_REQUESTED);
    gate_open(&act.gate);
    wait_for(id);
    ck_assert(act.was_done);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    ck_assert_str_eq(job_says(id, "state, error"), "succeeded|NULL");
}
END_TEST

static const enum rota_error returned[] = {
    ROTA_CANCELED, ROTA_DEADLINE, ROTA_FAILED, ROTA_FATAL,
    ROTA_SNOOZE,   ROTA_LOST,     ROTA_NOMEM};

static enum rota_error
stops_with_words(struct ctx *ctx, struct rota_job *job)
{
    return rota_job_fail(job, until_stopped(ctx, job), "its own words");
}

START_TEST(a_cancelled_job_that_returns_anything_else_is_cancelled_for_good)
{
    int64_t id;

    act.answer = returned[_i];
    begin(1, stops_with_words);
    id = submit_running(5);
    cancel(id, "enough", ROTA_CANCEL_REQUESTED);
    wait_for(id);
    drain();
    assert_outcome(ROTA_CANCELLED,
                   returned[_i] == ROTA_DEADLINE ? ROTA_CANCELED : returned[_i],
                   1, "enough");
    ck_assert_int_eq(act.runs, 1);
    ck_assert_str_eq(job_says(id, "state"), "cancelled");
}
END_TEST

START_TEST(a_job_that_is_shut_down_resumes_at_its_cursor_and_is_not_charged)
{
    int64_t id;

    begin(1, in_two_runs);
    id = submit_running(1);
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_OK);
    ck_assert_int_eq(act.stop, ROTA_STOP_SHUTDOWN);
    ck_assert_str_eq(
        job_says(id, "state, status, done, total, failures, error, cause"),
        "ready|resumable|4|10|0|NULL|NULL");
    close_queue();
    begin(1, in_two_runs);
    wait_for(id);
    ck_assert_int_eq(act.number, 4);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    ck_assert_int_eq(outcome.cursor, 10);
    ck_assert_str_eq(runs_of(id),
                     "1|interrupted|NULL|NULL\n2|succeeded|NULL|NULL");
}
END_TEST

START_TEST(a_real_failure_during_a_shutdown_is_charged)
{
    int64_t id, last;

    act.answer = ROTA_FAILED;
    begin(2, until_stopped);
    id = submit_running(2);
    last = submit_running(1);
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_OK);
    ck_assert_str_eq(job_says(id, "state, failures"), "scheduled|1");
    ck_assert_str_eq(job_says(last, "state, error"), "failed|FAILED");
}
END_TEST

START_TEST(a_run_whose_time_is_up_has_failed_and_is_tried_again)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    int64_t id;

    submission.timeout = 1; /* rounded up, not down to none */
    submission.max_attempts = 2;
    begin(1, until_stopped);
    id = submit_as(&submission);
    hurry(id);
    wait_for(id);
    ck_assert_int_eq(act.stop, ROTA_STOP_DEADLINE);
    assert_outcome(ROTA_JOB_FAILED, ROTA_TIMEOUT, 2, "its time was up");
    ck_assert_int_eq(act.runs, 2);
    ck_assert_str_eq(runs_of(id), "1|failed|TIMEOUT|its time was up\n"
                                  "2|failed|TIMEOUT|its time was up");
}
END_TEST

static enum rota_error
ends_well_too_late(struct ctx *ctx, struct rota_job *job)
{
    (void)until_stopped(ctx, job);
    return ROTA_OK;
}

START_TEST(a_job_that_returns_ok_after_its_time_has_succeeded)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");

    submission.timeout = ROTA_MS(1);
    begin(1, ends_well_too_late);
    wait_for(submit_as(&submission));
    ck_assert_int_eq(act.stop, ROTA_STOP_DEADLINE);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
}
END_TEST

START_TEST(a_running_job_whose_deadline_passes_fails_for_good)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");

    submission.max_attempts = 5;
    begin(1, until_stopped);
    for (int64_t ms = 20; atomic_load(&act.runs) == 0; ms *= 2) {
        submission.deadline =
            machine_clock(NULL) + ms; /* too soon to be claimed? */
        wait_for(submit_as(&submission));
    }
    drain();
    ck_assert_int_eq(act.stop, ROTA_STOP_DEADLINE);
    assert_outcome(ROTA_JOB_FAILED, ROTA_DEADLINE, 1, "its deadline passed");
    ck_assert_int_eq(act.runs, 1);
}
END_TEST

START_TEST(a_job_whose_deadline_has_passed_never_runs)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");

    submission.deadline = machine_clock(NULL);
    submission.max_attempts = 5;
    begin(1, at_once);
    wait_for(submit_as(&submission));
    assert_outcome(ROTA_JOB_FAILED, ROTA_DEADLINE, 0,
                   "its deadline passed before it ran");
    ck_assert_int_eq(act.runs, 0);
}
END_TEST

static enum rota_error
fails_in_words(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    return rota_job_fail(job, ROTA_FAILED, "%s %" PRId64, "run",
                         rota_job_lease(job));
}

START_TEST(a_job_that_fails_is_retried_while_attempts_are_left)
{
    int64_t id;

    begin(1, fails_in_words);
    id = submit_attempts(3);
    hurry(id);
    AWAIT(strcmp(job_says(id, "state, status, failures"),
                 "scheduled|retrying|2") == 0);
    ck_assert_str_eq(job_says(id, "why LIKE 'failed 2 of 3 times (run 2), runs"
                                  " again at 2___-%Z'"),
                     "1");
    hurry(id);
    wait_for(id);
    assert_outcome(ROTA_JOB_FAILED, ROTA_FAILED, 3, "run 3");
    ck_assert_str_eq(runs_of(id), "1|failed|FAILED|run 1\n"
                                  "2|failed|FAILED|run 2\n"
                                  "3|failed|FAILED|run 3");
}
END_TEST

START_TEST(a_job_that_failed_takes_up_at_its_cursor)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    int64_t id;

    submission.timeout = ROTA_MS(1);
    submission.max_attempts = 2;
    begin(1, in_two_runs);
    id = submit_as(&submission);
    await_state(id, "scheduled");
    ck_assert_str_eq(job_says(id, "done, total, failures"), "4|10|1");
    hurry(id);
    wait_for(id);
    ck_assert_int_eq(act.number, 4);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 2, "");
}
END_TEST

START_TEST(a_fatal_job_fails_at_once)
{
    act.answer = ROTA_FATAL;
    begin(1, at_once);
    wait_for(submit_attempts(5));
    drain();
    assert_outcome(ROTA_JOB_FAILED, ROTA_FATAL, 1, "failed for good");
    ck_assert_int_eq(act.runs, 1);
}
END_TEST

START_TEST(any_other_error_is_a_failure_by_its_name)
{
    if (returned[_i] == ROTA_SNOOZE)
        return;
    act.answer = returned[_i];
    begin(1, at_once);
    wait_for(submit());
    assert_outcome(ROTA_JOB_FAILED, returned[_i], 1,
                   rota_strerror(returned[_i]));
}
END_TEST

static enum rota_error
snoozes(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    if (atomic_fetch_add(&act.runs, 1) < 3)
        return rota_job_snooze(job, act.number);
    return ROTA_OK;
}

START_TEST(a_snoozed_job_is_scheduled_for_later_and_not_charged)
{
    int64_t id, before = machine_clock(NULL), due;

    act.number = ROTA_SEC(3600);
    begin(1, snoozes);
    id = submit_attempts(1);
    await_state(id, "scheduled");
    due = sql_int(queue, "SELECT run_at FROM jobs");
    ck_assert_int_ge(due, before + 3600000);
    ck_assert_int_le(due, machine_clock(NULL) + 3600000);
    ck_assert_str_eq(job_says(id, "status, failures"), "scheduled|0");
    for (int runs = 1; runs <= 3; runs++) {
        AWAIT(atomic_load(&act.runs) == runs);
        hurry(id);
    }
    wait_for(id);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    ck_assert_str_eq(runs_of(id), "1|snoozed|NULL|NULL\n2|snoozed|NULL|NULL\n"
                                  "3|snoozed|NULL|NULL\n4|succeeded|NULL|NULL");
}
END_TEST

START_TEST(a_job_that_snoozes_for_no_time_runs_again_before_drain_returns)
{
    for (int round = 0; round < MANY(60); round++) {
        atomic_store(&act.runs, 0);
        begin(1, snoozes);
        (void)submit();
        drain();
        ck_assert_int_eq(act.runs, 4);
        close_queue();
    }
}
END_TEST

static enum rota_error
ends_its_own_context(struct ctx *ctx, struct rota_job *job)
{
    CTX_AUTO struct ctx *own = ctx_with_timeout(ctx, act.number);

    (void)ctx_cancel(own); /* too late if its time is up */
    note_end(own, job);
    return ctx_err(own);
}

START_TEST(an_error_from_a_context_of_the_jobs_own_is_an_ordinary_failure)
{
    enum rota_error error = _i == 0 ? ROTA_DEADLINE : ROTA_CANCELED;
    int64_t id;

    act.number = _i == 0 ? 0 : ROTA_SEC(3600);
    begin(1, ends_its_own_context);
    id = submit_attempts(2);
    hurry(id);
    wait_for(id);
    ck_assert_int_eq(act.stop, ROTA_STOP_NONE);
    assert_outcome(ROTA_JOB_FAILED, error, 2, rota_strerror(error));
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_outcomes(TCase *t)
{
    const int n = (int)(sizeof(returned) / sizeof(returned[0]));

    tcase_add_test(t, a_cancelled_job_that_returns_ok_has_succeeded);
    tcase_add_loop_test(
        t, a_cancelled_job_that_returns_anything_else_is_cancelled_for_good, 0,
        n);
    tcase_add_test(
        t, a_job_that_is_shut_down_resumes_at_its_cursor_and_is_not_charged);
    tcase_add_test(t, a_real_failure_during_a_shutdown_is_charged);
    tcase_add_test(t, a_run_whose_time_is_up_has_failed_and_is_tried_again);
    tcase_add_test(t, a_job_that_returns_ok_after_its_time_has_succeeded);
    tcase_add_test(t, a_running_job_whose_deadline_passes_fails_for_good);
    tcase_add_test(t, a_job_whose_deadline_has_passed_never_runs);
    tcase_add_test(t, a_job_that_fails_is_retried_while_attempts_are_left);
    tcase_add_test(t, a_job_that_failed_takes_up_at_its_cursor);
    tcase_add_test(t, a_fatal_job_fails_at_once);
    tcase_add_loop_test(t, any_other_error_is_a_failure_by_its_name, 0, n);
    tcase_add_test(t, a_snoozed_job_is_scheduled_for_later_and_not_charged);
    tcase_add_test(
        t, a_job_that_snoozes_for_no_time_runs_again_before_drain_returns);
    tcase_add_loop_test(
        t, an_error_from_a_context_of_the_jobs_own_is_an_ordinary_failure, 0,
        2);
}

int
main(void)
{
    Suite *suite = suite_create("outcome");

    add_outcomes(stage_case(suite, "outcomes"));
    return suite_run(suite);
}
