/*
 * Waiting for jobs: rota_wait(), rota_drain() and rota_run(), which ends a job
 * with its caller's context, in one process. Without a worker of one's own:
 * test_share.c.
 *
 * Threads sleep in a call until the test has seen them there.
 */
#define _GNU_SOURCE
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "scratch.h"
#include "stage.h"

/* -- Waiting -------------------------------------------------------------- */

struct napper {
    struct ctx *ctx;
    int64_t id; /* 0: drains */
    enum rota_error error;
    struct rota_outcome outcome;
    int ends;
    char words[64];
};

static void *
sleeper_body(void *arg)
{
    struct napper *sleeper = arg;

    sleeper->outcome = (struct rota_outcome)ROTA_OUTCOME_INIT;
    sleeper->error =
        sleeper->id == 0
            ? rota_drain(sleeper->ctx, rota)
            : rota_wait(sleeper->ctx, rota, sleeper->id, &sleeper->outcome);
    sleeper->ends = atomic_load(&act.ends);
    (void)snprintf(sleeper->words, sizeof(sleeper->words), "%s",
                   rota_errmsg(rota));
    return NULL;
}

START_TEST(many_threads_may_wait_for_one_job)
{
    enum { THREADS = 8 };
    struct napper sleepers_of[THREADS];
    pthread_t threads[THREADS];
    int64_t id;

    begin(1, held);
    id = submit_running(1);
    for (int i = 0; i < THREADS; i++) {
        sleepers_of[i] = (struct napper){.id = id};
        threads[i] = thread_new(sleeper_body, &sleepers_of[i]);
    }
    AWAIT(sleepers() == THREADS);
    gate_open(&act.gate);
    for (int i = 0; i < THREADS; i++) {
        (void)thread_join(threads[i]);
        ck_assert_int_eq(sleepers_of[i].error, ROTA_OK);
        ck_assert_int_eq(sleepers_of[i].outcome.state, ROTA_SUCCEEDED);
        ck_assert_int_eq(sleepers_of[i].ends, 1);
    }
}
END_TEST

START_TEST(drain_waits_for_all_that_is_ready_and_runs)
{
    struct napper sleeper = {.ctx = NULL};
    pthread_t thread;

    begin(2, held);
    for (int i = 0; i < 5; i++)
        (void)submit();
    (void)submit_later(); /* not for this one */
    thread = thread_new(sleeper_body, &sleeper);
    AWAIT(sleepers() == 1 && atomic_load(&act.runs) == 2);
    gate_open(&act.gate);
    (void)thread_join(thread);
    ck_assert_int_eq(sleeper.error, ROTA_OK);
    ck_assert_int_eq(sleeper.ends, 5);
    ck_assert_str_eq(sql_text(queue, "SELECT state, count(*) FROM jobs"
                                     " GROUP BY state ORDER BY state"),
                     "scheduled|1\nsucceeded|5");
}
END_TEST

START_TEST(a_wait_and_a_drain_end_with_their_context)
{
    CTX_AUTO struct ctx *ctx = ctx_with_cancel(NULL);
    struct napper sleeper = {.ctx = ctx};
    pthread_t thread;

    begin(1, held);
    sleeper.id = submit_running(1) * _i;
    thread = thread_new(sleeper_body, &sleeper);
    AWAIT(ctx_waiters(ctx) == 1);
    (void)ctx_cancel_cause(ctx, "no time");
    (void)thread_join(thread);
    ck_assert_int_eq(sleeper.error, ROTA_CANCELED);
    ck_assert_str_eq(sleeper.words, "no time");
    ck_assert_int_eq(sleeper.ends, 0);
    ck_assert_uint_eq(sleepers(), 0);
    gate_open(&act.gate);
}
END_TEST

START_TEST(a_wait_under_an_ended_context_looks_once)
{
    CTX_AUTO struct ctx *ctx = ctx_with_timeout(NULL, 0);
    int64_t id, ended;

    begin(1, held);
    gate_open(&act.gate);
    ended = submit();
    wait_for(ended);
    id = submit_later();
    outcome = (struct rota_outcome)ROTA_OUTCOME_INIT;
    ck_assert_int_eq(rota_wait(ctx, rota, ended, &outcome), ROTA_OK);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    outcome.attempts = 4711;
    ck_assert_int_eq(rota_wait(ctx, rota, id, &outcome), ROTA_DEADLINE);
    ck_assert_int_eq(rota_wait(ctx, rota, 99, &outcome), ROTA_NOTFOUND);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "99"));
    ck_assert_int_eq(outcome.attempts, 4711);
    ck_assert_int_eq(rota_wait(NULL, rota, ended, NULL), ROTA_OK);
}
END_TEST

START_TEST(drain_comes_after_start)
{
    open_with(1, at_once);
    ck_assert_int_eq(rota_drain(NULL, rota), ROTA_INVALID);
    ck_assert_str_eq(rota_errmsg(rota),
                     "rota_start() comes before rota_drain()");
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
add_waiting(TCase *t)
{
    tcase_add_test(t, many_threads_may_wait_for_one_job);
    tcase_add_test(t, drain_waits_for_all_that_is_ready_and_runs);
    tcase_add_loop_test(t, a_wait_and_a_drain_end_with_their_context, 0, 2);
    tcase_add_test(t, a_wait_under_an_ended_context_looks_once);
    tcase_add_test(t, drain_comes_after_start);
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
    Suite *suite = suite_create("wait");

    add_waiting(stage_case(suite, "waiting"));
    add_run(stage_case(suite, "rota_run()"));
    return suite_run(suite);
}
