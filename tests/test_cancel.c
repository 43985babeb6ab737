/*
 * "A cancel reaches the running job", in one process: what it answers and what
 * becomes of the job, whether that waits, is claimed, runs or has ended; who
 * may cancel; the cancel of many. From other processes: test_cancel_reach.c.
 *
 * Whatever runs waits for its context or at a gate. Only the last test races,
 * to meet every moment.
 */
#define _GNU_SOURCE
#include <check.h>
#include <inttypes.h>
#include <string.h>

#include "scratch.h"
#include "stage.h"
#include "ties.h"

static int64_t other; /* the job that a job cancels */

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

/* -- Many at once --------------------------------------------------------- */

START_TEST(a_cancel_of_many_says_how_many_came_to_what)
{
    int64_t counts[ROTA_CANCEL_TOO_LATE + 1] = {0};
    struct rota_value batch = {
        .type = ROTA_TEXT, .data = "b", .size = strlen("b")};
    struct rota_submission submission = submission_of(NULL);
    int n = MANY(3000);

    begin(1, until_stopped);
    submission.batch = "b";
    for (int i = 0; i < n; i++)
        (void)submit_as(&submission);
    (void)submit(); /* of no batch */
    AWAIT(atomic_load(&act.runs) == 1);
    ck_assert_int_eq(rota_cancel_where(NULL, rota, "batch = ?1 -- all of it",
                                       &batch, 1, "all", counts),
                     ROTA_OK);
    /* with the one that runs, or is claimed, told */
    ck_assert_int_ge(counts[ROTA_CANCEL_REQUESTED], 1);
    ck_assert_int_eq(counts[ROTA_CANCEL_DONE] + counts[ROTA_CANCEL_REQUESTED],
                     n);
    AWAIT(sql_int(queue, "SELECT count(*) FROM jobs WHERE state = 'cancelled'"
                         " AND cause = 'all'") == n);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"
                                    " WHERE state IN ('ready', 'running')"),
                     1);
    ck_assert_int_eq(rota_cancel_where(NULL, rota, NULL, NULL, 0, NULL, counts),
                     ROTA_OK);
    ck_assert_int_eq(counts[ROTA_CANCEL_DONE] + counts[ROTA_CANCEL_REQUESTED],
                     1);
}
END_TEST

static const char *const bad_conditions[] = {
    "no_such_column = 1",
    "1) OR (1",
    "1; DELETE FROM _job",
    "",
};

START_TEST(a_condition_that_is_none_cancels_and_forgets_nothing)
{
    int64_t count = 99;

    open_with(1, fails_if_told);
    (void)submit();
    (void)submit();
    ck_assert_int_eq(step(), 1);
    if (strcmp(bad_conditions[_i], "1) OR (1") != 0) {
        ck_assert_int_eq(rota_cancel_where(NULL, rota, bad_conditions[_i], NULL,
                                           0, NULL, NULL),
                         ROTA_INVALID);
        ck_assert_str_ne(rota_errmsg(rota), "");
        ck_assert_int_eq(
            rota_prune(NULL, rota, bad_conditions[_i], NULL, 0, &count),
            ROTA_INVALID);
    }
    ck_assert_str_eq(sql_text(queue, "SELECT state FROM jobs ORDER BY id"),
                     "succeeded\nready");
}
END_TEST

START_TEST(under_a_context_that_has_ended_none_of_many_is_cancelled)
{
    struct ctx *ctx = ctx_with_cancel(NULL);

    open_with(1, fails_if_told);
    (void)submit();
    (void)ctx_cancel(ctx);
    ck_assert_int_eq(rota_cancel_where(ctx, rota, NULL, NULL, 0, NULL, NULL),
                     ROTA_CANCELED);
    assert_says(1, "state", "ready");
    ctx_end(ctx);
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_one(TCase *t)
{
    tcase_add_test(t, a_job_that_waits_is_cancelled_at_once_and_never_runs);
    tcase_add_test(t, a_job_that_waits_for_its_retry_is_cancelled_at_once);
    tcase_add_test(t, cancel_says_what_it_came_to);
    tcase_add_loop_test(t, the_reason_reaches_the_job_and_the_file, 0, 3);
    tcase_add_test(t, a_cancel_in_plain_sql_stops_a_running_job);
    tcase_add_test(t, a_cancel_in_plain_sql_ends_a_wait_for_a_job_that_waits);
    tcase_add_test(t, a_cancellation_is_recorded_with_the_time_it_took);
    tcase_add_test(t, what_no_job_can_have_as_an_id_is_not_found);
    tcase_add_test(t, a_job_may_cancel_another);
    tcase_add_test(t, a_job_may_cancel_itself);
    tcase_add_test(t, a_cancel_runs_the_hooks_of_the_jobs_contexts);
    tcase_add_test(
        t, a_job_that_is_claimed_but_not_started_is_cancelled_without_a_run);
    tcase_add_test(t, a_cancel_at_any_moment_means_what_it_answers);
}

static void
add_many(TCase *t)
{
    tcase_add_test(t, a_cancel_of_many_says_how_many_came_to_what);
    tcase_add_loop_test(
        t, a_condition_that_is_none_cancels_and_forgets_nothing, 0,
        (int)(sizeof(bad_conditions) / sizeof(*bad_conditions)));
    tcase_add_test(t, under_a_context_that_has_ended_none_of_many_is_cancelled);
}

int
main(void)
{
    Suite *suite = suite_create("cancel");

    add_one(stage_case(suite, "one"));
    add_many(stage_case(suite, "many"));
    return suite_run(suite);
}
