/*
 * Everything at once: sixteen threads derive, cancel, end, wait on and hook
 * into the same contexts, at random.
 *
 * ROTA_TEST_OPS sets how many operations; 1000000 is the long form.
 * ROTA_TEST_SEED replays the choices of each thread.
 */
#define _GNU_SOURCE
#include <check.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "context/node.h"
#include "support.h"

#define THREADS 16
#define SLOTS   24

/* A context that anybody may take a reference of. */
static struct {
    pthread_mutex_t lock;
    struct ctx *ctx;
} slots[SLOTS];

static atomic_int values, hooks_run_here, hooks_stopped, hooks_armed;

struct player {
    unsigned seed;
    int ops;
};

static unsigned
any(struct player *player, unsigned n)
{
    return (unsigned)rand_r(&player->seed) % n;
}

static struct ctx *
borrow(struct player *player)
{
    unsigned i = any(player, SLOTS);
    struct ctx *ctx;

    ck_assert_int_eq(pthread_mutex_lock(&slots[i].lock), 0);
    ctx = ctx_ref(slots[i].ctx);
    ck_assert_int_eq(pthread_mutex_unlock(&slots[i].lock), 0);
    return ctx;
}

/* Put ctx into a slot, and end or drop what was there. */
static void
lend(struct player *player, struct ctx *ctx)
{
    unsigned i = any(player, SLOTS);
    struct ctx *before;

    ck_assert_int_eq(pthread_mutex_lock(&slots[i].lock), 0);
    before = slots[i].ctx;
    slots[i].ctx = ctx;
    ck_assert_int_eq(pthread_mutex_unlock(&slots[i].lock), 0);
    if (any(player, 2) == 0)
        ctx_end(before);
    else
        ctx_unref(before);
}

static void
drop_value(void *value)
{
    atomic_fetch_sub((atomic_int *)value, 1);
}

static struct ctx *
derive(struct player *player, struct ctx *parent)
{
    struct ctx *second, *ctx;
    sigset_t set;

    switch (any(player, 9)) {
    case 0:
        atomic_fetch_add(&values, 1);
        return ctx_with_value(parent, &values, &values, drop_value);
    case 1:
        return ctx_with_timeout(parent, ROTA_US(any(player, 2000)));
    case 2:
        return ctx_with_timeout_cause(parent, ROTA_US(any(player, 200)),
                                      "in time");
    case 3:
        return ctx_without_cancel(parent);
    case 4:
        return ctx_shield(parent, ROTA_US(any(player, 500)));
    case 5:
        second = borrow(player);
        ctx = ctx_merge(parent, second);
        ctx_unref(second);
        return ctx;
    case 6:
        sigemptyset(&set);
        sigaddset(&set, SIGUSR2);
        return ctx_with_signals(parent, &set);
    case 7:
        return ctx_with_cancel(NULL); /* so that the trees stay low */
    default:
        return ctx_with_cancel(parent);
    }
}

static void
on_end(void *arg)
{
    atomic_fetch_add(&hooks_run_here, 1);
    atomic_store((atomic_bool *)arg, true);
}

static void
hook_and_stop(struct player *player, struct ctx *ctx)
{
    struct ctx_hook hook;
    atomic_bool has_run = false;
    bool stopped = false;

    atomic_fetch_add(&hooks_armed, 1);
    ctx_after(ctx, &hook, on_end, &has_run);
    if (any(player, 2) == 0)
        ctx_cancel_cause(ctx, "by %u", player->seed);
    if (any(player, 2) == 0)
        stopped = ctx_hook_stop(&hook);
    if (!stopped) {
        ctx_hook_stop_wait(&hook);
        stopped = !atomic_load(&has_run);
    }
    if (stopped)
        atomic_fetch_add(&hooks_stopped, 1);
    ck_assert(stopped != atomic_load(&has_run)); /* once, or never */
}

static void
ask(struct player *player, struct ctx *ctx)
{
    bool done = ctx_done(ctx);
    enum rota_error error = ctx_err(ctx);
    const char *cause = ctx_cause(ctx);

    ck_assert(!done || error != ROTA_OK);
    ck_assert((error == ROTA_OK) || cause == NULL || cause[0] != '\0');
    ck_assert(!done || ctx_cause(ctx) != NULL);
    if (any(player, 20) == 0)
        ck_assert_int_ge(ctx_fd(ctx), 0);
    (void)ctx_value(ctx, &values);
}

static void *
play(void *arg)
{
    struct player *player = arg;

    while (player->ops-- > 0) {
        struct ctx *ctx = borrow(player);

        switch (any(player, 6)) {
        case 0:
        case 1:
            lend(player, derive(player, ctx));
            break;
        case 2:
            (void)ctx_cancel(ctx);
            ck_assert(ctx_done(ctx));
            break;
        case 3:
            hook_and_stop(player, ctx);
            break;
        case 4:
            (void)ctx_wait(ctx, ctx_now() + ROTA_US(any(player, 100)));
            break;
        default:
            ask(player, ctx);
        }
        ctx_unref(ctx);
    }
    return NULL;
}

START_TEST(whatever_is_done_at_once_nothing_is_lost_and_nothing_is_left)
{
    struct player players[THREADS];
    pthread_t threads[THREADS];
    int ops = number_from("ROTA_TEST_OPS", IS_SANITIZED ? 30000 : 200000);
    unsigned seed = (unsigned)number_from("ROTA_TEST_SEED", (int)time(NULL));
    FILE *nowhere = fopen("/dev/null", "w");

    (void)printf("ROTA_TEST_SEED=%u\n", seed);
    if (_i == 1)
        ck_assert_int_eq(setenv("ROTA_DEBUG", "1", 1), 0);
    for (int i = 0; i < SLOTS; i++) {
        ck_assert_int_eq(pthread_mutex_init(&slots[i].lock, NULL), 0);
        slots[i].ctx = ctx_with_cancel(NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        players[i] = (struct player){seed + (unsigned)i, ops / THREADS};
        threads[i] = thread_new(play, &players[i]);
    }
    for (int i = 0; i < THREADS; i++)
        (void)thread_join(threads[i]);
    for (int i = 0; i < SLOTS; i++)
        ctx_end(slots[i].ctx);
    /* the services may be holding some for a moment */
    AWAIT(values == 0);
    if (_i == 1)
        AWAIT(ctx_dump(nowhere) == 0);
    ck_assert_int_eq(hooks_run_here + hooks_stopped, hooks_armed);
    (void)fclose(nowhere);
}
END_TEST

static Suite *
stress_suite(void)
{
    Suite *suite = suite_create("ctx_stress");
    TCase *all = tcase_create("all");

    tcase_set_timeout(all, 300);
    tcase_add_loop_test(
        all, whatever_is_done_at_once_nothing_is_lost_and_nothing_is_left, 0,
        2);
    suite_add_tcase(suite, all);
    return suite;
}

int
main(void)
{
    return suite_run(stress_suite());
}
