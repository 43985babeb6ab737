/*
 * rota/group.h: a group's tasks run once each, the first failure calls the
 * others off, a limit holds, groups nest on a pool of any size, all of it
 * without memory too; and callbacks on a pool. Who runs what while a worker
 * waits is in test_group_wait.c.
 *
 * Tasks wait at a gate or for their context; the test counts who has come.
 */
#define _GNU_SOURCE
#include <check.h>
#include <stdatomic.h>

#include "faults.h"
#include "pool/pool.h"
#include "tasks.h"

/* -- One group ------------------------------------------------------------- */

START_TEST(every_task_runs_once_and_wait_comes_after_the_last)
{
    begin(_i, 0);
    for (int i = 0; i < MANY(20000); i++)
        rota_group_go(group, count, NULL);
    ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
    ck_assert_int_eq(ran, MANY(20000));
    rota_group_go(group, count, NULL); /* once more */
    ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
    ck_assert_int_eq(ran, MANY(20000) + 1);
    finish();
}
END_TEST

START_TEST(an_empty_group_has_been_waited_for)
{
    begin(1, 0);
    ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
    finish();
}
END_TEST

START_TEST(the_first_failure_calls_the_others_off_and_is_the_answer)
{
    begin(3, 0);
    rota_group_go(group, until_done, NULL);
    rota_group_go(group, until_done, NULL);
    AWAIT(ran == 2);
    rota_group_go(group, fail_as, AS(ROTA_FULL));
    ck_assert_int_eq(rota_group_wait(group), ROTA_FULL);
    ck_assert_int_eq(ctx_cause_code(rota_group_ctx(group)), ROTA_FULL);
    ck_assert_str_eq(ctx_cause(rota_group_ctx(group)),
                     rota_strerror(ROTA_FULL));
    /* a task that comes too late runs, and sees it */
    rota_group_go(group, until_done, NULL);
    ck_assert_int_eq(rota_group_wait(group), ROTA_FULL);
    ck_assert_int_eq(ran, 4);
    finish();
}
END_TEST

START_TEST(when_wait_returns_a_failure_the_context_has_ended)
{
    for (int i = 0; i < MANY(2000); i++) {
        begin(2, 0);
        rota_group_go(group, fail_as, AS(ROTA_FAILED));
        ck_assert_int_eq(rota_group_wait(group), ROTA_FAILED);
        ck_assert(ctx_done(rota_group_ctx(group)));
        finish();
    }
}
END_TEST

START_TEST(an_optional_task_that_fails_ends_nobody_and_is_kept)
{
    struct rota_failure failures[2];

    begin(2, 0);
    rota_group_go_optional(group, fail_as, AS(ROTA_TIMEOUT));
    ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
    ck_assert(!ctx_done(rota_group_ctx(group)));
    rota_group_go(group, fail_as, AS(ROTA_FATAL));
    ck_assert_int_eq(rota_group_wait(group), ROTA_FATAL);
    rota_group_go(group, fail_as, AS(ROTA_FULL));
    ck_assert_int_eq(rota_group_wait(group), ROTA_FATAL);
    ck_assert_uint_eq(rota_group_failures(group, failures, 2), 3);
    ck_assert_int_eq(failures[0].error, ROTA_TIMEOUT);
    ck_assert(failures[0].is_optional && !failures[1].is_optional);
    ck_assert_int_eq(failures[1].error, ROTA_FATAL);
    ck_assert_ptr_eq(failures[1].arg, AS(ROTA_FATAL));
    ck_assert_uint_eq(rota_group_failures(group, NULL, 0), 3);
    finish();
}
END_TEST

START_TEST(the_end_of_the_parent_is_the_answer_if_it_came_first)
{
    struct ctx *parent = ctx_with_cancel(NULL);
    struct rota_group *below;

    begin(2, 0);
    below = rota_group_open(parent, pool, 0);
    rota_group_go(below, behind_the_gate, NULL); /* which sees nothing of it */
    gate_await(&gate, 1);
    ctx_cancel_cause(parent, "no more");
    gate_open(&gate);
    ck_assert_int_eq(rota_group_wait(below), ROTA_CANCELED);
    ck_assert_str_eq(ctx_cause(rota_group_ctx(below)), "no more");
    ck_assert_int_eq(rota_group_close(below), ROTA_CANCELED);
    ctx_end(parent);
    finish();
}
END_TEST

START_TEST(an_end_after_the_last_task_turns_no_success_into_a_failure)
{
    struct ctx *parent = ctx_with_cancel(NULL);
    struct rota_group *below;

    begin(2, 0);
    below = rota_group_open(parent, pool, 0);
    rota_group_go(below, count, NULL);
    ck_assert_int_eq(rota_group_wait(below), ROTA_OK);
    ctx_cancel(parent);
    ck_assert_int_eq(rota_group_close(below), ROTA_OK);
    ctx_end(parent);
    finish();
}
END_TEST

START_TEST(never_more_than_the_limit_run_at_once)
{
    begin(4, _i);
    for (int i = 0; i < 1025; i++)
        rota_group_go(group, count, NULL);
    ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
    ck_assert_int_eq(ran, 1025);
    ck_assert_int_le(most, _i);
    finish();
}
END_TEST

START_TEST(try_go_does_nothing_at_the_limit)
{
    begin(2, 2);
    ck_assert(rota_group_try_go(group, behind_the_gate, NULL));
    ck_assert(rota_group_try_go(group, behind_the_gate, NULL));
    ck_assert(!rota_group_try_go(group, count, NULL));
    gate_open(&gate);
    ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
    ck_assert_int_eq(ran, 2);
    ck_assert(rota_group_try_go(group, count, NULL));
    finish();
}
END_TEST

START_TEST(many_are_given_at_once)
{
    void *args[1000] = {NULL};

    begin(3, _i);
    rota_group_go_many(group, count, args, 1000);
    ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
    ck_assert_int_eq(ran, 1000);
    if (_i > 0)
        ck_assert_int_le(most, _i);
    finish();
}
END_TEST

START_TEST(a_long_task_hides_no_other_from_idle_workers)
{
    begin(2, 0);
    rota_group_go(group, behind_the_gate, NULL);
    gate_await(&gate, 1);
    for (int i = 0; i < 100; i++)
        rota_group_go(group, count, NULL);
    AWAIT(ran == 100);
    gate_open(&gate);
    ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
    finish();
}
END_TEST

/* -- Groups in groups ------------------------------------------------------ */

#define DEPTH 10

/* Two below each, down to DEPTH. */
static enum rota_error
fork_and_join(struct ctx *ctx, void *arg)
{
    intptr_t depth = (intptr_t)arg;
    ROTA_GROUP_AUTO struct rota_group *below =
        rota_group_open(ctx, pool, (int)(depth % 3)); /* 0, 1 or 2 */

    atomic_fetch_add(&ran, 1);
    if (depth == DEPTH)
        return ROTA_OK;
    rota_group_go(below, fork_and_join, AS(depth + 1));
    rota_group_go(below, fork_and_join, AS(depth + 1));
    return rota_group_wait(below);
}

START_TEST(groups_nest_ten_deep_on_a_pool_of_any_size)
{
    begin(_i, 0);
    rota_group_go(group, fork_and_join, AS(0));
    ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
    ck_assert_int_eq(ran, (2 << DEPTH) - 1);
    finish();
}
END_TEST

static enum rota_error
fail_deep(struct ctx *ctx, void *arg)
{
    intptr_t depth = (intptr_t)arg;
    ROTA_GROUP_AUTO struct rota_group *below = rota_group_open(ctx, pool, 0);

    if (depth == 0)
        return ROTA_LOST;
    rota_group_go(below, fail_deep, AS(depth - 1));
    rota_group_go(below, until_done, NULL);
    return rota_group_wait(below);
}

START_TEST(a_failure_deep_inside_comes_all_the_way_out)
{
    begin(1, 0);
    rota_group_go(group, fail_deep, AS(DEPTH));
    ck_assert_int_eq(rota_group_wait(group), ROTA_LOST);
    finish();
}
END_TEST

/* A task that gives more tasks to its own group than there is room for. */
static enum rota_error
spread(struct ctx *ctx, void *arg)
{
    intptr_t n = (intptr_t)arg;

    (void)ctx;
    atomic_fetch_add(&ran, 1);
    for (intptr_t i = 0; i < n; i++)
        rota_group_go(group, spread, AS(i));
    ck_assert_int_eq(rota_group_wait(group), ROTA_INVALID);
    ck_assert_int_eq(rota_group_close(group), ROTA_INVALID);
    return ROTA_OK;
}

START_TEST(a_task_may_give_more_to_its_own_group_and_not_wait_for_it)
{
    begin(2, _i);
    rota_group_go(group, spread, AS(10));
    ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
    ck_assert_int_eq(ran, 1024);
    finish();
}
END_TEST

static enum rota_error
close_pool(struct ctx *ctx, void *arg)
{
    (void)ctx, (void)arg;
    return rota_pool_close(pool);
}

START_TEST(a_pool_is_not_closed_by_its_own_worker)
{
    begin(1, 0);
    rota_group_go(group, close_pool, NULL);
    ck_assert_int_eq(rota_group_wait(group), ROTA_INVALID);
    finish();
    ck_assert_int_eq(rota_pool_open(-1, &pool), ROTA_INVALID);
    ck_assert_int_eq(rota_pool_open(0, &pool), ROTA_OK);
    ck_assert_int_eq(rota_pool_close(pool), ROTA_OK);
    ck_assert_int_eq(rota_pool_close(NULL), ROTA_OK);
    ck_assert_int_eq(rota_group_close(NULL), ROTA_OK);
}
END_TEST

/* -- Without memory -------------------------------------------------------- */

#define TASKS 100
static atomic_int runs[TASKS];

static enum rota_error
run_of(struct ctx *ctx, void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return count(ctx, NULL);
}

/* Each task in each of the ways to give one; how many have been given. */
static int
give_in_all_ways(void)
{
    void *args[TASKS / 4];
    int given = TASKS / 4 * 3;

    for (int i = 0; i < TASKS / 4; i++) {
        args[i] = &runs[i];
        rota_group_go(group, run_of, &runs[TASKS / 4 + i]);
        rota_group_go_optional(group, run_of, &runs[TASKS / 4 * 2 + i]);
        given += rota_group_try_go(group, run_of, &runs[TASKS / 4 * 3 + i]);
    }
    rota_group_go_many(group, run_of, args, TASKS / 4);
    return given;
}

/* Each allocation fails in turn, alone or with all after it, and every task
 * runs all the same, once. */
START_TEST(without_memory_every_task_runs_all_the_same)
{
    bool has_failed = true, persists = _i >= 3;
    int limit = _i % 3;

    for (int n = 0; has_failed; n++) {
        enum rota_error error;
        int given;

        begin(2, limit);
        ck_assert_int_eq(rota_group_close(group), ROTA_OK);
        for (int i = 0; i < TASKS; i++)
            atomic_store(&runs[i], 0);
        persists ? faults_arm_from(n) : faults_arm(n);
        group = rota_group_open(NULL, pool, limit);
        given = give_in_all_ways();
        error = rota_group_wait(group);
        has_failed = faults_disarm();
        ck_assert_int_eq(ran, given);
        for (int i = 0; i < TASKS; i++)
            ck_assert_int_le(runs[i], 1);
        ck_assert(error == ROTA_OK || (has_failed && error == ROTA_NOMEM));
        ck_assert_int_eq(ctx_err(rota_group_ctx(group)), error);
        ck_assert_uint_eq(rota_group_failures(group, NULL, 0), 0);
        ck_assert(rota_group_try_go(group, count, NULL));
        ck_assert_int_eq(rota_group_close(group), error);
        group = rota_group_open(NULL, pool, limit); /* there is memory again */
        rota_group_go(group, fail_as, AS(ROTA_FULL));
        ck_assert_int_eq(rota_group_wait(group), ROTA_FULL);
        ck_assert_uint_eq(rota_group_failures(group, NULL, 0), 1);
        finish();
    }
}
END_TEST

/* With n allocations there are, and no more. */
/* Gives more than its worker's queue has room for. */
static enum rota_error
give_without_memory(struct ctx *ctx, void *arg)
{
    struct rota_group *below = arg;

    (void)ctx;
    faults_arm_from(0);
    for (int i = 0; i < 1000; i++)
        rota_group_go(below, count, NULL);
    return ROTA_OK;
}

START_TEST(without_memory_a_worker_runs_what_it_has_no_room_for)
{
    bool has_failed;

    begin(1, 0);
    rota_group_go(group, give_without_memory, group);
    AWAIT(ran == 1000);
    has_failed = faults_disarm();
    ck_assert(has_failed);
    ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
    finish();
}
END_TEST

START_TEST(without_memory_the_first_failure_ends_the_context_all_the_same)
{
    enum rota_error error;

    begin(2, 0);
    ck_assert_int_eq(rota_group_close(group), ROTA_OK);
    faults_arm_from(_i);
    group = rota_group_open(NULL, pool, 0);
    rota_group_go_optional(group, fail_as, AS(ROTA_TIMEOUT));
    rota_group_go(group, fail_as, AS(ROTA_FULL));
    rota_group_go(group, fail_as, AS(ROTA_FULL));
    error = rota_group_wait(group);
    ck_assert(faults_disarm());
    ck_assert_int_eq(ran, 3);
    if (_i < 2) { /* there is no group */
        ck_assert_int_eq(error, ROTA_NOMEM);
        ck_assert_int_eq(ctx_err(rota_group_ctx(group)), ROTA_NOMEM);
    } else {
        ck_assert_int_eq(error, ROTA_FULL);
        ck_assert_int_eq(ctx_cause_code(rota_group_ctx(group)), ROTA_FULL);
    }
    finish();
}
END_TEST

/* -- Callbacks on a pool --------------------------------------------------- */

static void
open_gate(void *arg)
{
    gate_open(arg);
}

static pthread_t caller;

static void
note_caller(void *arg)
{
    caller = pthread_self();
    count_up(arg);
}

START_TEST(without_memory_a_callback_runs_on_the_thread_that_ends_the_context)
{
    struct ctx *ctx = ctx_with_cancel(NULL);
    struct rota_pool_hook hook;
    atomic_int called = 0;
    bool has_ended;

    begin(1, 0);
    rota_pool_after(pool, ctx, &hook, note_caller, &called);
    _i ? faults_arm_from(0) : faults_arm(0);
    has_ended = ctx_cancel(ctx);
    ck_assert(faults_disarm() && has_ended);
    ck_assert_int_eq(called, 1);
    ck_assert(pthread_equal(caller, pthread_self()));
    ctx_end(ctx);
    ctx = ctx_with_cancel(NULL); /* and on the pool, when there is again */
    rota_pool_after(pool, ctx, &hook, note_caller, &called);
    ctx_end(ctx);
    finish();
    ck_assert_int_eq(called, 2);
    ck_assert(!pthread_equal(caller, pthread_self()));
}
END_TEST

START_TEST(a_callback_on_a_pool_does_not_hold_up_who_ends_the_context)
{
    struct ctx *ctx = ctx_with_cancel(NULL);
    struct rota_pool_hook hook, stopped;

    begin(1, 0);
    rota_group_go(group, behind_the_gate, NULL);
    gate_await(&gate, 1);
    rota_pool_after(pool, ctx, &hook, open_gate,
                    &gate); /* on that one worker */
    rota_pool_after(pool, ctx, &stopped, open_gate, NULL);
    ck_assert(ctx_hook_stop(&stopped.hook));
    ctx_cancel(ctx);
    ck_assert(!ctx_hook_stop(&hook.hook));
    ck_assert_int_eq(ran, 0);
    gate_open(&gate);
    finish();
    ctx_end(ctx);
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_one(TCase *t)
{
    tcase_add_loop_test(t, every_task_runs_once_and_wait_comes_after_the_last,
                        1, 5);
    tcase_add_test(t, an_empty_group_has_been_waited_for);
    tcase_add_test(t, the_first_failure_calls_the_others_off_and_is_the_answer);
    tcase_add_test(t, when_wait_returns_a_failure_the_context_has_ended);
    tcase_add_test(t, an_optional_task_that_fails_ends_nobody_and_is_kept);
    tcase_add_test(t, the_end_of_the_parent_is_the_answer_if_it_came_first);
    tcase_add_test(t,
                   an_end_after_the_last_task_turns_no_success_into_a_failure);
    tcase_add_loop_test(t, never_more_than_the_limit_run_at_once, 1, 6);
    tcase_add_test(t, try_go_does_nothing_at_the_limit);
    tcase_add_loop_test(t, many_are_given_at_once, 0, 3);
    tcase_add_test(t, a_long_task_hides_no_other_from_idle_workers);
}

static void
add_nested(TCase *t)
{
    tcase_add_loop_test(t, groups_nest_ten_deep_on_a_pool_of_any_size, 1, 5);
    tcase_add_test(t, a_failure_deep_inside_comes_all_the_way_out);
    tcase_add_loop_test(
        t, a_task_may_give_more_to_its_own_group_and_not_wait_for_it, 0, 4);
    tcase_add_test(t, a_pool_is_not_closed_by_its_own_worker);
}

static void
add_memory(TCase *t)
{
    tcase_add_loop_test(t, without_memory_every_task_runs_all_the_same, 0, 6);
    tcase_add_test(t, without_memory_a_worker_runs_what_it_has_no_room_for);
    tcase_add_loop_test(
        t, without_memory_the_first_failure_ends_the_context_all_the_same, 0,
        5);
}

static void
add_callbacks(TCase *t)
{
    tcase_add_loop_test(
        t, without_memory_a_callback_runs_on_the_thread_that_ends_the_context,
        0, 2);
    tcase_add_test(t,
                   a_callback_on_a_pool_does_not_hold_up_who_ends_the_context);
}

int
main(void)
{
    Suite *suite = suite_create("group");

    add_one(case_new(suite, "one"));
    add_nested(case_new(suite, "nested"));
    add_memory(case_new(suite, "without memory"));
    add_callbacks(case_new(suite, "callbacks"));
    return suite_run(suite);
}
