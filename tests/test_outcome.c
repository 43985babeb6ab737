/*
 * How jobs end: what becomes of each thing that a job may return (rota/job.h),
 * of a cancel, and of a caller's context (rota_run), in one process.
 */
#define _GNU_SOURCE
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/engine.h"
#include "scratch.h"
#include "stage.h"

static int64_t other; /* the job that a job cancels */

static void
cancel(int64_t id, const char *reason, enum rota_cancel_answer expected)
{
    enum rota_cancel_answer answer;

    ck_assert_int_eq(rota_cancel(rota, id, reason, &answer), ROTA_OK);
    ck_assert_int_eq(answer, expected);
}

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

/* -- Cancel --------------------------------------------------------------- */

START_TEST(a_job_that_waits_is_cancelled_at_once_and_never_runs)
{
    int64_t ready, later;

    open_with(1, at_once);
    ready = submit();
    later = submit_later();
    cancel(ready, "not needed", ROTA_CANCEL_DONE);
    cancel(later, NULL, ROTA_CANCEL_DONE);
    start_workers();
    wait_for(ready);
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 0, "not needed");
    wait_for(later);
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 0, "context canceled");
    drain();
    ck_assert_int_eq(act.runs, 0);
}
END_TEST

START_TEST(a_job_that_waits_for_its_retry_is_cancelled_at_once)
{
    int64_t id;

    act.answer = ROTA_FAILED;
    begin(1, at_once);
    id = submit_attempts(2);
    await_state(id, "scheduled");
    cancel(id, "enough", ROTA_CANCEL_DONE);
    wait_for(id);
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 1, "enough");
}
END_TEST

START_TEST(cancel_says_what_it_came_to)
{
    enum rota_cancel_answer answer = ROTA_CANCEL_AGAIN;
    int64_t id;

    begin(1, held);
    act.answer = ROTA_FAILED;
    id = submit_running(1);
    cancel(id, "first", ROTA_CANCEL_REQUESTED);
    cancel(id, "second", ROTA_CANCEL_AGAIN);
    ck_assert_str_eq(job_says(id, "state, status, why"),
                     "running|cancelling|cancel asked: first");
    gate_open(&act.gate);
    wait_for(id);
    cancel(id, "third", ROTA_CANCEL_TOO_LATE);
    assert_outcome(ROTA_CANCELLED, ROTA_FAILED, 1, "first");
    ck_assert_int_eq(rota_cancel(rota, id, NULL, NULL), ROTA_OK);
    ck_assert_int_eq(rota_cancel(rota, 4711, "x", &answer), ROTA_NOTFOUND);
    ck_assert_int_eq(answer, ROTA_CANCEL_AGAIN);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "4711"));
}
END_TEST

static const char *const reasons[] = {"not needed", "100% %s: \xc3\xa9", NULL};

START_TEST(the_reason_reaches_the_job_and_the_file)
{
    const char *words = reasons[_i] == NULL ? "context canceled" : reasons[_i];
    int64_t id;

    begin(1, until_stopped);
    id = submit_running(1);
    cancel(id, reasons[_i], ROTA_CANCEL_REQUESTED);
    wait_for(id);
    ck_assert_int_eq(act.stop, ROTA_STOP_CANCEL);
    ck_assert_int_eq(act.code, ROTA_CANCELED);
    ck_assert_str_eq(act.words, words);
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 1, words);
    ck_assert_str_eq(job_says(id, "cause"), words);
    ck_assert_str_eq(job_says(id, "cancel_reason"), words);
    ck_assert_str_eq(job_says(id, "error, cancel_requested_at >= started_at"),
                     "CANCELED|1");
}
END_TEST

START_TEST(a_cancel_in_plain_sql_stops_a_running_job)
{
    int64_t id;

    begin(1, until_stopped);
    id = submit_running(1);
    sql_run(queue, "INSERT INTO cancel VALUES(%" PRId64 ", 'by hand')", id);
    wait_for(id);
    ck_assert_int_eq(act.stop, ROTA_STOP_CANCEL);
    ck_assert_str_eq(act.words, "by hand");
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 1, "by hand");
}
END_TEST

START_TEST(a_cancel_in_plain_sql_ends_a_wait_for_a_job_that_waits)
{
    int64_t ready, later;

    open_with(1, at_once);
    ready = submit();
    later = submit_later();
    sql_run(queue, "INSERT INTO cancel(job) VALUES(%jd), (%jd)",
            (intmax_t)ready, (intmax_t)later);
    wait_for(ready);
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 0, "context canceled");
    wait_for(later);
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 0, "context canceled");
}
END_TEST

START_TEST(a_cancellation_is_recorded_with_the_time_it_took)
{
    int64_t id;

    begin(1, until_stopped);
    id = submit_running(1);
    other = submit_later();
    sql_run(queue, "INSERT INTO cancel VALUES(%jd, 'a'), (%jd, 'b')",
            (intmax_t)id, (intmax_t)other);
    wait_for(id);
    wait_for(other);
    ck_assert_int_eq(
        sql_int(queue,
                "SELECT count(*) FROM cancellations WHERE job = %jd"
                " AND state = 'cancelled' AND reason = 'a'"
                " AND delivered_after BETWEEN 0 AND stopped_after"
                " AND stopped_after = stopped_at - requested_at"
                " AND stopped_after < 30000",
                (intmax_t)id),
        1);
    ck_assert_int_eq(
        sql_int(queue,
                "SELECT count(*) FROM cancellations WHERE job = %jd"
                " AND delivered_at IS NULL AND stopped_after = 0"
                " AND reason = 'b'",
                (intmax_t)other),
        1);
}
END_TEST

/* -- Retry, pause and resume ----------------------------------------------- */

START_TEST(a_retried_job_runs_again_from_the_start_of_its_attempts)
{
    int64_t id;

    act.answer = ROTA_FATAL;
    begin(1, at_once);
    id = submit_attempts(2);
    wait_for(id);
    assert_outcome(ROTA_JOB_FAILED, ROTA_FATAL, 1, "failed for good");
    act.answer = ROTA_OK;
    if (_i == 0)
        ck_assert_int_eq(rota_retry(rota, id, false), ROTA_OK);
    else
        sql_run(queue, "INSERT INTO retry(job) VALUES(%" PRId64 ")", id);
    wait_for(id);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    ck_assert_int_eq(act.runs, 2);
}
END_TEST

START_TEST(what_has_not_ended_is_not_retried_and_what_is_not_there_neither)
{
    int64_t id;

    begin(1, until_stopped);
    id = submit_running(1);
    ck_assert_int_eq(rota_retry(rota, id, false), ROTA_INVALID);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "has not ended"));
    ck_assert_int_eq(rota_retry(rota, id + 1, false), ROTA_NOTFOUND);
    cancel(id, NULL, ROTA_CANCEL_REQUESTED);
    wait_for(id);
}
END_TEST

static void *
retry_what_runs(void *arg)
{
    for (int i = 0; i < MANY(2000); i++)
        ck_assert_int_eq(rota_retry(rota, *(int64_t *)arg, false),
                         ROTA_INVALID);
    return NULL;
}

START_TEST(a_retry_that_is_refused_spoils_nothing_that_is_asked_beside_it)
{
    pthread_t thread;
    int64_t id;

    begin(1, until_stopped);
    id = submit_running(1);
    thread = thread_new(retry_what_runs, &id);
    for (int i = 0; i < MANY(2000); i++)
        (void)submit();
    (void)thread_join(thread);
}
END_TEST

START_TEST(a_job_that_waits_says_which_worker_it_lacks)
{
    static const char why[] = "SELECT why FROM jobs";

    open_queue(1);
    sql_run(queue, "INSERT INTO submit(kind) VALUES('other')");
    ck_assert_str_eq(sql_text(queue, why), "no worker runs");
    close_queue();
    begin(1, at_once);
    ck_assert_str_eq(sql_text(queue, why),
                     "no worker that runs knows this kind");
    sql_run(queue, "INSERT INTO pause VALUES('default')");
    ck_assert_str_eq(sql_text(queue, why), "its queue is paused");
    close_queue();
    sql_run(queue, "INSERT INTO resume VALUES('default')");
    ck_assert_str_eq(sql_text(queue, why), "no worker runs");
}
END_TEST

START_TEST(of_a_paused_queue_no_job_starts_until_it_is_resumed)
{
    struct ctx *brief;
    int64_t id;

    begin(1, at_once);
    ck_assert_int_eq(rota_pause(rota, NULL), ROTA_OK);
    ck_assert_int_eq(rota_pause(rota, "default"), ROTA_OK);
    id = submit();
    brief = ctx_with_timeout(NULL, ROTA_MS(20));
    ck_assert_int_eq(rota_wait(brief, rota, id, &outcome), ROTA_DEADLINE);
    ctx_end(brief);
    ck_assert_int_eq(act.runs, 0);
    if (_i == 0)
        ck_assert_int_eq(rota_resume(rota, NULL), ROTA_OK);
    else
        sql_run(queue, "INSERT INTO resume VALUES('default')");
    wait_for(id);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    ck_assert_int_eq(rota_resume(rota, "nowhere"), ROTA_NOTFOUND);
    ck_assert_int_eq(rota_pause(rota, ""), ROTA_INVALID);
}
END_TEST

static enum rota_error
cancels_another(struct ctx *ctx, struct rota_job *job)
{
    enum rota_cancel_answer answer;
    enum rota_error error =
        rota_cancel(rota_job_rota(job), other, "by a job", &answer);

    (void)ctx;
    act.number = answer;
    return error;
}

START_TEST(what_no_job_can_have_as_an_id_is_not_found)
{
    begin(1, at_once);
    for (int64_t id = -300; id < 1; id++)
        ck_assert_int_eq(rota_cancel(rota, id, NULL, NULL), ROTA_NOTFOUND);
}
END_TEST

START_TEST(a_job_may_cancel_another)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("c");

    open_with(2, until_stopped);
    ck_assert_int_eq(rota_handle(rota, "c", cancels_another, NULL, NULL),
                     ROTA_OK);
    start_workers();
    other = submit_running(1);
    wait_for(submit_as(&submission));
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    ck_assert_int_eq(act.number, ROTA_CANCEL_REQUESTED);
    wait_for(other);
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 1, "by a job");
}
END_TEST

static enum rota_error
cancels_itself(struct ctx *ctx, struct rota_job *job)
{
    other = rota_job_id(job);
    act.error = cancels_another(ctx, job);
    note_end(ctx, job);
    return ctx_err(ctx);
}

START_TEST(a_job_may_cancel_itself)
{
    begin(1, cancels_itself);
    wait_for(submit());
    ck_assert_int_eq(act.error, ROTA_OK);
    ck_assert(act.was_done);
    ck_assert_int_eq(act.number, ROTA_CANCEL_REQUESTED);
    ck_assert_int_eq(act.stop, ROTA_STOP_CANCEL);
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 1, "by a job");
}
END_TEST

static void
open_the_gate(void *gate)
{
    gate_open(gate);
}

static enum rota_error
woken_by_its_hook(struct ctx *ctx, struct rota_job *job)
{
    CTX_AUTO struct ctx *own = ctx_with_cancel(ctx);
    struct ctx_hook hook;

    ctx_after(own, &hook, open_the_gate, &act.gate);
    atomic_fetch_add(&act.runs, 1);
    gate_pass(&act.gate);
    ctx_hook_stop_wait(&hook);
    note_end(ctx, job);
    return ctx_err(own);
}

START_TEST(a_cancel_runs_the_hooks_of_the_jobs_contexts)
{
    int64_t id;

    begin(1, woken_by_its_hook);
    id = submit_running(1);
    cancel(id, "wake up", ROTA_CANCEL_REQUESTED);
    wait_for(id);
    ck_assert_str_eq(act.words, "wake up");
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 1, "wake up");
}
END_TEST

START_TEST(a_job_that_is_claimed_but_not_started_is_cancelled_without_a_run)
{
    enum rota_cancel_answer answer;
    int64_t id;

    begin(1, held);
    (void)submit_running(1);
    id = submit_claimed();
    ck_assert_int_eq(rota_cancel(rota, id, "enough", &answer), ROTA_OK);
    ck_assert_int_le(answer, ROTA_CANCEL_REQUESTED); /* or given back before */
    gate_open(&act.gate);
    wait_for(id);
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 0, "enough");
    ck_assert_int_eq(act.runs, 1);
}
END_TEST

#define CANCELS_MAX 400
static atomic_int begun[CANCELS_MAX + 1]; /* by id */

static enum rota_error
polls_once(struct ctx *ctx, struct rota_job *job)
{
    atomic_fetch_add(&begun[rota_job_id(job)], 1);
    sched_yield();
    return ctx_err(ctx);
}

/* Whatever it meets: a job that waits, is claimed, has begun or has ended. */
START_TEST(a_cancel_at_any_moment_means_what_it_answers)
{
    enum rota_cancel_answer answer;

    begin(2, polls_once);
    for (int i = 0; i < MANY(CANCELS_MAX); i++) {
        int64_t id = submit();

        for (int k = 0; k < i % 8; k++)
            sched_yield();
        ck_assert_int_eq(rota_cancel(rota, id, "race", &answer), ROTA_OK);
        wait_for(id);
        if (outcome.state == ROTA_CANCELLED)
            ck_assert_str_eq(outcome.message, "race");
        else
            ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
        ck_assert_int_le(begun[id], answer == ROTA_CANCEL_DONE ? 0 : 1);
        ck_assert_int_ne(answer, ROTA_CANCEL_AGAIN);
        if (answer != ROTA_CANCEL_REQUESTED)
            ck_assert(answer == (outcome.state == ROTA_CANCELLED
                                     ? ROTA_CANCEL_DONE
                                     : ROTA_CANCEL_TOO_LATE));
    }
}
END_TEST

/* -- rota_run() ----------------------------------------------------------- */

/* As until_stopped, but takes its time. */
static enum rota_error
lingers(struct ctx *ctx, struct rota_job *job)
{
    enum rota_error error = until_stopped(ctx, job);

    gate_pass(&act.gate);
    atomic_fetch_add(&act.ends, 1);
    return error;
}

struct runner {
    struct ctx *ctx;
    enum rota_error error;
    struct rota_outcome outcome;
    int ends; /* of jobs, when it had returned */
};

static void *
runner_body(void *arg)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    struct runner *runner = arg;

    runner->outcome = (struct rota_outcome)ROTA_OUTCOME_INIT;
    runner->error = rota_run(runner->ctx, rota, &submission, &runner->outcome);
    runner->ends = atomic_load(&act.ends);
    return NULL;
}

static void
run_here(struct ctx *ctx)
{
    struct runner runner = {.ctx = ctx};

    runner_body(&runner);
    ck_assert_int_eq(runner.error, ROTA_OK);
    outcome = runner.outcome;
}

START_TEST(run_gives_the_outcome)
{
    begin(1, at_once);
    run_here(NULL);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    act.answer = ROTA_FATAL;
    run_here(run);
    assert_outcome(ROTA_JOB_FAILED, ROTA_FATAL, 1, "failed for good");
}
END_TEST

START_TEST(run_cancels_the_job_when_its_context_ends_and_awaits_its_end)
{
    CTX_AUTO struct ctx *ctx = ctx_with_cancel(NULL);
    struct runner runner = {.ctx = ctx};
    pthread_t thread;

    begin(1, lingers);
    thread = thread_new(runner_body, &runner);
    AWAIT(atomic_load(&act.runs) == 1);
    (void)ctx_cancel_cause(ctx, "the caller left");
    gate_await(&act.gate, 1); /* told, and not yet gone */
    gate_open(&act.gate);
    (void)thread_join(thread);
    ck_assert_int_eq(runner.ends, 1);
    ck_assert_int_eq(runner.error, ROTA_OK);
    outcome = runner.outcome;
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 1, "the caller left");
    ck_assert_str_eq(act.words, "the caller left");
}
END_TEST

static enum rota_error
notes_its_deadline(struct ctx *ctx, struct rota_job *job)
{
    (void)job;
    act.number = ctx_deadline(ctx);
    return ROTA_OK;
}

START_TEST(a_job_inherits_the_deadline_of_who_runs_it)
{
    CTX_AUTO struct ctx *ctx = ctx_with_timeout(NULL, ROTA_SEC(1000));

    begin(1, notes_its_deadline);
    run_here(ctx);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_int_ge(act.number, ctx_deadline(ctx) - ROTA_SEC(1));
    ck_assert_int_le(act.number, ctx_deadline(ctx) + ROTA_SEC(1));
    run_here(NULL);
    ck_assert_int_eq(act.number, ROTA_FOREVER);
}
END_TEST

/* Until the deadline is far enough to get a job into the queue. */
static void
run_with_a_deadline(void)
{
    struct runner runner = {.error = ROTA_DEADLINE};

    for (int64_t time = ROTA_MS(20); runner.error == ROTA_DEADLINE; time *= 2) {
        CTX_AUTO struct ctx *ctx = ctx_with_timeout(NULL, time);

        runner.ctx = ctx;
        runner_body(&runner);
    }
    ck_assert_int_eq(runner.error, ROTA_OK);
    outcome = runner.outcome;
}

START_TEST(a_job_ends_with_the_deadline_of_who_runs_it)
{
    begin(1, until_stopped);
    run_with_a_deadline();
    ck_assert(outcome.state == ROTA_JOB_FAILED ||
              outcome.state == ROTA_CANCELLED);
    ck_assert(outcome.error == ROTA_DEADLINE || outcome.error == ROTA_CANCELED);
}
END_TEST

START_TEST(run_ends_with_its_context_though_nobody_takes_the_job)
{
    open_with(1, at_once);
    run_with_a_deadline();
    assert_outcome(ROTA_JOB_FAILED, ROTA_DEADLINE, 0,
                   "its deadline passed before it ran");
}
END_TEST

START_TEST(run_under_an_ended_context_submits_nothing)
{
    CTX_AUTO struct ctx *ctx = ctx_with_cancel(NULL);
    struct runner runner = {.ctx = ctx};

    begin(1, at_once);
    (void)ctx_cancel_cause(ctx, "over");
    (void)runner_body(&runner);
    ck_assert_int_eq(runner.error, ROTA_CANCELED);
    ck_assert_str_eq(rota_errmsg(rota), "over");
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"), 0);
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

static void
add_cancel(TCase *t)
{
    tcase_add_test(t, a_job_that_waits_is_cancelled_at_once_and_never_runs);
    tcase_add_test(t, a_job_that_waits_for_its_retry_is_cancelled_at_once);
    tcase_add_test(t, cancel_says_what_it_came_to);
    tcase_add_loop_test(t, the_reason_reaches_the_job_and_the_file, 0, 3);
    tcase_add_test(t, a_cancel_in_plain_sql_stops_a_running_job);
    tcase_add_test(t, a_cancel_in_plain_sql_ends_a_wait_for_a_job_that_waits);
    tcase_add_test(t, a_cancellation_is_recorded_with_the_time_it_took);
    tcase_add_loop_test(
        t, a_retried_job_runs_again_from_the_start_of_its_attempts, 0, 2);
    tcase_add_test(
        t, what_has_not_ended_is_not_retried_and_what_is_not_there_neither);
    tcase_add_test(
        t, a_retry_that_is_refused_spoils_nothing_that_is_asked_beside_it);
    tcase_add_test(t, a_job_that_waits_says_which_worker_it_lacks);
    tcase_add_loop_test(t, of_a_paused_queue_no_job_starts_until_it_is_resumed,
                        0, 2);
    tcase_add_test(t, what_no_job_can_have_as_an_id_is_not_found);
    tcase_add_test(t, a_job_may_cancel_another);
    tcase_add_test(t, a_job_may_cancel_itself);
    tcase_add_test(t, a_cancel_runs_the_hooks_of_the_jobs_contexts);
    tcase_add_test(
        t, a_job_that_is_claimed_but_not_started_is_cancelled_without_a_run);
    tcase_add_test(t, a_cancel_at_any_moment_means_what_it_answers);
}

static void
add_run(TCase *t)
{
    tcase_add_test(t, run_gives_the_outcome);
    tcase_add_test(
        t, run_cancels_the_job_when_its_context_ends_and_awaits_its_end);
    tcase_add_test(t, a_job_inherits_the_deadline_of_who_runs_it);
    tcase_add_test(t, a_job_ends_with_the_deadline_of_who_runs_it);
    tcase_add_test(t, run_ends_with_its_context_though_nobody_takes_the_job);
    tcase_add_test(t, run_under_an_ended_context_submits_nothing);
}

int
main(void)
{
    Suite *suite = suite_create("outcome");

    add_outcomes(stage_case(suite, "outcomes"));
    add_cancel(stage_case(suite, "cancel"));
    add_run(stage_case(suite, "rota_run()"));
    return suite_run(suite);
}
