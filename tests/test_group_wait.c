/*
 * rota/group.h: "a worker that waits on a group, or that finds it at its limit,
 * runs that group's queued tasks", wherever they are, and only those, in order,
 * and leaves nobody to starve.
 *
 * Workers are held in tasks at a gate, so that it is known who is free; what is
 * queued is looked for.
 */
#define _GNU_SOURCE
#include <check.h>
#include <sched.h>
#include <stdatomic.h>

#include "pool/pool.h"
#include "tasks.h"

static struct rota_group *inner;

static enum rota_error
wait_for_inner(struct ctx *ctx, void *arg)
{
    (void)ctx, (void)arg;
    atomic_fetch_add(&ran, 1);
    return rota_group_wait(inner);
}

START_TEST(a_worker_that_waits_is_woken_for_what_another_thread_gives)
{
    for (int i = 0; i < MANY(2000); i++) {
        begin(1, 0);
        inner = rota_group_open(NULL, pool, 0);
        rota_group_go(inner, count, NULL);
        rota_group_go(group, wait_for_inner, NULL);
        while (i % 4 != 0 && ran < 2) /* then it is asleep, or soon */
            (void)sched_yield();
        rota_group_go(inner, count, NULL);
        rota_group_go(inner, count, NULL);
        ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
        ck_assert_int_eq(rota_group_close(inner), ROTA_OK);
        ck_assert_int_eq(ran, 4);
        finish();
    }
}
END_TEST

/* Another worker waits for inner, whose only task is in this one's queue, while
 * this one waits for that other. */
static enum rota_error
wait_for_who_waits(struct ctx *ctx, void *has_others)
{
    ROTA_GROUP_AUTO struct rota_group *own = rota_group_open(ctx, pool, 0);

    inner = rota_group_open(ctx, pool, 0);
    rota_group_go(own, wait_for_inner, NULL);
    while (has_others != NULL && ran == 0) /* until another has that one */
        (void)sched_yield();
    rota_group_go(inner, count, NULL);
    ck_assert_int_eq(rota_group_wait(own), ROTA_OK);
    return rota_group_close(inner);
}

START_TEST(a_task_is_found_in_the_queue_of_one_that_waits_for_something_else)
{
    for (int i = 0; i < MANY(500); i++) {
        begin(_i, 0);
        rota_group_go(group, wait_for_who_waits, AS(_i > 1));
        ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
        ck_assert_int_eq(ran, 2);
        finish();
    }
}
END_TEST

static void
pass_gate(void *arg)
{
    gate_pass(arg);
}

static enum rota_error
wait_for_after(struct ctx *ctx, void *arg)
{
    (void)ctx;
    gate_pass(arg);
    return ROTA_OK;
}

/* What comes after is a callback, or a task of another group. */
START_TEST(the_end_of_a_group_is_told_before_its_worker_runs_anything_else)
{
    static const struct gate fresh = GATE_INIT;
    struct gate after = fresh;
    struct ctx *ctx = ctx_with_cancel(NULL);
    struct rota_pool_hook hook;
    struct rota_group *other;

    begin(1, 0);
    inner = rota_group_open(NULL, pool, 0);
    other = rota_group_open(NULL, pool, 0);
    rota_group_go(other, behind_the_gate, NULL);
    gate_await(&gate, 1); /* the worker is held until all is queued */
    rota_group_go(inner, count, NULL);
    rota_pool_after(pool, ctx, &hook, pass_gate, &after);
    if (_i == 0)
        ctx_cancel(ctx);
    else
        rota_group_go(group, wait_for_after, &after);
    for (int i = 0; i < 4; i++) /* so that it fetches both at once */
        rota_group_go(other, count, NULL);
    gate_open(&gate);
    ck_assert_int_eq(rota_group_close(inner), ROTA_OK);
    gate_open(&after);
    ck_assert_int_eq(rota_group_close(other), ROTA_OK);
    (void)ctx_hook_stop(&hook.hook);
    finish();
    ctx_end(ctx);
}
END_TEST

/* Gives many and does not wait for them. */
static enum rota_error
give_and_go_on(struct ctx *ctx, void *arg)
{
    (void)ctx;
    for (int i = 0; i < 2000; i++)
        rota_group_go(inner, count, arg);
    gate_pass(&gate);
    return ROTA_OK;
}

START_TEST(what_a_worker_has_queued_is_run_by_others_while_it_goes_on)
{
    begin(_i, 0);
    inner = rota_group_open(NULL, pool, 0);
    rota_group_go(group, give_and_go_on, NULL);
    ck_assert_int_eq(rota_group_wait(inner), ROTA_OK);
    AWAIT(ran == 2000);
    gate_open(&gate);
    ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
    ck_assert_int_eq(rota_group_close(inner), ROTA_OK);
    finish();
}
END_TEST

/* Its own group's tasks lie among those of others, on its worker's queue. */
static enum rota_error
wait_in_between(struct ctx *ctx, void *others)
{
    ROTA_GROUP_AUTO struct rota_group *own = rota_group_open(ctx, pool, 0);

    for (int i = 0; i < 6; i++) {
        rota_group_go(others, until_done, NULL);
        if (i == 1 || i == 3)
            rota_group_go(own, count, NULL);
    }
    ck_assert_int_eq(rota_group_wait(own), ROTA_OK);
    ck_assert_int_eq(ran, 2);
    return rota_group_wait(inner);
}

START_TEST(who_waits_takes_its_tasks_from_among_others_and_leaves_those)
{
    struct rota_group *others;
    atomic_int plain = 0;

    begin(1, 0);
    inner = rota_group_open(NULL, pool, 0);
    others = rota_group_open(NULL, pool, 0);
    rota_group_go(group, behind_the_gate, NULL);
    gate_await(&gate, 1); /* the worker is held until all is queued */
    rota_group_go(group, wait_in_between, others);
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(pool_submit(pool, count_up, &plain), ROTA_OK);
        if (i % 3 == 1)
            rota_group_go(inner, count, NULL);
    }
    ran = -1; /* not counted: the one behind the gate */
    gate_open(&gate);
    AWAIT(ran > 3); /* wait_in_between() is over, and another's task begun */
    ck_assert_int_eq(rota_group_wait(inner), ROTA_OK);
    ctx_cancel(rota_group_ctx(others));
    ck_assert_int_eq(rota_group_close(others), ROTA_CANCELED);
    ck_assert_int_eq(rota_group_close(inner), ROTA_OK);
    ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
    finish();
    ck_assert_int_eq(plain, 6);
}
END_TEST

/* A pool_fn. */
static void
open_a_group(void *arg)
{
    struct rota_group *own = rota_group_open(NULL, pool, 0);

    (void)arg;
    rota_group_go(own, count, NULL);
    rota_group_go(own, count, NULL);
    ck_assert_int_eq(rota_group_close(own), ROTA_OK);
}

START_TEST(what_runs_on_a_pool_and_in_no_group_may_open_some)
{
    begin(_i, 0);
    rota_group_go(group, behind_the_gate, NULL);
    gate_await(&gate, 1);
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(pool_submit(pool, open_a_group, NULL), ROTA_OK);
    gate_open(&gate);
    AWAIT(ran == 41);
    finish();
}
END_TEST

static struct rota_pool *second;

static enum rota_error
wait_on_the_second_pool(struct ctx *ctx, void *arg)
{
    ROTA_GROUP_AUTO struct rota_group *there = rota_group_open(ctx, second, 0);

    (void)arg;
    rota_group_go(there, count, NULL);
    return rota_group_wait(there);
}

START_TEST(a_task_may_wait_for_a_group_on_another_pool)
{
    begin(1, 0);
    ck_assert_int_eq(rota_pool_open(1, &second), ROTA_OK);
    for (int i = 0; i < 100; i++)
        rota_group_go(group, wait_on_the_second_pool, NULL);
    ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
    ck_assert_int_eq(ran, 100);
    finish();
    ck_assert_int_eq(rota_pool_close(second), ROTA_OK);
}
END_TEST

static atomic_int order[100], n_order;

static enum rota_error
note_order(struct ctx *ctx, void *arg)
{
    (void)ctx;
    order[n_order++] = (int)(intptr_t)arg;
    return ROTA_OK;
}

static enum rota_error
give_in_order(struct ctx *ctx, void *arg)
{
    ROTA_GROUP_AUTO struct rota_group *own = rota_group_open(ctx, pool, 0);

    (void)arg;
    for (intptr_t i = 0; i < 100; i++)
        rota_group_go(own, note_order, AS(i));
    return rota_group_wait(own);
}

START_TEST(a_worker_that_waits_begins_with_what_it_gave_first)
{
    begin(1, 0);
    n_order = 0;
    rota_group_go(group, give_in_order, NULL);
    ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(order[i], i);
    finish();
}
END_TEST

/* Never lets its worker run out of tasks. */
static enum rota_error
again_until_gate(struct ctx *ctx, void *arg)
{
    (void)ctx;
    if (ran == 0)
        rota_group_go(group, again_until_gate, arg);
    return ROTA_OK;
}

START_TEST(tasks_that_go_on_giving_tasks_do_not_starve_what_others_give)
{
    begin(1, 0);
    rota_group_go(group, again_until_gate, NULL);
    rota_group_go(group, count, NULL);
    ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
    ck_assert_int_eq(ran, 1);
    finish();
}
END_TEST

/* Two levels inside a group that is full with what waits for this. */
static enum rota_error
go_on_the_full_group(struct ctx *ctx, void *arg)
{
    intptr_t depth = (intptr_t)arg;
    ROTA_GROUP_AUTO struct rota_group *own = rota_group_open(ctx, pool, 0);

    if (depth > 0) {
        rota_group_go(own, go_on_the_full_group, AS(depth - 1));
        return rota_group_wait(own);
    }
    rota_group_go(group, count, NULL);
    ck_assert_int_eq(rota_group_wait(group), ROTA_INVALID);
    return ROTA_OK;
}

START_TEST(a_task_deep_inside_a_full_group_runs_what_it_gives_it)
{
    begin(2, 1);
    rota_group_go(group, go_on_the_full_group, AS(2));
    ck_assert_int_eq(rota_group_wait(group), ROTA_OK);
    ck_assert_int_eq(ran, 1);
    finish();
}
END_TEST

/* Each level leaves a group behind that outlives the one it was opened in. */
static enum rota_error
leave_behind(struct ctx *ctx, void *arg)
{
    struct rota_group **left = arg;

    (void)ctx;
    *left = rota_group_open(NULL, pool, 0);
    return ROTA_OK;
}

START_TEST(a_group_may_outlive_the_one_that_it_was_opened_in)
{
    struct rota_group *left = NULL;

    begin(1, 0);
    rota_group_go(group, leave_behind, &left);
    ck_assert_int_eq(rota_group_close(group), ROTA_OK);
    rota_group_go(left, count, NULL);
    ck_assert_int_eq(rota_group_wait(left), ROTA_OK);
    ck_assert_int_eq(rota_group_close(left), ROTA_OK);
    ck_assert_int_eq(ran, 1);
    ck_assert_int_eq(rota_pool_close(pool), ROTA_OK);
}
END_TEST

static enum rota_error
give_what_fails(struct ctx *ctx, void *arg)
{
    (void)arg;
    rota_group_go_optional(group, fail_as, AS(ROTA_TIMEOUT));
    ck_assert(!ctx_done(ctx));
    rota_group_go(group, fail_as, AS(ROTA_FULL));
    ck_assert(ctx_done(ctx));
    rota_group_go(group, fail_as, AS(ROTA_LOST));
    return ROTA_OK;
}

START_TEST(tasks_that_their_own_group_has_no_room_for_fail_as_any)
{
    struct rota_failure failures[3];

    begin(2, 1);
    rota_group_go(group, give_what_fails, NULL);
    ck_assert_int_eq(rota_group_wait(group), ROTA_FULL);
    ck_assert_int_eq(ctx_cause_code(rota_group_ctx(group)), ROTA_FULL);
    ck_assert_int_eq(ran, 3);
    ck_assert_uint_eq(rota_group_failures(group, failures, 3), 3);
    ck_assert_int_eq(failures[0].error, ROTA_TIMEOUT);
    ck_assert(failures[0].is_optional && !failures[1].is_optional);
    ck_assert_int_eq(failures[1].error, ROTA_FULL);
    ck_assert_ptr_eq(failures[1].arg, AS(ROTA_FULL));
    ck_assert_int_eq(failures[2].error, ROTA_LOST);
    finish();
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_wait(TCase *t)
{
    tcase_add_test(t,
                   a_worker_that_waits_is_woken_for_what_another_thread_gives);
    tcase_add_loop_test(
        t, a_task_is_found_in_the_queue_of_one_that_waits_for_something_else, 1,
        4);
    tcase_add_loop_test(
        t, the_end_of_a_group_is_told_before_its_worker_runs_anything_else, 0,
        2);
    tcase_add_loop_test(
        t, what_a_worker_has_queued_is_run_by_others_while_it_goes_on, 2, 4);
    tcase_add_test(
        t, who_waits_takes_its_tasks_from_among_others_and_leaves_those);
    tcase_add_loop_test(t, what_runs_on_a_pool_and_in_no_group_may_open_some, 1,
                        3);
    tcase_add_test(t, a_task_may_wait_for_a_group_on_another_pool);
    tcase_add_test(t, a_worker_that_waits_begins_with_what_it_gave_first);
    tcase_add_test(
        t, tasks_that_go_on_giving_tasks_do_not_starve_what_others_give);
    tcase_add_test(t, a_task_deep_inside_a_full_group_runs_what_it_gives_it);
    tcase_add_test(t, a_group_may_outlive_the_one_that_it_was_opened_in);
    tcase_add_test(t, tasks_that_their_own_group_has_no_room_for_fail_as_any);
}

int
main(void)
{
    Suite *suite = suite_create("group_wait");

    add_wait(case_new(suite, "wait"));
    return suite_run(suite);
}
