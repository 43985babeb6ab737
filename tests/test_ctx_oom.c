/*
 * Contexts without memory, threads or descriptors: every call that can fail,
 * failing one at a time, and with all after it. That nothing leaks is for a
 * leak checker to see.
 */
#define _GNU_SOURCE
#include <check.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "context/node.h"
#include "faults.h"
#include "support.h"

static const char key;
static int destroyed;

static void
value_destroy(void *value)
{
    destroyed += *(int *)value;
}

static struct ctx *
derive_value(struct ctx *parent)
{
    static int one = 1;

    return ctx_with_value(parent, &key, &one, value_destroy);
}

static struct ctx *
derive_value_as_it_is(struct ctx *parent)
{
    return ctx_with_value(parent, &key, &destroyed, NULL);
}

static struct ctx *
derive_timeout(struct ctx *parent)
{
    return ctx_with_timeout(parent, ROTA_SEC(3600));
}

static struct ctx *
derive_timeout_cause(struct ctx *parent)
{
    return ctx_with_timeout_cause(parent, ROTA_SEC(3600), "a cause");
}

static struct ctx *
derive_expired(struct ctx *parent)
{
    return ctx_with_timeout_cause(parent, 0, "a cause");
}

static struct ctx *
derive_signals(struct ctx *parent)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    return ctx_with_signals(parent, &set);
}

static struct ctx *
derive_merge(struct ctx *parent)
{
    return ctx_merge(parent, ctx_todo());
}

static struct ctx *
derive_peer(struct ctx *parent)
{
    static int pair[2] = {-1, -1};

    if (pair[0] < 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        abort();
    return ctx_with_peer(parent, pair[0]);
}

static const struct derivation {
    struct ctx *(*derive)(struct ctx *parent);
    int failures; /* how many calls can fail */
    int costs;    /* of these, each time */
    enum rota_error error;
} derivations[] = {
    {ctx_with_cancel, 1, 1, ROTA_OK},
    {derive_value, 1, 1, ROTA_OK},
    {derive_value_as_it_is, 1, 1, ROTA_OK},
    {derive_timeout, 4, 1, ROTA_OK}, /* node, two threads, heap */
    {derive_timeout_cause, 5, 2, ROTA_OK},
    {derive_expired, 2, 2, ROTA_DEADLINE},
    {derive_signals, 3, 1, ROTA_OK}, /* node, eventfd, thread */
    {derive_merge, 1, 1, ROTA_OK},
    {derive_peer, 5, 3, ROTA_OK}, /* node, epoll, thread, duplicate, watch */
};

#define DERIVATIONS ((int)(sizeof(derivations) / sizeof(derivations[0])))

/* What every caller may rely on in the context that stands for no memory. */
static void
ck_assert_is_nomem(struct ctx *ctx)
{
    ck_assert_int_eq(ctx_err(ctx), ROTA_NOMEM);
    ck_assert_int_eq(ctx_cause_code(ctx), ROTA_NOMEM);
    ck_assert_str_eq(ctx_cause(ctx), "out of memory");
    ck_assert_int_eq(ctx_deadline(ctx), ROTA_FOREVER);
    ck_assert_int_eq(ctx_remaining(ctx), ROTA_FOREVER);
    ck_assert_ptr_null(ctx_value(ctx, &key));
    ck_assert_int_eq(ctx_wait(ctx, ROTA_FOREVER), ROTA_NOMEM);
    ck_assert_int_eq(ctx_sleep(ctx, ROTA_FOREVER), ROTA_NOMEM);
    ck_assert(!ctx_cancel_cause(ctx, "a cause"));
    ctx_unref(ctx_ref(ctx));
}

/* With a parent or without, once or from then on, with ROTA_DEBUG or without */
static const struct variant {
    bool has_parent, persists, is_debugged;
} variants[] = {{false, true, true},  {true, false, false},
                {true, true, false},  {false, false, false},
                {true, false, true},  {false, true, false},
                {false, false, true}, {true, true, true}};

/* A process with threads ends slowly under the thread sanitizer. */
#define VARIANTS (IS_THREAD_SANITIZED ? 2 : 8)

/* One derivation, one variant, and the number of the call that fails; in a
 * fresh process each, because a thread that was started stays. */
#define CALLS 6
#define CASES (DERIVATIONS * VARIANTS * CALLS)

START_TEST(constructor_that_fails_gives_the_context_of_no_memory)
{
    const struct derivation *d = &derivations[_i / CALLS / VARIANTS];
    const struct variant *variant = &variants[_i / CALLS % VARIANTS];
    bool has_parent = variant->has_parent, persists = variant->persists;
    bool fails = _i % CALLS < d->failures;
    struct ctx *parent, *ctx;

    if (variant->is_debugged)
        ck_assert_int_eq(setenv("ROTA_DEBUG", "1", 1), 0);
    parent = has_parent ? ctx_with_cancel(NULL) : NULL;
    persists ? faults_arm_from(_i % CALLS) : faults_arm(_i % CALLS);
    ctx = d->derive(parent);
    if (persists && fails)
        ctx_end(d->derive(parent)); /* again, and again without */
    ck_assert_int_eq(faults_disarm(), fails);
    if (fails) {
        ck_assert_is_nomem(ctx);
        ck_assert_int_eq(destroyed,
                         d->derive == derive_value ? 1 + persists : 0);
    } else {
        ck_assert_int_eq(ctx_err(ctx), d->error);
        ck_assert_int_eq(destroyed, 0);
    }
    ctx_end(ctx);            /* as on every path */
    ctx = d->derive(parent); /* and the next time there may be memory */
    ck_assert_int_eq(ctx_err(ctx), d->error);
    ctx_end(ctx);
    ck_assert(!has_parent || ctx_children(parent) == 0);
    ctx_end(parent);
}
END_TEST

START_TEST(deriving_costs_one_allocation_and_ending_none)
{
    const struct derivation *d = &derivations[_i];
    bool has_failed;

    ctx_end(d->derive(NULL)); /* threads, and whatever is made once */
    faults_arm(d->costs);
    ctx_end(d->derive(NULL));
    has_failed = faults_disarm();
    ck_assert(!has_failed);
    faults_arm(d->costs - 1);
    ctx_end(d->derive(NULL));
    has_failed = faults_disarm();
    ck_assert(has_failed);
}
END_TEST

START_TEST(without_cancel_falls_back_to_background)
{
    struct ctx *parent = ctx_with_cancel(NULL), *ctx;

    _i ? faults_arm_from(0) : faults_arm(0);
    ctx = ctx_without_cancel(parent);
    ck_assert(faults_disarm());
    ck_assert_ptr_eq(ctx, ctx_background());
    ctx_end(parent);
}
END_TEST

START_TEST(what_is_derived_from_no_memory_has_its_end)
{
    int one = 1;
    struct ctx *nomem, *ctx;
    struct ctx_hook hook;

    faults_arm(0);
    nomem = ctx_with_cancel(NULL);
    ck_assert(faults_disarm());
    ctx = ctx_with_timeout(nomem, ROTA_SEC(3600));
    ck_assert_int_eq(ctx_err(ctx), ROTA_NOMEM);
    ck_assert_str_eq(ctx_cause(ctx), "out of memory");
    ck_assert(!ctx_cancel(ctx));
    ctx_end(ctx);
    ctx = ctx_with_value(nomem, &key, &one, value_destroy);
    ck_assert_int_eq(ctx_err(ctx), ROTA_NOMEM);
    ck_assert_ptr_eq(ctx_value(ctx, &key), &one);
    ctx_end(ctx);
    ck_assert_int_eq(destroyed, 1);
    ctx = ctx_without_cancel(nomem);
    ck_assert(!ctx_done(ctx));
    ctx_end(ctx);
    destroyed = 0;
    ctx_after(nomem, &hook, value_destroy, &one);
    ck_assert_int_eq(destroyed, 1); /* inside, for it is done */
    ctx_end(nomem);
}
END_TEST

START_TEST(cause_that_cannot_be_copied_becomes_the_usual_words)
{
    struct ctx *ctx = ctx_with_cancel(NULL);
    bool has_ended;

    faults_arm(0);
    has_ended = ctx_cancel_cause(ctx, "for %s reasons", "many");
    ck_assert(faults_disarm() && has_ended);
    ck_assert_str_eq(ctx_cause(ctx), "context canceled");
    ctx_unref(ctx);

    ctx = ctx_with_cancel(NULL);
    faults_arm(0);
    has_ended = ctx_cancel_error(ctx, ROTA_LOST, "for %s reasons", "many");
    ck_assert(faults_disarm() && has_ended);
    ck_assert_int_eq(ctx_err(ctx), ROTA_CANCELED);
    ck_assert_int_eq(ctx_cause_code(ctx), ROTA_LOST); /* the code is kept */
    ck_assert_str_eq(ctx_cause(ctx), rota_strerror(ROTA_LOST));
    ctx_unref(ctx);
}
END_TEST

static void
nothing(void *arg)
{
    (void)arg;
}

START_TEST(ending_waiting_and_hooks_need_no_memory)
{
    struct ctx *parent = ctx_with_timeout(NULL, ROTA_SEC(3600));
    struct ctx *child = ctx_with_cancel(parent);
    struct ctx_hook ran, stopped;
    bool has_stopped, has_ended;
    enum rota_error error;

    faults_arm_from(0); /* from here on Check may not allocate either */
    ctx_after(child, &ran, nothing, NULL);
    ctx_after(child, &stopped, nothing, NULL);
    has_stopped = ctx_hook_stop(&stopped);
    error = ctx_wait(child, 0);
    has_ended = ctx_cancel(parent);
    ctx_end(child);
    ctx_end(parent);
    ck_assert(!faults_disarm());
    ck_assert(has_stopped && has_ended);
    ck_assert_int_eq(error, ROTA_TIMEOUT);
}
END_TEST

/* A tree that was made in better times, with all that can be in one. */
START_TEST(tree_lives_and_ends_without_memory)
{
    struct ctx *parent = ctx_with_timeout(NULL, ROTA_MS(5)),
               *children[DERIVATIONS];
    struct ctx_hook hooks[DERIVATIONS];
    atomic_int runs = 0;
    bool has_failed, are_done = true;
    int n = 0;

    for (int i = 0; i < DERIVATIONS; i++)
        if (derivations[i].error == ROTA_OK)
            children[n++] = derivations[i].derive(parent);
    for (int i = 0; i < n; i++)
        ctx_after(children[i], &hooks[i], count_up, &runs);
    faults_arm_from(0);
    are_done &= ctx_wait(children[0], ROTA_FOREVER) == ROTA_DEADLINE;
    AWAIT(runs == n); /* on the service's thread or here */
    for (int i = 0; i < n; i++) {
        are_done &= ctx_err(children[i]) == ROTA_DEADLINE;
        ctx_hook_stop_wait(&hooks[i]);
        ctx_end(children[i]);
    }
    ctx_end(parent);
    has_failed = faults_disarm();
    ck_assert(!has_failed);
    ck_assert(are_done);
    ck_assert_int_eq(runs, n);
}
END_TEST

static Suite *
oom_suite(void)
{
    Suite *suite = suite_create("ctx without memory");
    TCase *faults = tcase_create("faults");

    tcase_add_loop_test(faults,
                        constructor_that_fails_gives_the_context_of_no_memory,
                        0, CASES);
    tcase_add_loop_test(faults, deriving_costs_one_allocation_and_ending_none,
                        0, DERIVATIONS);
    tcase_add_loop_test(faults, without_cancel_falls_back_to_background, 0, 2);
    tcase_add_test(faults, what_is_derived_from_no_memory_has_its_end);
    tcase_add_test(faults, cause_that_cannot_be_copied_becomes_the_usual_words);
    tcase_add_test(faults, ending_waiting_and_hooks_need_no_memory);
    tcase_add_test(faults, tree_lives_and_ends_without_memory);
    suite_add_tcase(suite, faults);
    return suite;
}

int
main(void)
{
    return suite_run(oom_suite());
}
