/*
 * GLib: GCancellable, GThreadPool.
 */
#include "peer.h"

#include <gio/gio.h>

static GCancellable *cancellable;

static void
poll(void *arg, size_t n)
{
    (void)arg;
    while (n-- > 0) {
        FORGET();
        if (g_cancellable_is_cancelled(cancellable))
            abort();
    }
}

static int
life(size_t n)
{
    int64_t start = now();

    for (size_t i = 0; i < n; i++) {
        GCancellable *own = g_cancellable_new();

        g_cancellable_cancel(own);
        g_object_unref(own);
    }
    return say_each(start, n);
}

static size_t ran;

static void
count_one(void *task, void *data)
{
    (void)task;
    (void)data;
    (void)__atomic_fetch_add(&ran, 1, __ATOMIC_RELAXED);
}

static void
produce(void *pool, size_t n)
{
    while (n-- > 0)
        (void)g_thread_pool_push(pool, &ran, NULL);
}

static int
submit(unsigned producers, size_t n)
{
    GThreadPool *pool = g_thread_pool_new(count_one, NULL, WORKERS, TRUE, NULL);
    int64_t start = team_run(producers, produce, pool, n / producers);

    g_thread_pool_free(pool, FALSE, TRUE);
    n = n / producers * producers;
    return __atomic_load_n(&ran, __ATOMIC_RELAXED) == n ? say_rate(start, n)
                                                        : 1;
}

static GThreadPool *tree;

static void
branch(void *task, void *data)
{
    size_t depth = GPOINTER_TO_SIZE(task) - 1;

    (void)data;
    (void)__atomic_fetch_add(&ran, 1, __ATOMIC_RELAXED);
    if (depth == 0)
        return;
    for (int i = 0; i < 2; i++)
        (void)g_thread_pool_push(tree, GSIZE_TO_POINTER(depth), NULL);
}

/* n is 2^k - 1. */
static int
grow_tree(size_t n)
{
    const struct timespec tick = {0, 100000};
    size_t depth = (size_t)__builtin_ctzll(n + 1);
    int64_t start;

    tree = g_thread_pool_new(branch, NULL, WORKERS, TRUE, NULL);
    start = now();
    (void)g_thread_pool_push(tree, GSIZE_TO_POINTER(depth), NULL);
    while (__atomic_load_n(&ran, __ATOMIC_RELAXED) < n)
        (void)nanosleep(&tick, NULL);
    g_thread_pool_free(tree, FALSE, TRUE);
    return say_rate(start, n);
}

static void
on_wake(void *task, void *data)
{
    (void)task;
    (void)data;
    note_start();
}

static void
wake(void *pool)
{
    (void)g_thread_pool_push(pool, &ran, NULL);
}

int
main(int argc, char **argv)
{
    const char *measure = argc == 3 ? argv[1] : "";
    size_t n = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;

    cancellable = g_cancellable_new();
    (void)team_run(1, poll, NULL, 1);
    if (strcmp(measure, "poll1") == 0)
        return say_each(team_run(1, poll, NULL, n), n);
    if (strcmp(measure, "poll2") == 0)
        return say_each(team_run(2, poll, NULL, n), n);
    if (strcmp(measure, "life") == 0)
        return life(n);
    if (strcmp(measure, "submit1") == 0)
        return submit(1, n);
    if (strcmp(measure, "submit4") == 0)
        return submit(4, n);
    if (strcmp(measure, "tree") == 0)
        return grow_tree(n);
    if (strcmp(measure, "wake") == 0)
        return say_wakes(
            wake, g_thread_pool_new(on_wake, NULL, WORKERS, TRUE, NULL), n);
    return NO_MEASURE;
}
