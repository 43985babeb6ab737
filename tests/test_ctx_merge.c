/*
 * What include/rota/ctx.h promises of ctx_merge() and ctx_shield().
 */
#define _GNU_SOURCE
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "context/node.h"
#include "faults.h"
#include "support.h"

static struct ctx *parents[2];
static const char a_key, b_key, both_key;
static int values[2];

static void
setup(void)
{
    for (int i = 0; i < 2; i++)
        parents[i] = ctx_with_cancel(NULL);
}

static void
teardown(void)
{
    for (int i = 0; i < 2; i++)
        ctx_end(parents[i]);
}

/* -- Merge ----------------------------------------------------------------- */

START_TEST(either_parent_ends_it_with_its_error_and_cause)
{
    struct ctx *merged = ctx_merge(parents[0], parents[1]);
    struct ctx *child = ctx_with_cancel(merged);

    ck_assert(!ctx_done(merged));
    ctx_cancel_error(parents[_i], ROTA_FULL, "no room in %d", _i);
    ck_assert_int_eq(ctx_err(merged), ROTA_CANCELED);
    ck_assert_int_eq(ctx_cause_code(merged), ROTA_FULL);
    ck_assert_str_eq(ctx_cause(child), ctx_cause(parents[_i]));
    ctx_cancel_cause(parents[1 - _i], "later");
    ck_assert_str_eq(ctx_cause(merged), ctx_cause(parents[_i]));
    ctx_end(child);
    ctx_end(merged);
}
END_TEST

START_TEST(its_own_end_leaves_both_parents_live_and_untouched)
{
    struct ctx *merged = ctx_merge(parents[0], parents[1]);

    ck_assert_uint_eq(ctx_hooks(parents[1]), 1);
    ctx_end(merged);
    ck_assert(!ctx_done(parents[0]) && !ctx_done(parents[1]));
    ck_assert_uint_eq(ctx_hooks(parents[1]), 0);
    ck_assert_uint_eq(ctx_children(parents[0]), 0);
}
END_TEST

START_TEST(with_a_done_parent_it_is_born_done)
{
    struct ctx *merged;

    ctx_cancel_cause(parents[_i], "gone");
    merged = ctx_merge(parents[0], parents[1]);
    ck_assert_int_eq(ctx_err(merged), ROTA_CANCELED);
    ck_assert_str_eq(ctx_cause(merged), "gone");
    ctx_end(merged);
}
END_TEST

START_TEST(it_has_the_earlier_deadline_and_meets_it)
{
    struct ctx *timed[2] = {ctx_with_timeout(parents[0], ROTA_SEC(3600)),
                            ctx_with_timeout(parents[1], ROTA_SEC(3600))};
    struct ctx *soon = ctx_with_timeout(parents[_i], ROTA_MS(3)), *merged;

    merged = ctx_merge(timed[0], timed[1]);
    ck_assert_int_eq(ctx_deadline(merged), ctx_deadline(timed[0]));
    ctx_end(merged);
    merged = _i == 0 ? ctx_merge(soon, timed[1]) : ctx_merge(timed[0], soon);
    ck_assert_int_eq(ctx_deadline(merged), ctx_deadline(soon));
    ck_assert_int_eq(ctx_wait(merged, ROTA_FOREVER), ROTA_DEADLINE);
    ctx_end(merged);
    ctx_end(soon);
    ctx_end(timed[0]);
    ctx_end(timed[1]);
}
END_TEST

START_TEST(values_are_the_firsts_then_the_seconds)
{
    struct ctx *a = ctx_with_value(parents[0], &a_key, &values[0], NULL);
    struct ctx *both = ctx_with_value(a, &both_key, NULL, NULL);
    struct ctx *b = ctx_with_value(parents[1], &b_key, &values[1], NULL);
    struct ctx *second = ctx_with_value(b, &both_key, &values[1], NULL);
    struct ctx *merged = ctx_merge(both, second);
    struct ctx *twice = ctx_merge(parents[0], merged);

    ck_assert_ptr_eq(ctx_value(merged, &a_key), &values[0]);
    ck_assert_ptr_eq(ctx_value(merged, &b_key), &values[1]);
    ck_assert_ptr_null(ctx_value(merged, &both_key)); /* hidden with NULL */
    ck_assert_ptr_null(ctx_value(merged, &values));
    ck_assert_ptr_eq(ctx_value(twice, &b_key), &values[1]);
    ctx_end(twice);
    ctx_end(merged);
    ctx_end(second);
    ctx_end(b);
    ctx_end(both);
    ctx_end(a);
}
END_TEST

START_TEST(null_and_roots_are_parents_as_any)
{
    struct ctx *merged = ctx_merge(NULL, NULL);

    ck_assert(!ctx_done(merged));
    ctx_end(merged);
    merged = ctx_merge(ctx_todo(), parents[1]);
    ctx_cancel(parents[1]);
    ck_assert(ctx_done(merged));
    ctx_end(merged);
    merged = ctx_merge(&node_nomem.pub, NULL);
    ck_assert_int_eq(ctx_err(merged), ROTA_NOMEM);
    ctx_end(merged);
}
END_TEST

START_TEST(it_keeps_both_parents_when_their_handles_are_dropped)
{
    struct ctx *b = ctx_with_cancel(parents[1]), *merged;

    merged = ctx_merge(parents[0], b);
    ctx_unref(b);
    ctx_cancel_cause(parents[1], "from above");
    ck_assert_str_eq(ctx_cause(merged), "from above");
    ctx_end(merged);
}
END_TEST

static void *
cancel_parent(void *arg)
{
    gate_pass(arg);
    ctx_cancel(parents[1]);
    return NULL;
}

START_TEST(it_may_be_dropped_while_its_second_parent_ends)
{
    for (int i = 0; i < MANY(4000); i++) {
        struct gate gate = GATE_INIT;
        struct ctx *merged = ctx_merge(parents[0], parents[1]);
        pthread_t canceller = thread_new(cancel_parent, &gate);

        gate_await(&gate, 1);
        gate_open(&gate);
        if (i % 2 == 0)
            ctx_unref(merged);
        else
            ctx_end(merged);
        (void)thread_join(canceller);
        ctx_end(parents[1]);
        parents[1] = ctx_with_cancel(NULL);
    }
    ck_assert_uint_eq(ctx_children(parents[0]), 0);
}
END_TEST

static pthread_t dropper;

static void *
drop_body(void *merged)
{
    ctx_unref(merged);
    return NULL;
}

/* Another thread drops the last reference, and waits to free it. */
static void
drop_meanwhile(void *merged)
{
    dropper = thread_new(drop_body, merged);
    AWAIT(atomic_load(&node_of(merged)->refs) == 0);
}

START_TEST(end_of_the_second_parent_comes_too_late_for_what_is_being_freed)
{
    struct ctx *merged = ctx_merge(parents[0], parents[1]);

    /* the unlock after the sweep, then the one between taking a hook and
     * calling it */
    faults_meet("pthread_mutex_unlock", 1, drop_meanwhile, merged);
    ck_assert(ctx_cancel(parents[1]));
    (void)thread_join(dropper);
    ck_assert_uint_eq(ctx_children(parents[0]), 0);
    ck_assert(!ctx_done(parents[0]));
}
END_TEST

static void
drop(void *merged)
{
    ctx_unref(merged);
}

START_TEST(a_callback_of_its_own_may_drop_it_last)
{
    struct ctx *merged = ctx_merge(parents[0], parents[1]);
    struct ctx_hook hook;

    ctx_after(merged, &hook, drop, merged);
    ctx_cancel(parents[_i]);
    ck_assert_uint_eq(ctx_children(parents[0]), 0);
}
END_TEST

/* -- Chains ---------------------------------------------------------------- */

#define LONG 100000

/* Each merges a root, which is first, and the one before. */
static void *
chain_of_seconds(void *arg)
{
    struct ctx **all = calloc(LONG, sizeof(struct ctx *));
    struct ctx_hook *hooks = calloc(LONG, sizeof(*hooks));
    atomic_int ended = 0;

    (void)arg;
    ck_assert(all != NULL && hooks != NULL);
    all[0] = ctx_with_value(parents[0], &a_key, &values[0], NULL);
    for (int i = 1; i < LONG; i++) {
        all[i] = ctx_merge(NULL, all[i - 1]);
        if (i % 3 == 0)
            ctx_after(all[i], &hooks[i], count_up, &ended);
    }
    ck_assert_ptr_eq(ctx_value(all[LONG - 1], &a_key), &values[0]);
    ck_assert_ptr_null(ctx_value(all[LONG - 1], &values));
    ctx_cancel(parents[0]);
    for (int i = 0; i < LONG; i++)
        ck_assert(ctx_done(all[i]));
    ck_assert_int_eq(ended, (LONG - 1) / 3);
    for (int i = 0; i < LONG - 1; i++)
        ctx_unref(all[i]);
    ctx_end(all[LONG - 1]); /* and with it all */
    free(hooks);
    free(all);
    return NULL;
}

START_TEST(a_long_chain_of_second_parents_needs_no_deep_stack)
{
    pthread_attr_t small;
    pthread_t thread;

    ck_assert_int_eq(pthread_attr_init(&small), 0);
    ck_assert_int_eq(pthread_attr_setstacksize(&small, 256 << 10), 0);
    ck_assert_int_eq(pthread_create(&thread, &small, chain_of_seconds, NULL),
                     0);
    (void)thread_join(thread);
    ck_assert_int_eq(pthread_attr_destroy(&small), 0);
    ck_assert_uint_eq(ctx_children(parents[0]), 0);
}
END_TEST

static int noted[16], n_noted;

static void
note(void *number)
{
    noted[n_noted++] = *(int *)number;
}

/* One that is the second parent of many, themselves second parents. */
START_TEST(callbacks_of_what_merges_one_context_run_in_the_order_it_was_merged)
{
    struct ctx *middle = ctx_merge(NULL, parents[0]), *below[15];
    struct ctx_hook hooks[16];
    int numbers[16];

    n_noted = 0;
    for (int i = 0; i < 16; i++)
        numbers[i] = i;
    ctx_after(middle, &hooks[0], note, &numbers[0]);
    for (int i = 0; i < 15; i++) {
        below[i] = ctx_merge(NULL, middle);
        ctx_after(below[i], &hooks[i + 1], note, &numbers[i + 1]);
    }
    ctx_cancel(parents[0]);
    ck_assert_int_eq(n_noted, 16);
    for (int i = 0; i < 16; i++)
        ck_assert_int_eq(noted[i], i);
    for (int i = 0; i < 15; i++)
        ctx_end(below[i]);
    ctx_end(middle);
}
END_TEST

static struct ctx *last_of_chain;

static void
cancel_and_look(void *ctx)
{
    ctx_cancel(ctx);
    ck_assert(ctx_done(last_of_chain));
}

START_TEST(when_a_callback_of_one_cancels_another_what_merges_that_is_done)
{
    struct ctx *outer = ctx_merge(NULL, parents[0]);
    struct ctx *one = ctx_merge(NULL, parents[1]);
    struct ctx_hook hook;

    last_of_chain = ctx_merge(NULL, one);
    ctx_after(outer, &hook, cancel_and_look, parents[1]);
    ctx_cancel(parents[0]);
    ck_assert(ctx_done(last_of_chain));
    ctx_end(last_of_chain);
    ctx_end(one);
    ctx_end(outer);
}
END_TEST

/* -- Shield ---------------------------------------------------------------- */

START_TEST(shield_outlives_its_parent_for_the_grace_and_no_longer)
{
    struct ctx *value = ctx_with_value(parents[0], &a_key, &values[0], NULL);
    struct ctx *shield = ctx_shield(value, ROTA_SEC(3600)), *brief;

    ctx_cancel(parents[0]);
    brief = ctx_shield(value, ROTA_MS(2));
    ck_assert(!ctx_done(shield));
    ck_assert_ptr_eq(ctx_value(shield, &a_key), &values[0]);
    ck_assert_int_le(ctx_remaining(shield), ROTA_SEC(3600));
    ck_assert_int_eq(ctx_wait(brief, ROTA_FOREVER), ROTA_DEADLINE);
    ck_assert(!ctx_done(shield));
    ctx_end(brief);
    ctx_end(shield);
    ctx_end(value);
}
END_TEST

START_TEST(shield_without_memory_shields_all_the_same)
{
    struct ctx *shield;

    faults_arm(0); /* the values are lost */
    shield = ctx_shield(parents[0], ROTA_SEC(3600));
    ck_assert(faults_disarm());
    ctx_cancel(parents[0]);
    ck_assert(!ctx_done(shield));
    ck_assert_int_le(ctx_remaining(shield), ROTA_SEC(3600));
    ctx_end(shield);
    for (int persists = 0; persists < 2; persists++) {
        /* the grace, too */
        persists ? faults_arm_from(0) : faults_arm(1);
        shield = ctx_shield(parents[0], ROTA_SEC(3600));
        ck_assert(faults_disarm());
        ck_assert_ptr_eq(shield, ctx_background());
        ctx_end(shield);
    }
}
END_TEST

START_TEST(merge_without_memory_for_its_deadline_is_of_no_memory)
{
    struct ctx *timed = ctx_with_timeout(parents[1], ROTA_SEC(3600)), *merged;

    for (int i = 0; i < 4; i++) { /* the deadline, the rest; once, always */
        i < 2 ? faults_arm(i) : faults_arm_from(i - 2);
        merged = ctx_merge(parents[0], timed);
        ck_assert(faults_disarm());
        ck_assert_int_eq(ctx_err(merged), ROTA_NOMEM);
        ck_assert_str_eq(ctx_cause(merged), "out of memory");
        ctx_end(merged);
        ck_assert_uint_eq(ctx_children(parents[0]), 0);
        ck_assert_uint_eq(ctx_hooks(timed), 0);
    }
    merged = ctx_merge(parents[0], timed);
    ck_assert(!ctx_done(merged));
    ctx_end(merged);
    ctx_end(timed);
}
END_TEST

static Suite *
merge_suite(void)
{
    Suite *suite = suite_create("ctx_merge");
    TCase *merge = tcase_create("merge"), *shield = tcase_create("shield");
    TCase *cases[] = {merge, shield};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        tcase_add_checked_fixture(cases[i], setup, teardown);
        tcase_set_timeout(cases[i], 60);
        suite_add_tcase(suite, cases[i]);
    }
    tcase_add_loop_test(merge, either_parent_ends_it_with_its_error_and_cause,
                        0, 2);
    tcase_add_test(merge, its_own_end_leaves_both_parents_live_and_untouched);
    tcase_add_loop_test(merge, with_a_done_parent_it_is_born_done, 0, 2);
    tcase_add_loop_test(merge, it_has_the_earlier_deadline_and_meets_it, 0, 2);
    tcase_add_test(merge, values_are_the_firsts_then_the_seconds);
    tcase_add_test(merge, null_and_roots_are_parents_as_any);
    tcase_add_test(merge, it_keeps_both_parents_when_their_handles_are_dropped);
    tcase_add_test(merge, it_may_be_dropped_while_its_second_parent_ends);
    tcase_add_test(
        merge, end_of_the_second_parent_comes_too_late_for_what_is_being_freed);
    tcase_add_loop_test(merge, a_callback_of_its_own_may_drop_it_last, 0, 2);
    tcase_add_test(
        merge,
        callbacks_of_what_merges_one_context_run_in_the_order_it_was_merged);
    tcase_add_test(merge, a_long_chain_of_second_parents_needs_no_deep_stack);
    tcase_add_test(
        merge, when_a_callback_of_one_cancels_another_what_merges_that_is_done);
    tcase_add_test(merge,
                   merge_without_memory_for_its_deadline_is_of_no_memory);
    tcase_add_test(shield,
                   shield_outlives_its_parent_for_the_grace_and_no_longer);
    tcase_add_test(shield, shield_without_memory_shields_all_the_same);
    return suite;
}

int
main(void)
{
    return suite_run(merge_suite());
}
