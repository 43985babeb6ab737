/*
 * What include/rota/ctx.h promises of deadlines and of waiting.
 */
#define _GNU_SOURCE
#include <check.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "context/node.h"
#include "support.h"

/* -- Deadlines ----------------------------------------------------------------
 */

START_TEST(deadline_fires_by_itself)
{
    struct ctx *ctx = ctx_with_timeout(NULL, ROTA_MS(2));
    struct ctx *child = ctx_with_timeout(ctx, ROTA_SEC(3600));
    int64_t due = ctx_deadline(ctx);

    AWAIT(ctx_done(child));
    ck_assert_int_ge(ctx_now(), due);
    ck_assert_int_eq(ctx_err(ctx), ROTA_DEADLINE);
    ck_assert_int_eq(ctx_err(child), ROTA_DEADLINE);
    ck_assert_str_eq(ctx_cause(child), "context deadline exceeded");
    ck_assert_int_eq(ctx_cause_code(child), ROTA_DEADLINE);
    ck_assert_int_eq(ctx_remaining(ctx), 0);
    ctx_end(child);
    ctx_end(ctx);
}
END_TEST

static const int64_t past[] = {0, -1, -ROTA_SEC(5), INT64_MIN};

START_TEST(deadline_that_has_passed_gives_a_context_born_done)
{
    struct ctx *parent = ctx_with_timeout(NULL, ROTA_SEC(3600));
    struct ctx *ctx = ctx_with_timeout(parent, past[_i]);

    ck_assert_int_eq(ctx_err(ctx), ROTA_DEADLINE);
    ck_assert(!ctx_cancel(ctx));
    ck_assert(!ctx_done(parent));
    ctx_unref(ctx);
    ctx = ctx_with_deadline(parent, ctx_now());
    ck_assert_int_eq(ctx_err(ctx), ROTA_DEADLINE);
    ctx_unref(ctx);
    ctx = ctx_with_deadline_cause(parent, past[_i], "long gone");
    ck_assert_str_eq(ctx_cause(ctx), "long gone");
    ctx_unref(ctx);
    ctx_end(parent);
}
END_TEST

START_TEST(passed_deadline_is_born_done_though_the_parents_timer_is_late)
{
    /* races the service thread for the parent's deadline: either way */
    for (int i = 0; i < 200; i++) {
        int64_t deadline = ctx_now() + ROTA_US(50);
        struct ctx *parent = ctx_with_deadline(NULL, deadline), *ctx;

        while (ctx_now() < deadline)
            continue;
        ctx = ctx_with_deadline(parent, deadline);
        ck_assert_int_eq(ctx_err(ctx), ROTA_DEADLINE);
        ck_assert_int_eq(ctx_err(parent), ROTA_DEADLINE);
        ctx_end(ctx);
        ctx_end(parent);
    }
}
END_TEST

START_TEST(deadline_is_the_earliest_from_here_to_the_root)
{
    int64_t now = ctx_now();
    struct ctx *a = ctx_with_deadline(NULL, now + ROTA_SEC(100));
    struct ctx *b = ctx_with_deadline(a, now + ROTA_SEC(200));
    struct ctx *c = ctx_with_deadline(b, now + ROTA_SEC(50));
    struct ctx *d = ctx_with_value(c, &now, NULL, NULL);

    ck_assert_int_eq(ctx_deadline(a), now + ROTA_SEC(100));
    ck_assert_int_eq(ctx_deadline(b), now + ROTA_SEC(100));
    ck_assert_int_eq(ctx_deadline(c), now + ROTA_SEC(50));
    ck_assert_int_eq(ctx_deadline(d), now + ROTA_SEC(50));
    ck_assert_int_le(ctx_remaining(d), ROTA_SEC(50));
    ck_assert_int_gt(ctx_remaining(d), ROTA_SEC(10));
    ctx_end(a);
    ck_assert_int_eq(ctx_deadline(d), now + ROTA_SEC(50));
    ctx_end(b);
    ctx_end(c);
    ctx_end(d);
}
END_TEST

START_TEST(deadline_not_earlier_than_the_parents_arms_no_timer)
{
    int64_t deadline = ctx_now() + ROTA_SEC(3600);
    struct ctx *parent = ctx_with_deadline(NULL, deadline);
    struct ctx *equal = ctx_with_deadline_cause(parent, deadline, "unused");
    struct ctx *later = ctx_with_deadline(parent, deadline + 1);
    struct ctx *earlier = ctx_with_deadline(parent, deadline - 1);

    ck_assert_int_eq(node_of(parent)->kind, NODE_TIMED);
    ck_assert_int_eq(node_of(equal)->kind, NODE_PLAIN);
    ck_assert_int_eq(node_of(later)->kind, NODE_PLAIN);
    ck_assert_int_eq(node_of(earlier)->kind, NODE_TIMED);
    ctx_end(equal);
    ctx_end(later);
    ctx_end(earlier);
    ctx_end(parent);
}
END_TEST

START_TEST(equal_deadlines_end_both_with_deadline)
{
    int64_t deadline = ctx_now() + ROTA_MS(2);
    struct ctx *parent = ctx_with_deadline(NULL, deadline);
    struct ctx *child = ctx_with_deadline(parent, deadline);

    ck_assert_int_eq(ctx_wait(child, ROTA_FOREVER), ROTA_DEADLINE);
    ck_assert_int_eq(ctx_err(parent), ROTA_DEADLINE);
    ctx_end(child);
    ctx_end(parent);
}
END_TEST

START_TEST(cancel_before_the_deadline_is_final)
{
    struct ctx *ctx, *later;
    int64_t timeout = ROTA_MS(1);

    /* until this thread was fast enough */
    for (;; timeout *= 2) {
        ctx = ctx_with_timeout_cause(NULL, timeout, "slow");
        if (ctx_cancel(ctx))
            break;
        ctx_end(ctx);
    }
    later = ctx_with_timeout(NULL, timeout + 1);
    ck_assert_int_eq(ctx_wait(later, ROTA_FOREVER), ROTA_DEADLINE);
    ck_assert_int_eq(ctx_err(ctx), ROTA_CANCELED);
    ck_assert_str_eq(ctx_cause(ctx), "context canceled");
    ctx_unref(ctx);
    ctx_unref(later);
}
END_TEST

START_TEST(text_of_a_deadline_is_its_cause)
{
    char text[] = "took too long";
    struct ctx *ctx = ctx_with_timeout_cause(NULL, ROTA_MS(2), text);
    struct ctx *child = ctx_with_cancel(ctx);

    text[0] = 'X'; /* it was copied */
    AWAIT(ctx_done(child));
    ctx_end(ctx);
    ck_assert_str_eq(ctx_cause(child), "took too long");
    ck_assert_int_eq(ctx_cause_code(child), ROTA_DEADLINE);
    ctx_end(child);
}
END_TEST

START_TEST(endless_timeout_needs_no_timer)
{
    struct ctx *ctx = ctx_with_timeout(NULL, ROTA_FOREVER);

    ck_assert(!ctx_done(ctx));
    ck_assert_int_eq(ctx_deadline(ctx), ROTA_FOREVER);
    ck_assert_int_eq(threads_named("rota-"), 0);
    ctx_end(ctx);
}
END_TEST

START_TEST(all_deadlines_share_two_threads)
{
    enum { N = 500 };
    struct ctx *all[N];

    for (int i = 0; i < N; i++)
        all[i] = ctx_with_timeout(i % 3 ? all[i / 3] : NULL,
                                  ROTA_SEC(3600) - ROTA_SEC(i));
    ck_assert_int_eq(threads_named("rota-"), 2);
    for (int i = 0; i < N; i++)
        ctx_end(all[i]);
}
END_TEST

START_TEST(new_earliest_deadline_is_not_overslept)
{
    struct ctx *late = ctx_with_timeout(NULL, ROTA_SEC(3600));

    for (int i = 0; i < 50; i++) {
        struct ctx *soon = ctx_with_timeout(NULL, ROTA_US(500));

        AWAIT(ctx_done(soon));
        ctx_end(soon);
    }
    ck_assert(!ctx_done(late));
    ctx_end(late);
}
END_TEST

struct order {
    struct ctx_hook hook;
    struct ctx *ctx; /* NULL once it was dropped */
    int64_t deadline;
};
static struct {
    _Atomic int64_t last;
    atomic_int n, wrong;
} ended;

static void
order_note(void *arg)
{
    struct order *order = arg;

    if (order->deadline < atomic_exchange(&ended.last, order->deadline))
        atomic_fetch_add(&ended.wrong, 1);
    atomic_fetch_add(&ended.n, 1);
}

/* Make n contexts that end, in some order, from start on; every now and then
 * one of them leaves. How many are left. */
static int
orders_make(struct order *orders, int n, int64_t start, unsigned *seed)
{
    int left = n;

    for (int i = 0; i < n; i++) {
        struct order *any = &orders[rand_r(seed) % (i + 1)];

        orders[i].deadline = start + ROTA_US(rand_r(seed) % 20000 + 1);
        orders[i].ctx = ctx_with_deadline(NULL, orders[i].deadline);
        ctx_after(orders[i].ctx, &orders[i].hook, order_note, &orders[i]);
        if (i % 3 == 0 && any->ctx != NULL && ctx_hook_stop(&any->hook)) {
            ctx_end(any->ctx);
            any->ctx = NULL;
            left--;
        }
    }
    return left;
}

START_TEST(deadlines_fire_in_order_whatever_leaves_the_heap_between)
{
    enum { N = 2000 };
    static struct order orders[N];
    unsigned seed = (unsigned)_i;
    bool in_time = false;

    for (int64_t lead = ROTA_MS(20); !in_time; lead *= 2) {
        int64_t start = ctx_now() + lead;
        int left;

        atomic_store(&ended.last, 0);
        atomic_store(&ended.n, 0);
        atomic_store(&ended.wrong, 0);
        left = orders_make(orders, N, start, &seed);
        in_time = ctx_now() < start; /* all were made before the first */
        AWAIT(atomic_load(&ended.n) == left);
        for (int i = 0; i < N; i++) {
            if (orders[i].ctx != NULL)
                ctx_hook_stop_wait(&orders[i].hook);
            ctx_end(orders[i].ctx);
        }
    }
    ck_assert_int_eq(ended.wrong, 0);
}
END_TEST

static void *
timer_storm_body(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    struct ctx *kept[16] = {NULL};

    for (int i = 0; i < MANY(40000); i++) {
        struct ctx **slot = &kept[rand_r(&seed) % 16];
        struct ctx *parent = kept[rand_r(&seed) % 16];
        struct ctx *ctx =
            ctx_with_timeout(parent, ROTA_US(rand_r(&seed) % 200));

        if (rand_r(&seed) % 2)
            ctx_unref(*slot);
        else
            ctx_end(*slot);
        *slot = ctx;
    }
    for (int i = 0; i < 16; i++)
        ctx_end(kept[i]);
    return NULL;
}

START_TEST(timers_may_fire_while_they_are_ended_and_freed)
{
    pthread_t threads[3];

    for (uintptr_t i = 0; i < 3; i++)
        threads[i] = thread_new(timer_storm_body, (void *)(i + 1));
    for (int i = 0; i < 3; i++)
        thread_join(threads[i]);
}
END_TEST

/* -- Waiting ------------------------------------------------------------------
 */

struct napper {
    struct ctx *ctx;
    struct ctx *to_cancel; /* when awake; may be NULL */
    struct wake wake;
    bool uses_wake;
    enum rota_error error;
    bool was_done;
};

static void *
sleeper_body(void *arg)
{
    struct napper *sleeper = arg;

    if (sleeper->uses_wake)
        sleeper->error =
            wake_wait_ctx(&sleeper->wake, sleeper->ctx, ROTA_FOREVER);
    else
        sleeper->error = ctx_wait(sleeper->ctx, ROTA_FOREVER);
    sleeper->was_done = ctx_done(sleeper->ctx);
    if (sleeper->to_cancel != NULL)
        ctx_cancel(sleeper->to_cancel);
    return NULL;
}

START_TEST(wait_ends_with_the_context)
{
    struct ctx *parent = ctx_with_cancel(NULL);
    struct napper sleeper = {.ctx = ctx_with_cancel(parent)};
    pthread_t thread = thread_new(sleeper_body, &sleeper);

    AWAIT(ctx_waiters(sleeper.ctx) == 1);
    ctx_cancel(parent);
    thread_join(thread);
    ck_assert_int_eq(sleeper.error, ROTA_CANCELED);
    ck_assert(sleeper.was_done);
    ck_assert_int_eq(ctx_wait(sleeper.ctx, ROTA_FOREVER), ROTA_CANCELED);
    ck_assert_int_eq(ctx_wait(sleeper.ctx, 0), ROTA_CANCELED);
    ctx_end(sleeper.ctx);
    ctx_end(parent);
}
END_TEST

START_TEST(wait_that_times_out_leaves_the_context_live)
{
    struct ctx *ctx = ctx_with_timeout(NULL, ROTA_SEC(3600));
    int64_t until = ctx_now() + ROTA_MS(2);

    ck_assert_int_eq(ctx_wait(ctx, until), ROTA_TIMEOUT);
    ck_assert_int_ge(ctx_now(), until);
    ck_assert_int_eq(ctx_wait(ctx, ctx_now()), ROTA_TIMEOUT);
    ck_assert_int_eq(ctx_wait(ctx, -5), ROTA_TIMEOUT);
    ck_assert(!ctx_done(ctx));
    ck_assert_uint_eq(ctx_waiters(ctx), 0);
    ctx_end(ctx);
}
END_TEST

START_TEST(wait_that_meets_the_contexts_deadline_ends_it)
{
    for (int i = 0; i < 300; i++) {
        struct ctx *parent = ctx_with_timeout(NULL, ROTA_US(i));
        struct ctx *child = ctx_with_cancel(parent);
        struct ctx *leaf = ctx_with_deadline(child, ROTA_FOREVER);

        ck_assert_int_eq(ctx_wait(leaf, ctx_deadline(leaf)), ROTA_DEADLINE);
        ck_assert_int_eq(ctx_err(parent), ROTA_DEADLINE);
        ck_assert_int_eq(ctx_err(child), ROTA_DEADLINE);
        ctx_end(leaf);
        ctx_end(child);
        ctx_end(parent);
    }
}
END_TEST

START_TEST(sleep_is_slept_through_or_cut_short)
{
    struct ctx *ctx = ctx_with_cancel(NULL);
    struct ctx *timed = ctx_with_timeout(ctx, ROTA_MS(1));
    int64_t before = ctx_now();

    ck_assert_int_eq(ctx_sleep(ctx, ROTA_MS(2)), ROTA_OK);
    ck_assert_int_ge(ctx_now(), before + ROTA_MS(2));
    ck_assert_int_eq(ctx_sleep(ctx, 0), ROTA_OK);
    ck_assert_int_eq(ctx_sleep(ctx, INT64_MIN), ROTA_OK);
    ck_assert_int_eq(ctx_sleep(timed, ROTA_FOREVER), ROTA_DEADLINE);
    ctx_cancel(ctx);
    ck_assert_int_eq(ctx_sleep(ctx, ROTA_FOREVER), ROTA_CANCELED);
    ck_assert_int_eq(ctx_sleep(timed, 0), ROTA_DEADLINE);
    ck_assert_int_eq(ctx_sleep(ctx_background(), ROTA_US(10)), ROTA_OK);
    ctx_end(timed);
    ctx_end(ctx);
}
END_TEST

START_TEST(root_can_be_waited_on)
{
    struct wake wake = WAKE_INIT;

    ck_assert_int_eq(ctx_wait(ctx_background(), ctx_now() + ROTA_MS(1)),
                     ROTA_TIMEOUT);
    ck_assert_int_eq(ctx_wait(ctx_todo(), 0), ROTA_TIMEOUT);
    wake_up(&wake, WAKE_SET);
    ck_assert_int_eq(wake_wait_ctx(&wake, ctx_todo(), ROTA_FOREVER), ROTA_OK);
}
END_TEST

START_TEST(cancel_wakes_the_waiters_below_and_no_others)
{
    struct ctx *top = ctx_with_cancel(NULL);
    struct ctx *middle = ctx_with_cancel(top);
    struct napper above = {.ctx = top}, beside = {.ctx = ctx_with_cancel(top)};
    struct napper at[2] = {{.ctx = middle}, {.ctx = middle}};
    struct napper below = {.ctx = ctx_with_cancel(middle)};
    pthread_t woken[3], others[2];

    woken[0] = thread_new(sleeper_body, &at[0]);
    woken[1] = thread_new(sleeper_body, &at[1]);
    woken[2] = thread_new(sleeper_body, &below);
    others[0] = thread_new(sleeper_body, &above);
    others[1] = thread_new(sleeper_body, &beside);
    AWAIT(ctx_waiters(middle) == 2 && ctx_waiters(below.ctx) == 1);
    AWAIT(ctx_waiters(top) == 1 && ctx_waiters(beside.ctx) == 1);
    ctx_cancel(middle);
    for (int i = 0; i < 3; i++)
        thread_join(woken[i]);
    ck_assert_uint_eq(ctx_waiters(top), 1);
    ck_assert_uint_eq(ctx_waiters(beside.ctx), 1);
    ctx_cancel(top);
    thread_join(others[0]);
    thread_join(others[1]);
    ctx_end(below.ctx);
    ctx_end(beside.ctx);
    ctx_end(middle);
    ctx_end(top);
}
END_TEST

START_TEST(woken_waiter_may_cancel_while_the_sweep_goes_on)
{
    for (int round = 0; round < MANY(1000); round++) {
        struct ctx *parent = ctx_with_cancel(NULL);
        struct ctx *child = ctx_with_cancel(parent);
        struct napper sleeper = {.ctx = parent, .to_cancel = child};
        pthread_t thread = thread_new(sleeper_body, &sleeper);

        if (round % 2)
            AWAIT(ctx_waiters(parent) == 1);
        ctx_cancel(parent);
        ck_assert(ctx_done(child));
        thread_join(thread);
        ctx_unref(child);
        ctx_unref(parent);
    }
}
END_TEST

/* -- Wakes --------------------------------------------------------------------
 */

START_TEST(wake_that_is_set_wins)
{
    struct ctx *ctx = ctx_with_cancel(NULL);
    struct wake wake = WAKE_INIT;

    ck_assert_uint_eq(wake_wait(&wake, 0), 0);
    ck_assert_int_eq(wake_wait_ctx(&wake, ctx, 0), ROTA_TIMEOUT);
    ctx_cancel(ctx);
    ck_assert_int_eq(wake_wait_ctx(&wake, ctx, 0), ROTA_CANCELED);
    wake_up(&wake, WAKE_SET);
    ck_assert_int_eq(wake_wait_ctx(&wake, ctx, 0), ROTA_OK);
    ck_assert_uint_eq(wake_wait(&wake, ROTA_FOREVER), WAKE_SET);
    ctx_unref(ctx);
}
END_TEST

START_TEST(wake_is_set_from_another_thread)
{
    for (int round = 0; round < MANY(1000); round++) {
        struct napper sleeper = {.ctx = ctx_with_cancel(NULL),
                                  .uses_wake = true};
        pthread_t thread = thread_new(sleeper_body, &sleeper);

        if (round % 2)
            AWAIT(ctx_waiters(sleeper.ctx) == 1);
        wake_up(&sleeper.wake, WAKE_SET);
        thread_join(thread);
        ck_assert_int_eq(sleeper.error, ROTA_OK);
        ck_assert_uint_eq(ctx_waiters(sleeper.ctx), 0);
        ctx_unref(sleeper.ctx);
    }
}
END_TEST

/* Other threads end a context, over and over, at the same moment as it is
 * waited on; the waiter's stack is used again at once. */
struct ender {
    _Atomic(struct ctx *) ctx;
    _Atomic(struct wake *) wake;
    atomic_bool is_over;
};

static void *
ender_body(void *arg)
{
    struct ender *ender = arg;
    struct ctx *ctx;

    while (!atomic_load(&ender->is_over)) {
        if ((ctx = atomic_exchange(&ender->ctx, NULL)) != NULL)
            ctx_end(ctx);
        else
            sched_yield();
    }
    return NULL;
}

static void *
setter_body(void *arg)
{
    struct ender *ender = arg;
    struct wake *wake;

    while (!atomic_load(&ender->is_over)) {
        if ((wake = atomic_load(&ender->wake)) != NULL) {
            wake_up(wake, WAKE_SET);
            atomic_store(&ender->wake, NULL);
        } else {
            sched_yield();
        }
    }
    return NULL;
}

START_TEST(no_end_is_lost_between_looking_and_sleeping)
{
    struct ender ender = {.is_over = false};
    pthread_t thread = thread_new(ender_body, &ender);
    int wrong = 0;

    for (int i = 0; i < MANY(100000); i++) {
        struct ctx *ctx = ctx_with_cancel(NULL);

        atomic_store(&ender.ctx, ctx_ref(ctx));
        if (i % 4 == 0)
            AWAIT(atomic_load(&ender.ctx) == NULL);
        wrong += ctx_wait(ctx, ROTA_FOREVER) != ROTA_CANCELED;
        ctx_unref(ctx);
    }
    atomic_store(&ender.is_over, true);
    thread_join(thread);
    ck_assert_int_eq(wrong, 0);
}
END_TEST

/* The wait in a frame of its own, which the next call overwrites. */
static __attribute__((noinline)) enum rota_error
short_wait(struct ctx *ctx, int64_t timeout)
{
    return ctx_wait(ctx, ctx_now() + timeout);
}

static __attribute__((noinline)) int
scribble(void)
{
    volatile char frame[1024];
    int sum = 0;

    for (size_t i = 0; i < sizeof(frame); i++)
        frame[i] = 0;
    for (size_t i = 0; i < sizeof(frame); i++)
        sum += frame[i]; /* not 0 if somebody writes to a wake of old */
    return sum;
}

START_TEST(waiter_that_times_out_is_left_alone_by_who_ends_the_context)
{
    struct ender ender = {.is_over = false};
    pthread_t thread = thread_new(ender_body, &ender);
    int touched = 0;

    for (int i = 0; i < MANY(100000); i++) {
        struct ctx *ctx = ctx_with_cancel(NULL);

        atomic_store(&ender.ctx, ctx_ref(ctx));
        (void)short_wait(ctx, ROTA_US(i % 8));
        touched += scribble();
        AWAIT(atomic_load(&ender.ctx) == NULL);
        ctx_unref(ctx);
    }
    atomic_store(&ender.is_over, true);
    thread_join(thread);
    ck_assert_int_eq(touched, 0);
}
END_TEST

START_TEST(waiter_that_is_set_waits_for_an_ender_who_has_claimed_it)
{
    struct ender ender = {.is_over = false};
    pthread_t threads[2] = {thread_new(ender_body, &ender),
                            thread_new(setter_body, &ender)};
    int wrong = 0;

    for (int i = 0; i < MANY(50000); i++) {
        struct ctx *ctx = ctx_with_cancel(NULL);
        struct ctx *other = ctx_with_timeout(NULL, ROTA_SEC(3600));
        struct wake wake = WAKE_INIT;
        enum rota_error error;

        atomic_store(&ender.wake, &wake);
        atomic_store(&ender.ctx, ctx_ref(ctx));
        error = wake_wait_ctx(&wake, ctx, ROTA_FOREVER);
        wrong += error != ROTA_OK && error != ROTA_CANCELED;
        /* the same wake, with a context that does not end */
        wrong += wake_wait_ctx(&wake, other, ROTA_FOREVER) != ROTA_OK;
        AWAIT(atomic_load(&ender.wake) == NULL);
        AWAIT(atomic_load(&ender.ctx) == NULL);
        ctx_unref(ctx);
        ctx_unref(other);
    }
    atomic_store(&ender.is_over, true);
    thread_join(threads[0]);
    thread_join(threads[1]);
    ck_assert_int_eq(wrong, 0);
}
END_TEST

static Suite *
wait_suite(void)
{
    Suite *suite = suite_create("ctx waits");
    TCase *deadlines = tcase_create("deadlines");
    TCase *waits = tcase_create("waiting");
    TCase *wakes = tcase_create("wakes");

    tcase_set_timeout(deadlines, 60);
    tcase_add_test(deadlines, deadline_fires_by_itself);
    tcase_add_loop_test(deadlines,
                        deadline_that_has_passed_gives_a_context_born_done, 0,
                        sizeof(past) / sizeof(past[0]));
    tcase_add_test(
        deadlines,
        passed_deadline_is_born_done_though_the_parents_timer_is_late);
    tcase_add_test(deadlines, deadline_is_the_earliest_from_here_to_the_root);
    tcase_add_test(deadlines,
                   deadline_not_earlier_than_the_parents_arms_no_timer);
    tcase_add_test(deadlines, equal_deadlines_end_both_with_deadline);
    tcase_add_test(deadlines, cancel_before_the_deadline_is_final);
    tcase_add_test(deadlines, text_of_a_deadline_is_its_cause);
    tcase_add_test(deadlines, endless_timeout_needs_no_timer);
    tcase_add_test(deadlines, all_deadlines_share_two_threads);
    tcase_add_test(deadlines, new_earliest_deadline_is_not_overslept);
    tcase_add_loop_test(
        deadlines, deadlines_fire_in_order_whatever_leaves_the_heap_between, 1,
        6);
    tcase_add_test(deadlines, timers_may_fire_while_they_are_ended_and_freed);
    suite_add_tcase(suite, deadlines);
    tcase_set_timeout(waits, 60);
    tcase_add_test(waits, wait_ends_with_the_context);
    tcase_add_test(waits, wait_that_times_out_leaves_the_context_live);
    tcase_add_test(waits, wait_that_meets_the_contexts_deadline_ends_it);
    tcase_add_test(waits, sleep_is_slept_through_or_cut_short);
    tcase_add_test(waits, root_can_be_waited_on);
    tcase_add_test(waits, cancel_wakes_the_waiters_below_and_no_others);
    tcase_add_test(waits, woken_waiter_may_cancel_while_the_sweep_goes_on);
    suite_add_tcase(suite, waits);
    tcase_set_timeout(wakes, 60);
    tcase_add_test(wakes, wake_that_is_set_wins);
    tcase_add_test(wakes, wake_is_set_from_another_thread);
    tcase_add_test(wakes, no_end_is_lost_between_looking_and_sleeping);
    tcase_add_test(wakes,
                   waiter_that_times_out_is_left_alone_by_who_ends_the_context);
    tcase_add_test(wakes,
                   waiter_that_is_set_waits_for_an_ender_who_has_claimed_it);
    suite_add_tcase(suite, wakes);
    return suite;
}

int
main(void)
{
    return suite_run(wait_suite());
}
