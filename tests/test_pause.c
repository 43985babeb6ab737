/*
 * rota_pause(), rota_resume() and rota_reschedule(): what holds a job back
 * until it is let go, and that "while it waits, why in the view jobs says for
 * what".
 *
 * Nothing is ordered by time but that a paused queue's job does not start, for
 * which 20 ms are waited.
 */
#define _GNU_SOURCE
#include <check.h>
#include <inttypes.h>

#include "scratch.h"
#include "stage.h"
#include "ties.h"

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

START_TEST(a_job_that_waits_can_be_moved)
{
    int64_t soonest = -1, never = INT64_C(99999999999999), now = 0;
    int64_t a, b, c;

    open_with(1, fails_if_told);
    a = submit();
    b = submit();
    c = submit_after(b, 0);
    ck_assert_int_eq(rota_reschedule(rota, b, &soonest, NULL), ROTA_OK);
    ck_assert_int_eq(rota_reschedule(rota, c, NULL, &never), ROTA_OK);
    assert_says(c, "state, run_at", "blocked|99999999999999");
    ck_assert_int_eq(step(), b);
    assert_says(c, "state", "scheduled");
    ck_assert_int_eq(step(), a);
    ck_assert_int_eq(step(), 0);
    ck_assert_int_eq(rota_reschedule(rota, c, NULL, &now), ROTA_OK);
    ck_assert_int_eq(step(), c);
    ck_assert_int_eq(rota_reschedule(rota, c, NULL, &now), ROTA_INVALID);
    ck_assert_int_eq(rota_reschedule(rota, 99, NULL, &now), ROTA_NOTFOUND);
    now = -1;
    ck_assert_int_eq(rota_reschedule(rota, c, NULL, &now), ROTA_INVALID);
    ck_assert_str_eq(
        sql_try(queue, "INSERT INTO reschedule(job, run_at) VALUES(1, 1)"),
        "reschedule: the job does not wait any more");
}
END_TEST

START_TEST(a_job_that_workers_are_started_for_waits_for_its_queue_too)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    int64_t id, running, process;

    open_with(2, held);
    sql_run(queue, "INSERT INTO set_limit(queue, max_running)"
                   " VALUES('one', 1)");
    ck_assert_int_eq(rota_pause(rota, "one"), ROTA_OK);
    s.queue = "one";
    running = submit_as(&s);
    id = submit_as(&s);
    run = ctx_with_cancel(NULL);
    ck_assert_int_eq(rota_start_job(run, rota, id), ROTA_OK);
    (void)submit(); /* a cycle that could claim */
    ck_assert_str_eq(job_says(id, "state, why"), "ready|its queue is paused");
    process = sql_int(queue, "SELECT max(id) FROM workers");
    sql_run(queue,
            "INSERT INTO _running(id, lease, process, claimed_at, queue)"
            " SELECT id, 1, %jd, 0, queue FROM _job WHERE id = %jd;"
            " DELETE FROM _ready WHERE id = %jd",
            (intmax_t)process, (intmax_t)running, (intmax_t)running);
    ck_assert_int_eq(rota_resume(rota, "one"), ROTA_OK);
    ck_assert_str_eq(job_says(id, "state, why"),
                     "ready|its queue runs 1 at a time");
    ck_assert_int_eq(rota_limit_queue(rota, "one", 2), ROTA_OK);
    gate_open(&act.gate);
    wait_for(id);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    sql_run(queue, "DELETE FROM _running");
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_pause(TCase *t)
{
    tcase_add_test(t, a_job_that_waits_says_which_worker_it_lacks);
    tcase_add_loop_test(t, of_a_paused_queue_no_job_starts_until_it_is_resumed,
                        0, 2);
    tcase_add_test(t, a_job_that_waits_can_be_moved);
    tcase_add_test(t,
                   a_job_that_workers_are_started_for_waits_for_its_queue_too);
}

int
main(void)
{
    Suite *suite = suite_create("pause");

    add_pause(stage_case(suite, "pause"));
    return suite_run(suite);
}
