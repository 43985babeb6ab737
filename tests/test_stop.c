/*
 * "Shutting down is not failing": rota_stop(), rota_close() and the end of the
 * workers' context give back what runs and what is claimed, uncharged, and a
 * cancel goes before them. Jobs that do not heed it: test_stuck.c.
 *
 * Jobs wait for their context or at a gate; a writer is held where it is by a
 * foreign client that has the lock.
 */
#define _GNU_SOURCE
#include <check.h>
#include <sqlite3.h>
#include <stdio.h>

#include "engine/engine.h"
#include "engine/job.h"
#include "engine/state.h"
#include "scratch.h"
#include "stage.h"

/* -- Stopping ------------------------------------------------------------- */

START_TEST(stop_gives_back_all_that_runs_and_all_that_is_claimed)
{
    begin(1, until_stopped);
    (void)submit_running(1);
    for (int i = 0; i < 3; i++)
        (void)submit_claimed();
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_OK);
    ck_assert_int_eq(act.runs, 1);
    ck_assert_str_eq(act.words, "shutdown");
    ck_assert_int_eq(sql_int(queue,
                             "SELECT count(*) FROM jobs WHERE state <> 'ready'"
                             " OR failures > 0 OR error IS NOT NULL"),
                     0);
    ck_assert_str_eq(sql_text(queue, "SELECT outcome FROM attempts"),
                     "interrupted");
    ck_assert_str_eq(sql_text(queue, "SELECT state, running FROM workers"),
                     "left|0");
}
END_TEST

START_TEST(claims_that_no_worker_comes_to_are_given_back)
{
    int64_t id;

    begin(1, held);
    (void)submit_running(1);
    id = submit_claimed();
    await_state(id, "ready");
    ck_assert_str_eq(job_says(id, "failures"), "0");
    gate_open(&act.gate);
    wait_for(id);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    drain();
    ck_assert_int_eq(act.runs, sql_int(queue, "SELECT count(*) FROM jobs"));
}
END_TEST

struct stopper {
    int64_t grace;
    enum rota_error error;
    int64_t active; /* jobs, when it had returned */
};

static void *
stop_body(void *arg)
{
    struct stopper *stopper = arg;

    stopper->error = rota_stop(rota, stopper->grace);
    lock_take(&rota->lock);
    stopper->active = rota->active;
    lock_drop(&rota->lock);
    return NULL;
}

static bool
is_stopping(void)
{
    bool stopping;

    lock_take(&rota->lock);
    stopping = rota->is_stopping;
    lock_drop(&rota->lock);
    return stopping;
}

/* The writer is about to claim, and cannot, for somebody holds the lock. */
static bool
is_claiming(void)
{
    bool claiming;

    lock_take(&rota->lock);
    claiming = rota->is_writing && rota->is_claiming;
    lock_drop(&rota->lock);
    return claiming;
}

/* A foreign client that has the lock, and has done this. */
static sqlite3 *
shell_begin(const char *sql)
{
    sqlite3 *shell;

    ck_assert_int_eq(sqlite3_open(queue, &shell), SQLITE_OK);
    (void)sqlite3_busy_timeout(shell, 20000);
    ck_assert_int_eq(sqlite3_exec(shell, "BEGIN IMMEDIATE", NULL, NULL, NULL),
                     SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(shell, sql, NULL, NULL, NULL), SQLITE_OK);
    return shell;
}

static void
shell_commit(sqlite3 *shell)
{
    ck_assert_int_eq(sqlite3_exec(shell, "COMMIT", NULL, NULL, NULL),
                     SQLITE_OK);
}

START_TEST(nothing_runs_any_more_when_stop_has_returned)
{
    struct stopper stopper = {.grace = 0};
    pthread_t thread;
    sqlite3 *shell;

    begin(2, at_once);
    shell = shell_begin(
        "INSERT INTO submit(kind) WITH RECURSIVE n(i) AS (SELECT 1"
        " UNION ALL SELECT i + 1 FROM n) SELECT 'k' FROM n LIMIT 1000");
    lock_take(&rota->lock);
    rota->prefetch = PREFETCH_MAX; /* so that it takes a while to give back */
    rota->maybe_ready = true;
    lock_drop(&rota->lock);
    writer_poke(rota);
    AWAIT(is_claiming());
    thread = thread_new(stop_body, &stopper);
    AWAIT(is_stopping());
    shell_commit(shell);
    (void)thread_join(thread);
    ck_assert_int_eq(stopper.error, ROTA_OK);
    ck_assert_int_eq(stopper.active, 0);
    ck_assert_str_eq(sql_text(queue, "SELECT state, count(*) FROM jobs"
                                     " GROUP BY state"),
                     "ready|1000");
    ck_assert_int_eq(sqlite3_close(shell), SQLITE_OK);
    ck_assert_int_eq(act.runs, 0);
}
END_TEST

START_TEST(grace_lets_a_job_finish)
{
    struct stopper stopper = {.grace = ROTA_SEC(3600)};
    pthread_t thread;
    int64_t id;

    begin(1, held);
    id = submit_running(1);
    thread = thread_new(stop_body, &stopper);
    AWAIT(is_stopping() && sleepers() == 1);
    ck_assert_str_eq(job_says(submit(), "state"), "ready"); /* none claimed */
    gate_open(&act.gate);
    (void)thread_join(thread);
    ck_assert_int_eq(stopper.error, ROTA_OK);
    ck_assert(!act.was_done);
    ck_assert_str_eq(job_says(id, "state"), "succeeded");
    ck_assert_int_eq(act.runs, 1);
}
END_TEST

START_TEST(after_a_grace_the_job_is_told)
{
    begin(1, until_stopped);
    (void)submit_running(1);
    ck_assert_int_eq(rota_stop(rota, ROTA_MS(5)), ROTA_OK);
    ck_assert_int_eq(act.stop, ROTA_STOP_SHUTDOWN);
}
END_TEST

/* Comes to the gate when it is told to stop, and is told more there. */
static enum rota_error
told_twice(struct ctx *ctx, struct rota_job *job)
{
    enum rota_error error;

    atomic_fetch_add(&act.runs, 1);
    error = ctx_wait(ctx, ROTA_FOREVER);
    gate_pass(&act.gate);
    note_end(ctx, job);
    return error;
}

/* Either first; what the job sees of the first end stays. */
START_TEST(a_job_that_is_cancelled_and_shut_down_at_once_is_cancelled)
{
    struct stopper stopper = {.grace = 0};
    pthread_t thread;
    int64_t id;

    begin(1, told_twice);
    id = submit_running(3);
    if (_i == 0)
        ck_assert_int_eq(rota_cancel(rota, id, "not this", NULL), ROTA_OK);
    thread = thread_new(stop_body, &stopper);
    AWAIT(is_stopping());
    gate_await(&act.gate, 1);
    if (_i == 1)
        ck_assert_int_eq(rota_cancel(rota, id, "not this", NULL), ROTA_OK);
    gate_open(&act.gate);
    (void)thread_join(thread);
    ck_assert_int_eq(stopper.error, ROTA_OK);
    ck_assert_int_eq(act.stop, ROTA_STOP_CANCEL);
    ck_assert_str_eq(act.words, _i == 0 ? "not this" : "shutdown");
    ck_assert_str_eq(job_says(id, "state, cause, lease, failures"),
                     "cancelled|not this|1|0");
    ck_assert_str_eq(runs_of(id), "1|cancelled|CANCELED|not this");
}
END_TEST

static bool
has_returned(int64_t id)
{
    struct rota_job *job;
    bool returned;

    lock_take(&rota->lock);
    job = job_find(rota, id);
    returned = job != NULL && job->place == JOB_ENDED;
    lock_drop(&rota->lock);
    return returned;
}

START_TEST(a_cancel_that_only_the_file_knows_of_goes_before_a_shutdown)
{
    struct stopper stopper = {.grace = 0};
    pthread_t thread;
    sqlite3 *shell;
    int64_t id;

    begin(1, until_stopped);
    id = submit_running(3);
    shell = shell_begin("INSERT INTO cancel VALUES(1, 'not this')");
    thread = thread_new(stop_body, &stopper);
    AWAIT(has_returned(id));
    shell_commit(shell);
    (void)thread_join(thread);
    ck_assert_int_eq(sqlite3_close(shell), SQLITE_OK);
    ck_assert_int_eq(stopper.error, ROTA_OK);
    ck_assert_int_eq(act.stop, ROTA_STOP_SHUTDOWN);
    ck_assert_str_eq(job_says(id, "state, cause, lease, failures"),
                     "cancelled|not this|1|0");
}
END_TEST

START_TEST(stop_may_be_called_at_any_time_and_again)
{
    int64_t id;

    open_with(1, at_once);
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_OK);
    start_workers();
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_OK);
    ck_assert_int_eq(rota_stop(rota, ROTA_FOREVER), ROTA_OK);
    id = submit();
    ck_assert_int_eq(rota_start(run, rota), ROTA_BUSY);
    close_queue();
    ck_assert_str_eq(job_says(id, "state, lease"), "ready|0");
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM workers"), 1);
}
END_TEST

START_TEST(the_end_of_the_workers_context_is_a_stop)
{
    int64_t id, next;

    begin(1, until_stopped);
    id = submit_running(1);
    (void)ctx_cancel_cause(run, "power");
    await_state(id, "ready");
    ck_assert_int_eq(act.stop, ROTA_STOP_SHUTDOWN);
    ck_assert_str_eq(act.words, "power");
    next = submit();
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_OK);
    ck_assert_int_eq(act.runs, 1);
    ck_assert_str_eq(job_says(next, "state, lease"), "ready|0");
}
END_TEST

START_TEST(the_workers_deadline_is_a_shutdown_to_the_job)
{
    int64_t id = 0;

    for (int64_t time = ROTA_MS(20); atomic_load(&act.runs) == 0; time *= 2) {
        open_with(1, until_stopped);
        id = submit();
        run = ctx_with_timeout(NULL, time);
        ck_assert_int_eq(rota_start(run, rota), ROTA_OK);
        (void)ctx_wait(run, ROTA_FOREVER);
        close_queue();
    }
    ck_assert_int_eq(act.code, ROTA_DEADLINE);
    ck_assert_int_eq(act.stop, ROTA_STOP_SHUTDOWN);
    ck_assert_str_eq(job_says(id, "state, failures"), "ready|0");
}
END_TEST

START_TEST(workers_that_start_under_an_ended_context_run_nothing)
{
    int64_t id;

    open_with(1, at_once);
    id = submit();
    run = ctx_with_cancel(NULL);
    (void)ctx_cancel(run);
    ck_assert_int_eq(rota_start(run, rota), ROTA_OK);
    close_queue();
    ck_assert_str_eq(job_says(id, "state, lease"), "ready|0");
}
END_TEST

/* -- Closing -------------------------------------------------------------- */

static enum rota_error
closes_its_scheduler(struct ctx *ctx, struct rota_job *job)
{
    act.error = rota_close(rota_job_rota(job));
    if (act.error == ROTA_INVALID)
        act.error = rota_stop(rota_job_rota(job), 0);
    if (act.error == ROTA_INVALID)
        act.error = rota_drain(ctx, rota_job_rota(job));
    (void)snprintf(act.words, sizeof(act.words), "%s", rota_errmsg(NULL));
    return ROTA_OK;
}

START_TEST(a_job_can_neither_close_nor_stop_nor_drain_the_scheduler_it_runs_on)
{
    begin(1, closes_its_scheduler);
    wait_for(submit());
    ck_assert_int_eq(act.error, ROTA_INVALID);
    ck_assert_str_eq(act.words, "a job cannot drain the scheduler it runs on");
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
}
END_TEST

START_TEST(close_stops_what_runs_first)
{
    int64_t id;

    begin(1, in_two_runs);
    id = submit_running(1);
    close_queue();
    ck_assert_int_eq(act.stop, ROTA_STOP_SHUTDOWN);
    ck_assert_str_eq(job_says(id, "state, done, failures"), "ready|4|0");
    ck_assert_int_eq(rota_close(NULL), ROTA_OK);
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_stopping(TCase *t)
{
    tcase_add_test(t, stop_gives_back_all_that_runs_and_all_that_is_claimed);
    tcase_add_test(t, claims_that_no_worker_comes_to_are_given_back);
    tcase_add_test(t, nothing_runs_any_more_when_stop_has_returned);
    tcase_add_test(t, grace_lets_a_job_finish);
    tcase_add_test(t, after_a_grace_the_job_is_told);
    tcase_add_loop_test(
        t, a_job_that_is_cancelled_and_shut_down_at_once_is_cancelled, 0, 2);
    tcase_add_test(t,
                   a_cancel_that_only_the_file_knows_of_goes_before_a_shutdown);
    tcase_add_test(t, stop_may_be_called_at_any_time_and_again);
    tcase_add_test(t, the_end_of_the_workers_context_is_a_stop);
    tcase_add_test(t, the_workers_deadline_is_a_shutdown_to_the_job);
    tcase_add_test(t, workers_that_start_under_an_ended_context_run_nothing);
}

static void
add_closing(TCase *t)
{
    tcase_add_test(
        t, a_job_can_neither_close_nor_stop_nor_drain_the_scheduler_it_runs_on);
    tcase_add_test(t, close_stops_what_runs_first);
}

int
main(void)
{
    Suite *suite = suite_create("stop");

    add_stopping(stage_case(suite, "stopping"));
    add_closing(stage_case(suite, "closing"));
    return suite_run(suite);
}
