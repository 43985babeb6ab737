/*
 * Jobs that ignore that their context has ended: they are named, and nothing
 * hangs for them.
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

static const struct rota_defaults hasty = {.size = sizeof(struct rota_defaults),
                                           .grace = ROTA_MS(20)};
static const struct rota_defaults patient = {
    .size = sizeof(struct rota_defaults), .grace = ROTA_SEC(3600)};

static void
begin_deaf(const struct rota_defaults *defaults)
{
    open_queue(2);
    ck_assert_int_eq(rota_handle(rota, "k", held, NULL, defaults), ROTA_OK);
    start_workers();
}

static const char *
stuck_workers(void)
{
    return sql_text(queue, "SELECT stuck FROM workers");
}

static void
await_stuck(int64_t id)
{
    AWAIT(strcmp(job_says(id, "status"), "stuck") == 0);
}

/* -- Being told of -------------------------------------------------------- */

enum end { CANCEL, TIMEOUT, DEADLINE, SHUTDOWN, ENDS };

static int64_t
submit_ended(enum end end)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    int64_t id;

    s.timeout = end == TIMEOUT ? ROTA_MS(20) : 0;
    s.deadline = end == DEADLINE ? machine_clock(NULL) + 1000 : 0;
    id = submit_as(&s);
    AWAIT(atomic_load(&act.runs) == 1);
    if (end == CANCEL)
        ck_assert_int_eq(rota_cancel(rota, id, "enough", NULL), ROTA_OK);
    if (end == SHUTDOWN)
        ck_assert(ctx_cancel(run));
    return id;
}

START_TEST(a_job_that_ignores_its_context_is_called_stuck_after_its_grace)
{
    char name[32];
    int64_t id;

    begin_deaf(&hasty);
    ck_assert_str_eq(stuck_workers(), "NULL");
    id = submit_ended((enum end)_i);
    await_stuck(id);
    ck_assert_str_eq(job_says(id, "state"), "running");
    ck_assert_str_eq(job_says(id, _i == CANCEL
                                      ? "why LIKE 'has ignored for _ s that it"
                                        " should stop: enough'"
                                      : "why LIKE 'has ignored for _ s that it"
                                        " should stop'"),
                     "1");
    (void)snprintf(name, sizeof(name), "%" PRId64, id);
    ck_assert_str_eq(stuck_workers(), name);
    ck_assert(was_logged(id, "k has ignored for 0."));
    gate_open(&act.gate);
    wait_for(id);
    ck_assert_str_eq(job_says(id, "status"), "succeeded");
    ck_assert_str_eq(stuck_workers(), "NULL");
}
END_TEST

START_TEST(it_is_told_of_again_as_time_goes_by)
{
    int64_t id;

    begin_deaf(&hasty);
    id = submit_ended(CANCEL);
    AWAIT(was_logged(id, "ignored for 0.") && was_logged(id, "ignored for 1."));
    gate_open(&act.gate);
    wait_for(id);
}
END_TEST

START_TEST(a_job_within_its_grace_is_not_stuck)
{
    int64_t id, flush;

    begin_deaf(&patient);
    id = submit_ended(CANCEL);
    for (int i = 0; i < 2; i++) { /* the writer looks twice */
        lock_take(&rota->lock);
        flush = rota->next_flush;
        lock_drop(&rota->lock);
        for (bool has_passed = false; !has_passed;) {
            lock_take(&rota->lock);
            has_passed = rota->next_flush != flush;
            lock_drop(&rota->lock);
        }
    }
    ck_assert_str_eq(job_says(id, "status, why"),
                     "cancelling|cancel asked: enough");
    gate_open(&act.gate);
    wait_for(id);
}
END_TEST

START_TEST(a_stuck_job_holds_its_slot_and_the_others_go_on)
{
    int64_t id;

    open_queue(2);
    ck_assert_int_eq(rota_handle(rota, "k", held, NULL, &hasty), ROTA_OK);
    ck_assert_int_eq(rota_handle(rota, "other", at_once, NULL, NULL), ROTA_OK);
    start_workers();
    id = submit_ended(CANCEL);
    await_stuck(id);
    for (int i = 0; i < 20; i++) {
        struct rota_submission s = ROTA_SUBMISSION_INIT("other");

        wait_for(submit_as(&s));
        assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    }
    ck_assert_str_eq(job_says(id, "status"), "stuck");
    gate_open(&act.gate);
    wait_for(id);
}
END_TEST

START_TEST(a_grace_below_zero_is_refused)
{
    struct rota_defaults defaults = ROTA_DEFAULTS_INIT;

    defaults.grace = -1;
    open_queue(1);
    ck_assert_int_eq(rota_handle(rota, "k", held, NULL, &defaults),
                     ROTA_INVALID);
}
END_TEST

/* -- Stopping ------------------------------------------------------------- */

START_TEST(stop_and_close_name_a_stuck_job_and_do_not_hang)
{
    char part[64];
    int64_t id;

    begin_deaf(&hasty);
    id = submit_running(1);
    (void)snprintf(part, sizeof(part), "job %" PRId64 " (k) has ignored for",
                   id);
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_BUSY);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), part));
    ck_assert_int_eq(rota_close(rota), ROTA_BUSY);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), part));
    await_stuck(id);
    gate_open(&act.gate);
    wait_for(id); /* still open, and what it came to is recorded */
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
}
END_TEST

START_TEST(stop_says_how_many_are_stuck)
{
    int64_t one, two;

    begin_deaf(&hasty);
    one = submit_running(1);
    two = submit_running(1);
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_BUSY);
    ck_assert_ptr_nonnull(
        strstr(rota_errmsg(rota), "that it should stop, and 1 other"));
    gate_open(&act.gate);
    wait_for(one);
    wait_for(two);
}
END_TEST

static struct gate slow_gate;
static atomic_bool slow_ended;

static enum rota_error
slow(struct ctx *ctx, struct rota_job *job)
{
    (void)job;
    gate_pass(&slow_gate);
    atomic_store(&slow_ended, true);
    return ctx_err(ctx);
}

static void *
stop_it(void *arg)
{
    (void)arg;
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_BUSY);
    ck_assert(atomic_load(&slow_ended));
    return NULL;
}

static void
begin_with_slow(void)
{
    slow_gate = (struct gate)GATE_INIT;
    atomic_store(&slow_ended, false);
    open_queue(2);
    ck_assert_int_eq(rota_handle(rota, "k", held, NULL, &hasty), ROTA_OK);
    ck_assert_int_eq(rota_handle(rota, "slow", slow, NULL, &patient), ROTA_OK);
    start_workers();
}

START_TEST(stop_waits_for_the_others_all_the_same)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("slow");
    pthread_t stopper;
    int64_t id, other;

    begin_with_slow();
    other = submit_as(&s);
    gate_await(&slow_gate, 1);
    id = submit_running(1);
    stopper = thread_new(stop_it, NULL);
    await_stuck(id);
    AWAIT(sleepers() == 1);
    gate_open(&slow_gate);
    (void)thread_join(stopper);
    ck_assert_str_eq(job_says(other, "status"), "resumable");
    gate_open(&act.gate);
    wait_for(id);
}
END_TEST

static void *
stop_whole(void *arg)
{
    (void)arg;
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_OK);
    ck_assert(atomic_load(&slow_ended));
    return NULL;
}

START_TEST(a_job_that_was_stuck_and_returned_keeps_nobody)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("slow");
    pthread_t stopper;
    int64_t id;

    begin_with_slow();
    id = submit_running(1);
    ck_assert_int_eq(rota_cancel(rota, id, NULL, NULL), ROTA_OK);
    await_stuck(id);
    gate_open(&act.gate);
    wait_for(id);
    (void)submit_as(&s);
    gate_await(&slow_gate, 1);
    stopper = thread_new(stop_whole, NULL);
    AWAIT(sleepers() == 1);
    gate_open(&slow_gate);
    (void)thread_join(stopper);
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

int
main(void)
{
    Suite *suite = suite_create("stuck");
    TCase *told = stage_case(suite, "told"), *stop = stage_case(suite, "stop");

    tcase_add_loop_test(
        told, a_job_that_ignores_its_context_is_called_stuck_after_its_grace, 0,
        ENDS);
    tcase_add_test(told, it_is_told_of_again_as_time_goes_by);
    tcase_add_test(told, a_job_within_its_grace_is_not_stuck);
    tcase_add_test(told, a_stuck_job_holds_its_slot_and_the_others_go_on);
    tcase_add_test(told, a_grace_below_zero_is_refused);
    tcase_add_test(stop, stop_and_close_name_a_stuck_job_and_do_not_hang);
    tcase_add_test(stop, stop_says_how_many_are_stuck);
    tcase_add_test(stop, stop_waits_for_the_others_all_the_same);
    tcase_add_test(stop, a_job_that_was_stuck_and_returned_keeps_nobody);
    return suite_run(suite);
}
