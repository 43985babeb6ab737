/*
 * What include/rota/ctx.h promises of callbacks.
 */
#define _GNU_SOURCE
#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "context/node.h"
#include "faults.h"
#include "support.h"

/* A callback that notes where and after what it ran. */
struct note {
    struct ctx_hook hook;
    struct ctx *ctx, *deepest; /* deepest may be NULL */
    pthread_t thread;
    bool was_done, was_deepest_done;
    int order;
    atomic_int runs;
};
static atomic_int notes_taken;

/* This thread is in timed_after(); and a callback was called in there. */
static _Thread_local bool is_registering, was_too_late;

static bool
is_inside_after(void)
{
    was_too_late = was_too_late || is_registering;
    return is_registering;
}

static void
note_take(void *arg)
{
    struct note *note = arg;

    if (is_inside_after())
        return;
    note->thread = pthread_self();
    note->was_done = ctx_done(note->ctx);
    note->was_deepest_done = note->deepest == NULL || ctx_done(note->deepest);
    note->order = atomic_fetch_add(&notes_taken, 1) + 1;
    atomic_fetch_add(&note->runs, 1);
}

static void
note_register(struct note *note, struct ctx *ctx, struct ctx *deepest)
{
    memset(note, 0xa5, sizeof(*note)); /* needs no initialisation */
    note->ctx = ctx;
    note->deepest = deepest;
    atomic_init(&note->runs, 0);
    ctx_after(ctx, &note->hook, note_take, note);
}

START_TEST(hook_runs_once_on_the_canceller_before_cancel_returns)
{
    struct ctx *ctx = ctx_with_cancel(NULL);
    struct note note;

    note_register(&note, ctx, NULL);
    ck_assert_int_eq(note.runs, 0);
    ck_assert(ctx_cancel(ctx));
    ck_assert_int_eq(note.runs, 1);
    ck_assert(note.was_done);
    ck_assert(pthread_equal(note.thread, pthread_self()));
    ck_assert(!ctx_cancel(ctx));
    ck_assert(!ctx_hook_stop(&note.hook));
    ctx_hook_stop_wait(&note.hook);
    ck_assert_int_eq(note.runs, 1);
    ctx_unref(ctx);
    ck_assert(!ctx_hook_stop(&note.hook)); /* touches no context */
}
END_TEST

START_TEST(hooks_run_in_order_after_the_whole_subtree_is_done)
{
    /* the order: parent before child, siblings by age, hooks by age */
    struct ctx *top = ctx_with_cancel(NULL);
    struct ctx *a = ctx_with_cancel(top), *b = ctx_with_cancel(top);
    struct ctx *a1 = ctx_with_cancel(a), *b1 = ctx_with_cancel(b);
    struct ctx *all[] = {top, a, a1, b, b1};
    struct note first[5], second[5];

    for (int i = 4; i >= 0; i--)
        note_register(&first[i], all[i], b1);
    for (int i = 0; i < 5; i++)
        note_register(&second[i], all[i], b1);
    ctx_cancel(top);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(first[i].order, 2 * i + 1);
        ck_assert_int_eq(second[i].order, 2 * i + 2);
        ck_assert(first[i].was_deepest_done && second[i].was_deepest_done);
        ctx_unref(all[i]);
    }
}
END_TEST

START_TEST(hook_on_a_done_context_runs_inside_after)
{
    struct ctx *ctx = ctx_with_timeout(NULL, 0);
    struct note note;

    note_register(&note, ctx, NULL);
    ck_assert_int_eq(note.runs, 1);
    ck_assert(pthread_equal(note.thread, pthread_self()));
    ck_assert(!ctx_hook_stop(&note.hook));
    ctx_unref(ctx);
}
END_TEST

START_TEST(hook_on_a_root_never_runs_and_can_be_stopped)
{
    struct note note;

    note_register(&note, ctx_background(), NULL);
    ctx_cancel(ctx_background());
    ck_assert_int_eq(note.runs, 0);
    ck_assert(ctx_hook_stop(&note.hook));
    ck_assert(!ctx_hook_stop(&note.hook));
    note_register(&note, ctx_todo(), NULL);
    ctx_hook_stop_wait(&note.hook);
    ck_assert(!ctx_hook_stop(&note.hook));
}
END_TEST

START_TEST(stopped_hook_never_runs_and_stop_is_true_once)
{
    struct ctx *ctx = ctx_with_cancel(NULL);
    struct note note, other;

    note_register(&note, ctx, NULL);
    note_register(&other, ctx, NULL);
    ck_assert(ctx_hook_stop(&note.hook));
    ck_assert(!ctx_hook_stop(&note.hook));
    ck_assert_uint_eq(ctx_hooks(ctx), 1);
    ctx_cancel(ctx);
    ck_assert_int_eq(note.runs, 0);
    ck_assert_int_eq(other.runs, 1);
    ctx_unref(ctx);
}
END_TEST

START_TEST(hook_keeps_its_context)
{
    struct ctx *parent = ctx_with_cancel(NULL);
    struct ctx *ctx = ctx_with_cancel(parent);
    struct note note, stopped;

    note_register(&note, ctx, NULL);
    note_register(&stopped, ctx, NULL);
    ctx_unref(ctx); /* only the hooks hold it */
    ck_assert(ctx_hook_stop(&stopped.hook));
    ctx_cancel(parent);
    ck_assert_int_eq(note.runs, 1);
    ck_assert_uint_eq(ctx_children(parent), 0);
    ctx_unref(parent);
}
END_TEST

START_TEST(hook_may_be_registered_again_after_it_ran_or_was_stopped)
{
    atomic_int runs = 0;
    struct ctx_hook hook;

    for (int i = 0; i < 10; i++) {
        struct ctx *ctx = ctx_with_cancel(NULL);

        ctx_after(ctx, &hook, count_up, &runs);
        if (i % 2)
            ck_assert(ctx_hook_stop(&hook));
        ctx_end(ctx);
    }
    ck_assert_int_eq(runs, 5);
}
END_TEST

/* -- Inside a callback ------------------------------------------------------
 */

struct busy {
    struct ctx_hook hook;
    struct ctx *ctx;
    bool won, was_made_done;
    enum rota_error error;
};

static void
busy_body(void *arg)
{
    struct busy *busy = arg;
    struct ctx *made = ctx_with_cancel(busy->ctx);

    busy->won = ctx_cancel(busy->ctx);
    busy->was_made_done = ctx_done(made);
    busy->error = ctx_wait(made, ROTA_FOREVER);
    ctx_end(made);
    ctx_end(busy->ctx); /* the last reference but the hook's */
}

START_TEST(callback_may_cancel_derive_wait_and_drop_the_last_reference)
{
    struct busy busy = {.ctx = ctx_with_cancel(NULL)};

    ctx_after(busy.ctx, &busy.hook, busy_body, &busy);
    ck_assert(ctx_cancel(busy.ctx)); /* our reference is dropped in there */
    ck_assert(!busy.won);
    ck_assert_int_eq(busy.error, ROTA_CANCELED);
    ck_assert(busy.was_made_done);
}
END_TEST

struct stopper {
    struct ctx_hook hook;
    struct ctx_hook *victim;
    bool waits, has_stopped;
};

static void
stopper_body(void *arg)
{
    struct stopper *stopper = arg;

    if (stopper->waits)
        ctx_hook_stop_wait(stopper->victim);
    else
        stopper->has_stopped = ctx_hook_stop(stopper->victim);
    memset(stopper->victim, 0, sizeof(*stopper->victim)); /* as if freed */
}

START_TEST(callback_may_stop_one_that_is_to_run_after_it)
{
    struct ctx *ctx = ctx_with_cancel(NULL);
    struct ctx *child = ctx_with_cancel(ctx);
    struct stopper stopper = {.waits = _i};
    atomic_int runs = 0;
    struct ctx_hook victim, last;

    ctx_after(ctx, &stopper.hook, stopper_body, &stopper);
    ctx_after(child, &victim, count_up, &runs);
    ctx_after(child, &last, count_up, &runs);
    stopper.victim = &victim;
    ctx_cancel(ctx);
    ck_assert(_i || stopper.has_stopped);
    ck_assert_int_eq(runs, 1); /* last, and not victim */
    ctx_unref(child);
    ctx_unref(ctx);
}
END_TEST

/* Stops itself, with waiting, from inside; directly or from a callback that
 * its own call has started; then frees itself. */
struct own {
    struct ctx_hook hook, inner_hook;
    struct ctx *inner; /* NULL: directly */
    bool *ret_returned;
};

static void
own_free(void *arg)
{
    struct own *own = arg;

    ctx_hook_stop_wait(&own->hook);
    *own->ret_returned = true;
}

static void
own_body(void *arg)
{
    struct own *own = arg;

    if (own->inner == NULL) {
        own_free(own);
    } else {
        ctx_after(own->inner, &own->inner_hook, own_free, own);
        ctx_end(own->inner);
    }
    memset(own, 0xee, sizeof(*own));
    free(own);
}

START_TEST(callback_may_stop_wait_for_itself_at_any_depth_and_free_itself)
{
    struct ctx *ctx = ctx_with_cancel(NULL);
    struct own *own = calloc(1, sizeof(*own));
    bool returned = false;

    ck_assert_ptr_nonnull(own);
    own->ret_returned = &returned;
    own->inner = _i ? ctx_with_cancel(NULL) : NULL;
    ctx_after(ctx, &own->hook, own_body, own);
    ctx_cancel(ctx);
    ck_assert(returned);
    ctx_unref(ctx);
}
END_TEST

/* -- Between threads ---------------------------------------------------------
 */

struct slow {
    struct ctx_hook hook;
    struct gate gate;
    atomic_bool has_returned;
    bool stops_itself;
};

static void
slow_body(void *arg)
{
    struct slow *slow = arg;

    if (is_inside_after())
        return;
    gate_pass(&slow->gate);
    if (slow->stops_itself)
        ctx_hook_stop_wait(&slow->hook);
    atomic_store(&slow->has_returned, true);
}

static void *
cancel_body(void *arg)
{
    return (void *)(intptr_t)ctx_cancel(arg);
}

/* True if the callback was over when stop_wait returned. */
static void *
stop_wait_body(void *arg)
{
    struct slow *slow = arg;

    ctx_hook_stop_wait(&slow->hook);
    return (void *)(intptr_t)atomic_load(&slow->has_returned);
}

/* The second word of a hook's private part, after its link. */
static uint32_t
hook_state(struct ctx_hook *hook)
{
    return atomic_load((_Atomic uint32_t *)(void *)&hook->opaque_[2]);
}

START_TEST(stop_does_not_wait_and_stop_wait_does)
{
    struct slow slow = {.gate = GATE_INIT, .stops_itself = _i % 2};
    pthread_t canceller, stoppers[2];
    struct ctx *ctx;
    uint32_t running;

    if (_i >= 2)
        ck_assert_int_eq(setenv("ROTA_DEBUG", "1", 1), 0);
    ctx = ctx_with_cancel(NULL);
    ctx_after(ctx, &slow.hook, slow_body, &slow);
    canceller = thread_new(cancel_body, ctx);
    gate_await(&slow.gate, 1);
    running = hook_state(&slow.hook);
    ck_assert(!ctx_hook_stop(&slow.hook));
    for (int i = 0; i < 2; i++)
        stoppers[i] = thread_new(stop_wait_body, &slow);
    AWAIT(hook_state(&slow.hook) != running); /* one is waiting */
    ck_assert(!atomic_load(&slow.has_returned));
    gate_open(&slow.gate);
    for (int i = 0; i < 2; i++)
        ck_assert_ptr_nonnull(thread_join(stoppers[i]));
    thread_join(canceller);
    ctx_unref(ctx);
}
END_TEST

/* A callback after whose end, as ROTA_DEBUG has noted it, and before the news
 * of it, somebody comes to wait. */
static pthread_t stopper;

static void
stop_wait_meanwhile(void *arg)
{
    struct slow *slow = arg;
    uint32_t running = hook_state(&slow->hook);

    stopper = thread_new(stop_wait_body, slow);
    AWAIT(hook_state(&slow->hook) != running);
}

static void
meet_at_the_end(void *arg)
{
    struct slow *slow = arg;

    atomic_store(&slow->has_returned, true);
    faults_meet("pthread_mutex_unlock", 0, stop_wait_meanwhile, slow);
}

START_TEST(stop_wait_is_told_of_an_end_that_debugging_knows_already)
{
    struct slow slow = {.has_returned = false};
    struct ctx *ctx;

    ck_assert_int_eq(setenv("ROTA_DEBUG", "1", 1), 0);
    ctx = ctx_with_cancel(NULL);
    ctx_after(ctx, &slow.hook, meet_at_the_end, &slow);
    ctx_cancel(ctx);
    ck_assert_ptr_nonnull(thread_join(stopper));
    ctx_unref(ctx);
}
END_TEST

/* A callback that lets go of its hook, registers another one in its place, and
 * waits for that. */
struct again {
    struct slow slow; /* the place is in here */
    struct ctx *other;
    pthread_t canceller, opener;
    uint32_t running;
    bool has_waited;
};

static void *
open_when_awaited(void *arg)
{
    struct again *again = arg;

    AWAIT(hook_state(&again->slow.hook) != again->running);
    gate_open(&again->slow.gate);
    return NULL;
}

static void
again_body(void *arg)
{
    struct again *again = arg;
    struct slow *slow = &again->slow;

    ctx_hook_stop_wait(&slow->hook);
    ctx_after(again->other, &slow->hook, slow_body, slow);
    again->canceller = thread_new(cancel_body, again->other);
    gate_await(&slow->gate, 1);
    again->running = hook_state(&slow->hook);
    again->opener = thread_new(open_when_awaited, again);
    ctx_hook_stop_wait(&slow->hook);
    again->has_waited = atomic_load(&slow->has_returned);
}

START_TEST(callback_may_wait_for_another_in_the_place_of_its_own)
{
    struct ctx *ctx = ctx_with_cancel(NULL);
    struct again again = {.slow = {.gate = GATE_INIT},
                          .other = ctx_with_cancel(NULL)};

    ctx_after(ctx, &again.slow.hook, again_body, &again);
    ctx_cancel(ctx);
    ck_assert(again.has_waited);
    (void)thread_join(again.opener);
    (void)thread_join(again.canceller);
    ctx_unref(again.other);
    ctx_unref(ctx);
}
END_TEST

START_TEST(stop_wait_of_one_hook_does_not_wait_for_another)
{
    struct ctx *ctx = ctx_with_cancel(NULL);
    struct slow slow = {.gate = GATE_INIT};
    struct ctx_hook later;
    atomic_int runs = 0;
    pthread_t canceller;

    ctx_after(ctx, &slow.hook, slow_body, &slow);
    ctx_after(ctx, &later, count_up, &runs);
    canceller = thread_new(cancel_body, ctx);
    gate_await(&slow.gate, 1);
    ctx_hook_stop_wait(&later); /* at once, though the sweep is under way */
    memset(&later, 0, sizeof(later));
    gate_open(&slow.gate);
    thread_join(canceller);
    ck_assert_int_eq(runs, 0);
    ctx_unref(ctx);
}
END_TEST

/* One thread cancels what the other registers hooks on. */
struct duel {
    _Atomic(struct ctx *) ctx;
    atomic_bool is_over;
};

static void *
duel_body(void *arg)
{
    struct duel *duel = arg;
    struct ctx *ctx;

    while (!atomic_load(&duel->is_over)) {
        if ((ctx = atomic_exchange(&duel->ctx, NULL)) != NULL)
            ctx_end(ctx);
        else
            sched_yield();
    }
    return NULL;
}

START_TEST(hook_runs_or_is_stopped_and_never_both)
{
    struct duel duel = {.is_over = false};
    pthread_t thread = thread_new(duel_body, &duel);
    int wrong = 0;

    for (int i = 0; i < MANY(100000); i++) {
        struct ctx *ctx = ctx_with_cancel(NULL);
        struct ctx_hook hook;
        atomic_int runs = 0;
        bool has_stopped;

        ctx_after(ctx, &hook, count_up, &runs);
        atomic_store(&duel.ctx, ctx);
        if (i % 3)
            sched_yield();
        has_stopped = ctx_hook_stop(&hook);
        if (!has_stopped)
            ctx_hook_stop_wait(&hook); /* until it has run */
        wrong += atomic_load(&runs) + has_stopped != 1;
        AWAIT(atomic_load(&duel.ctx) == NULL);
    }
    atomic_store(&duel.is_over, true);
    thread_join(thread);
    ck_assert_int_eq(wrong, 0);
}
END_TEST

struct resource {
    bool is_mine; /* not atomic: stop_wait() is what orders it */
    int strays;
};

static void
resource_touch(void *arg)
{
    struct resource *resource = arg;

    resource->strays += !resource->is_mine;
}

START_TEST(after_stop_wait_nothing_stray_touches_the_resource)
{
    struct duel duel = {.is_over = false};
    pthread_t thread = thread_new(duel_body, &duel);
    struct resource resource = {.is_mine = false};
    struct ctx_hook hook; /* the same storage every time */

    for (int i = 0; i < MANY(100000); i++) {
        struct ctx *ctx = ctx_with_cancel(NULL);

        resource.is_mine = true;
        ctx_after(ctx, &hook, resource_touch, &resource);
        atomic_store(&duel.ctx, ctx);
        if (i % 2)
            sched_yield();
        ctx_hook_stop_wait(&hook);
        resource.is_mine = false;
        AWAIT(atomic_load(&duel.ctx) == NULL);
    }
    atomic_store(&duel.is_over, true);
    thread_join(thread);
    ck_assert_int_eq(resource.strays, 0);
}
END_TEST

/* -- Deadlines ----------------------------------------------------------------
 */

/* A context with a near deadline and fn(arg) registered, by hook, before that:
 * if this thread was too slow, the callback has told so, and it tries again. */
static struct ctx *
timed_after(struct ctx_hook *hook, ctx_hook_fn *fn, void *arg)
{
    for (int64_t timeout = ROTA_MS(1);; timeout *= 2) {
        struct ctx *ctx = ctx_with_timeout(NULL, timeout);

        was_too_late = false;
        is_registering = true;
        ctx_after(ctx, hook, fn, arg);
        is_registering = false;
        if (!was_too_late)
            return ctx;
        ctx_end(ctx);
    }
}

static struct ctx *
timed_note(struct note *note)
{
    *note = (struct note){.ctx = ctx_background(), .runs = 0};
    return timed_after(&note->hook, note_take, note);
}

START_TEST(hook_of_a_deadline_runs_on_a_thread_of_ours_with_nobody_waiting)
{
    struct note note;
    struct ctx *ctx = timed_note(&note);

    AWAIT(atomic_load(&note.runs) == 1);
    ck_assert(!pthread_equal(note.thread, pthread_self()));
    ck_assert_int_eq(ctx_err(ctx), ROTA_DEADLINE);
    ctx_hook_stop_wait(&note.hook);
    ctx_end(ctx);
}
END_TEST

START_TEST(hooks_of_a_deadline_run_after_the_whole_subtree_is_done)
{
    for (int64_t timeout = ROTA_MS(1);; timeout *= 2) {
        struct ctx *ctx = ctx_with_timeout(NULL, timeout);
        struct ctx *child = ctx_with_cancel(ctx);
        struct note note, below;
        bool in_time;

        note_register(&note, ctx, child);
        note_register(&below, child, ctx);
        in_time = atomic_load(&note.runs) + atomic_load(&below.runs) == 0;
        AWAIT(atomic_load(&note.runs) + atomic_load(&below.runs) == 2);
        ctx_hook_stop_wait(&note.hook);
        ctx_hook_stop_wait(&below.hook);
        ck_assert(note.was_done && note.was_deepest_done);
        ck_assert(below.was_done && below.was_deepest_done);
        if (in_time) {
            ck_assert(pthread_equal(note.thread, below.thread));
            ck_assert_int_lt(note.order, below.order);
        }
        ctx_end(child);
        ctx_end(ctx);
        if (in_time)
            break;
    }
}
END_TEST

START_TEST(hook_of_a_deadline_that_a_wait_meets_runs_there_too)
{
    for (int i = 0; i < 20; i++) {
        struct note note;
        struct ctx *ctx = timed_note(&note);

        ck_assert_int_eq(ctx_wait(ctx, ROTA_FOREVER), ROTA_DEADLINE);
        AWAIT(atomic_load(&note.runs) == 1);
        ctx_hook_stop_wait(&note.hook);
        ck_assert(!pthread_equal(note.thread, pthread_self()));
        ctx_end(ctx);
    }
}
END_TEST

START_TEST(slow_hook_delays_no_deadline)
{
    struct slow slow = {.gate = GATE_INIT};
    struct ctx *first = timed_after(&slow.hook, slow_body, &slow), *second;
    struct note note;

    gate_await(&slow.gate, 1);
    second = timed_note(&note);
    AWAIT(ctx_done(second));
    ck_assert_int_eq(note.runs, 0); /* one at a time */
    gate_open(&slow.gate);
    AWAIT(atomic_load(&note.runs) == 1);
    ctx_hook_stop_wait(&note.hook);
    ctx_hook_stop_wait(&slow.hook);
    ctx_end(first);
    ctx_end(second);
}
END_TEST

START_TEST(hook_waiting_for_its_turn_after_a_deadline_can_be_stopped)
{
    struct slow slow = {.gate = GATE_INIT};
    struct ctx *first = timed_after(&slow.hook, slow_body, &slow), *second;
    struct note note;

    gate_await(&slow.gate, 1);
    second = timed_note(&note);
    AWAIT(ctx_done(second));
    ck_assert(ctx_hook_stop(&note.hook));
    ctx_end(second);
    gate_open(&slow.gate);
    ctx_hook_stop_wait(&slow.hook);
    ctx_end(first);
    ck_assert_int_eq(note.runs, 0);
}
END_TEST

static Suite *
hook_suite(void)
{
    Suite *suite = suite_create("ctx hooks");
    TCase *basics = tcase_create("basics");
    TCase *inside = tcase_create("inside a callback");
    TCase *threads = tcase_create("between threads");
    TCase *deadlines = tcase_create("deadlines");

    tcase_add_test(basics,
                   hook_runs_once_on_the_canceller_before_cancel_returns);
    tcase_add_test(basics, hooks_run_in_order_after_the_whole_subtree_is_done);
    tcase_add_test(basics, hook_on_a_done_context_runs_inside_after);
    tcase_add_test(basics, hook_on_a_root_never_runs_and_can_be_stopped);
    tcase_add_test(basics, stopped_hook_never_runs_and_stop_is_true_once);
    tcase_add_test(basics, hook_keeps_its_context);
    tcase_add_test(basics,
                   hook_may_be_registered_again_after_it_ran_or_was_stopped);
    suite_add_tcase(suite, basics);
    tcase_add_test(inside,
                   callback_may_cancel_derive_wait_and_drop_the_last_reference);
    tcase_add_loop_test(inside, callback_may_stop_one_that_is_to_run_after_it,
                        0, 2);
    tcase_add_loop_test(
        inside, callback_may_stop_wait_for_itself_at_any_depth_and_free_itself,
        0, 2);
    suite_add_tcase(suite, inside);
    tcase_set_timeout(threads, 60);
    tcase_add_loop_test(threads, stop_does_not_wait_and_stop_wait_does, 0, 4);
    tcase_add_test(threads,
                   stop_wait_is_told_of_an_end_that_debugging_knows_already);
    tcase_add_test(threads,
                   callback_may_wait_for_another_in_the_place_of_its_own);
    tcase_add_test(threads, stop_wait_of_one_hook_does_not_wait_for_another);
    tcase_add_test(threads, hook_runs_or_is_stopped_and_never_both);
    tcase_add_test(threads, after_stop_wait_nothing_stray_touches_the_resource);
    suite_add_tcase(suite, threads);
    tcase_set_timeout(deadlines, 60);
    tcase_add_test(
        deadlines,
        hook_of_a_deadline_runs_on_a_thread_of_ours_with_nobody_waiting);
    tcase_add_test(deadlines,
                   hooks_of_a_deadline_run_after_the_whole_subtree_is_done);
    tcase_add_test(deadlines,
                   hook_of_a_deadline_that_a_wait_meets_runs_there_too);
    tcase_add_test(deadlines, slow_hook_delays_no_deadline);
    tcase_add_test(deadlines,
                   hook_waiting_for_its_turn_after_a_deadline_can_be_stopped);
    suite_add_tcase(suite, deadlines);
    return suite;
}

int
main(void)
{
    return suite_run(hook_suite());
}
