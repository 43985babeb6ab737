/*
 * Limits, of a queue and of a key: no more run at once, who is held says so and
 * holds up nobody else, and a place that is left is taken.
 *
 * Jobs that count who runs are given time to meet; nothing depends on it that
 * they do. The rest is stepped through on the test's thread.
 */
#define _GNU_SOURCE
#include <check.h>
#include <string.h>

#include "scratch.h"
#include "stage.h"
#include "ties.h"

static atomic_int at_once_now, at_once_most;

static enum rota_error
counts_who_runs(struct ctx *ctx, struct rota_job *job)
{
    int now = atomic_fetch_add(&at_once_now, 1) + 1;
    int most = atomic_load(&at_once_most);

    (void)ctx;
    (void)job;
    while (now > most &&
           !atomic_compare_exchange_weak(&at_once_most, &most, now))
        continue;
    sched_yield();
    atomic_fetch_sub(&at_once_now, 1);
    atomic_fetch_add(&act.runs, 1);
    return ROTA_OK;
}

START_TEST(of_a_queue_no_more_run_at_once_than_its_limit)
{
    at_once_most = 0;
    open_with(4, counts_who_runs);
    ck_assert_int_eq(rota_limit_queue(rota, "q", 2), ROTA_OK);
    start_workers();
    submit_limited(200, NULL, "q");
    AWAIT(atomic_load(&act.runs) == 200);
    ck_assert_int_le(at_once_most, 2);
    drain();
}
END_TEST

START_TEST(of_a_key_no_more_run_at_once_than_its_limit)
{
    at_once_most = 0;
    open_with(4, counts_who_runs);
    if (_i > 1)
        ck_assert_int_eq(rota_limit_key(rota, "a", _i), ROTA_OK);
    start_workers();
    submit_limited(100, "a", "q");
    submit_limited(100, "a", "r");
    drain();
    ck_assert_int_eq(act.runs, 200);
    ck_assert_int_le(at_once_most, _i);
}
END_TEST

START_TEST(a_job_that_a_limit_holds_says_so)
{
    struct rota_submission submission = submission_of(NULL);
    int64_t id, keyed;

    open_with(4, held);
    ck_assert_int_eq(rota_limit_queue(rota, NULL, 1), ROTA_OK);
    start_workers();
    (void)submit_running(1);
    id = submit();
    assert_says(id, "state, why", "ready|its queue runs 1 at a time");
    ck_assert_str_eq(
        sql_text(queue, "SELECT queue, max_running, running FROM queues"),
        "default|1|1");
    sql_run(queue, "INSERT INTO set_limit(queue, max_running)"
                   " VALUES('default', NULL)");
    AWAIT(atomic_load(&act.runs) == 2);
    submission.limit_key = "x";
    (void)submit_as(&submission);
    AWAIT(atomic_load(&act.runs) == 3);
    keyed = submit_as(&submission);
    AWAIT(strcmp(job_says(keyed, "status"), "held") == 0);
    assert_says(keyed, "state, why", "ready|of the key x 1 runs at a time");
    ck_assert_str_eq(sql_text(queue, "SELECT * FROM limits"), "x|1|1|1");
    sql_run(queue, "INSERT INTO set_limit(limit_key, max_running)"
                   " VALUES('x', 2)");
    AWAIT(atomic_load(&act.runs) == 4);
    gate_open(&act.gate);
    drain();
}
END_TEST

START_TEST(a_key_at_its_limit_holds_up_no_other)
{
    int n = MANY(20000);
    int64_t other;

    open_with(2, held);
    sql_run(queue,
            "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n"
            " WHERE i < %d) INSERT INTO submit(kind, limit_key)"
            " SELECT 'k', 'x' FROM n",
            n);
    start_workers();
    AWAIT(atomic_load(&act.runs) == 1);
    other = submit();
    AWAIT(atomic_load(&act.runs) == 2);
    ck_assert_str_eq(job_says(other, "state"), "running");
    /* each was stepped over once, and is out of the way */
    ck_assert_int_eq(sql_int(queue, "SELECT held FROM limits"), n - 1);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM _ready"), 0);
    ck_assert_int_eq(rota_limit_key(rota, "x", 1000000), ROTA_OK);
    gate_open(&act.gate);
    drain();
    ck_assert_int_eq(act.runs, n + 1);
}
END_TEST

START_TEST(a_held_job_can_be_cancelled_and_rescheduled)
{
    struct rota_submission submission = submission_of(NULL);
    int64_t sooner = -5, cancelled, moved;

    submission.limit_key = "x";
    begin(2, held);
    (void)submit_as(&submission);
    AWAIT(atomic_load(&act.runs) == 1);
    cancelled = submit_as(&submission);
    moved = submit_as(&submission);
    AWAIT(strcmp(job_says(moved, "status"), "held") == 0);
    ck_assert_int_eq(rota_reschedule(rota, moved, &sooner, NULL), ROTA_OK);
    ck_assert_int_eq(rota_cancel(rota, cancelled, "no", NULL), ROTA_OK);
    assert_says(cancelled, "state, why", "cancelled|no");
    gate_open(&act.gate);
    drain();
    assert_says(moved, "state, priority", "succeeded|-5");
    ck_assert_int_eq(act.runs, 2);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM _held"), 0);
}
END_TEST

/* How a job that is ready leaves the line, but not to run. */
static const char *const leavings[] = {
    "INSERT INTO cancel(job) VALUES(2)",
    "INSERT INTO reschedule(job, run_at) VALUES(2, 99999999999999)",
    /* its deadline has passed, as soon as somebody looks */
    ("UPDATE _job SET deadline_at = 1, ties = ties | 2 WHERE id = 2;"
     "INSERT INTO _deadline VALUES(1, 2)"),
};

START_TEST(a_job_in_turn_that_does_not_run_leaves_its_turn_to_those_held)
{
    struct rota_submission submission = submission_of(NULL);

    submission.limit_key = "x";
    begin(2, held);
    for (int i = 0; i < 3; i++)
        (void)submit_as(&submission);
    AWAIT(strcmp(job_says(3, "status"), "held") == 0);
    ck_assert_int_eq(rota_pause(rota, NULL), ROTA_OK);
    gate_open(&act.gate);
    wait_for(1);
    assert_says(2, "status", "paused"); /* not held any more */
    assert_says(3, "status", "held");
    sql_run(queue, "%s", leavings[_i]);
    ck_assert_int_eq(rota_resume(rota, NULL), ROTA_OK);
    wait_for(3);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
}
END_TEST

/* One runs, as somebody else's, and the rest are held. */
static void
hold_rest(int n)
{
    for (int i = 0; i < n; i++)
        sql_run(queue, "INSERT INTO submit(kind, limit_key) VALUES('k', 'a')");
    sql_run(queue, "INSERT INTO _running(id, lease, process, claimed_at, queue,"
                   " limit_key) VALUES(1, 1, 99, 0, 1, 'a');"
                   "DELETE FROM _ready WHERE id = 1;"
                   "INSERT INTO _held SELECT 'a', queue, kind, sort_key, id"
                   " FROM _ready; DELETE FROM _ready");
}

START_TEST(a_drain_does_not_wait_for_those_held_in_a_paused_queue)
{
    open_with(1, fails_if_told);
    hold_rest(2);
    ck_assert_int_eq(rota_pause(rota, NULL), ROTA_OK);
    start_workers();
    drain();
    assert_says(2, "status", "held");
}
END_TEST

START_TEST(the_one_job_of_its_workers_is_not_held_behind_others)
{
    open_with(1, fails_if_told);
    hold_rest(3);
    sql_run(queue, "DELETE FROM _running; INSERT INTO _ready"
                   " SELECT queue, kind, sort_key, id FROM _held WHERE id = 2;"
                   "DELETE FROM _held WHERE id = 2");
    run = ctx_with_cancel(NULL);
    ck_assert_int_eq(rota_start_job(run, rota, 3), ROTA_OK);
    wait_for(3);
    assert_says(3, "state", "succeeded");
    assert_says(2, "state", "ready");
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_limits(TCase *t)
{
    tcase_add_test(t, of_a_queue_no_more_run_at_once_than_its_limit);
    tcase_add_loop_test(t, of_a_key_no_more_run_at_once_than_its_limit, 1, 4);
    tcase_add_test(t, a_job_that_a_limit_holds_says_so);
    tcase_add_test(t, a_key_at_its_limit_holds_up_no_other);
    tcase_add_test(t, a_held_job_can_be_cancelled_and_rescheduled);
    tcase_add_loop_test(
        t, a_job_in_turn_that_does_not_run_leaves_its_turn_to_those_held, 0,
        (int)(sizeof(leavings) / sizeof(leavings[0])));
    tcase_add_test(t, a_drain_does_not_wait_for_those_held_in_a_paused_queue);
    tcase_add_test(t, the_one_job_of_its_workers_is_not_held_behind_others);
}

int
main(void)
{
    Suite *suite = suite_create("limits");

    add_limits(stage_case(suite, "limits"));
    return suite_run(suite);
}
