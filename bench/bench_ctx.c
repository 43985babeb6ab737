/*
 * Contexts, against what each of their calls cannot be faster than, and against
 * those peers that are installed (peers/build):
 *
 *   ctx_done()                  an inlined acquire load behind a pointer
 *   ctx_with_cancel + ctx_end   a malloc'd node, an intrusive list, a mutex
 *   ctx_with_timeout + ctx_end  peers only; and with 400,000 others that wait
 *   ctx_after + ctx_hook_stop   an uncontended lock pair
 *   a cancel of 100,000         a walk over an intrusive list of as many
 *   a cancel until it is seen   a bare flag, polled by another core; a bare
 *                               condition variable, waited for
 *   10,000 deadlines a second   a thread that sleeps until each of as many
 */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <rota/ctx.h>

#include "base/base.h"
#include "bench.h"

/* Make the compiler forget what it has read, so that a load stays in its
 * loop. */
#define FORGET() __asm__ volatile("" ::: "memory")

/* Loops that are compared start alike in the instruction cache. */
#define LOOP __attribute__((noinline, aligned(64)))

/* -- Polling -------------------------------------------------------------- */

struct flag {
    uint32_t is_set;
};

typedef bool poll_fn(const void *object, size_t n);

LOOP static bool
poll_ctx(const void *object, size_t n)
{
    const struct ctx *ctx = object;

    while (n-- > 0) {
        FORGET();
        if (ctx_done(ctx))
            return true;
    }
    return false;
}

LOOP static bool
poll_flag(const void *object, size_t n)
{
    const struct flag *flag = object;

    while (n-- > 0) {
        FORGET();
        if (__atomic_load_n(&flag->is_set, __ATOMIC_ACQUIRE) != 0)
            return true;
    }
    return false;
}

/* About 4 ns that depend on what came before. */
static inline uint64_t
some_work(uint64_t x)
{
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}

#define SEED UINT64_C(88172645463325252)

LOOP static bool
poll_ctx_and_work(const void *object, size_t n)
{
    const struct ctx *ctx = object;
    uint64_t x = SEED;

    while (n-- > 0) {
        FORGET();
        if (ctx_done(ctx))
            return true;
        x = some_work(x);
    }
    return x == 0;
}

LOOP static bool
only_work(const void *object, size_t n)
{
    uint64_t x = SEED;

    (void)object;
    while (n-- > 0) {
        FORGET();
        x = some_work(x);
    }
    return x == 0;
}

struct polling {
    poll_fn *poll;
    const void *object;
    size_t n;
    unsigned threads;
};

struct poller {
    const struct polling *polling;
    pthread_barrier_t *start;
    double ns;
};

static void *
poller_body(void *arg)
{
    struct poller *poller = arg;
    const struct polling *polling = poller->polling;
    int64_t start;

    (void)pthread_barrier_wait(poller->start);
    start = ctx_now();
    if (polling->poll(polling->object, polling->n))
        bench_fail("a context that nobody ended is done");
    poller->ns = bench_each(start, polling->n);
    return NULL;
}

/* The mean of polling->threads threads that poll one object. */
static void
run_polling(void *arg, double *ret_figures)
{
    const struct polling *polling = arg;
    pthread_barrier_t start;
    struct poller pollers[2];
    pthread_t threads[2];

    MUST(pthread_barrier_init(&start, NULL, polling->threads));
    for (unsigned i = 0; i < polling->threads; i++) {
        pollers[i] = (struct poller){.polling = polling, .start = &start};
        MUST(pthread_create(&threads[i], NULL, poller_body, &pollers[i]));
    }
    for (unsigned i = 0; i < polling->threads; i++) {
        MUST(pthread_join(threads[i], NULL));
        ret_figures[0] += pollers[i].ns / polling->threads;
    }
    MUST(pthread_barrier_destroy(&start));
}

static void
bench_polling(const struct bench_options *options)
{
    static const struct bench_target targets[] = {
        {"stop_token", "at most 0.7"}, {"go", "at most 0.15"}, {NULL, NULL}};
    CTX_AUTO struct ctx *ctx = ctx_with_cancel(NULL);
    struct flag *flag = bench_alloc(sizeof(*flag));
    size_t n = bench_size(options, 100000000);
    struct polling polling[] = {
        {poll_ctx, ctx, n, 1},          {poll_flag, flag, n, 1},
        {poll_ctx, ctx, n, 2},          {poll_flag, flag, n, 2},
        {poll_ctx_and_work, ctx, n, 1}, {only_work, NULL, n, 1}};
    struct contender all[6 + 2 * PEERS];
    const char *what[] = {"ctx_done, 1 thread", "ctx_done, 2 threads"};
    size_t peers[2], at = 6;

    for (int i = 0; i < 6; i++)
        all[i] = (struct contender){run_polling, &polling[i], {0}};
    flag->is_set = 0;
    at += peers[0] = bench_peers(options, "poll1", n, all + at);
    at += peers[1] = bench_peers(options, "poll2", n, all + at);
    bench_compete(all, at, bench_rounds(options, ROUNDS_CROWDED));
    for (int i = 0; i < 2; i++) {
        bench_say(BENCH_NS, what[i], all[2 * i].median[0],
                  "an inlined acquire load", all[2 * i + 1].median[0],
                  "at most 1.1");
        bench_say_peers(BENCH_NS, what[i], all[2 * i].median[0],
                        all + (i == 0 ? 6 : 6 + peers[0]), peers[i], 0,
                        targets);
    }
    bench_say(BENCH_NS, "4 ns of work and ctx_done", all[4].median[0],
              "the work alone", all[5].median[0], "1");
    free(flag);
}

/* -- Making and ending ---------------------------------------------------- */

/* The least a tree of contexts could be. */
struct node {
    uint32_t done;
    struct node *parent;
    struct link children; /* under tree_lock */
    struct link on_parent;
};

static pthread_mutex_t tree_lock = PTHREAD_MUTEX_INITIALIZER;

static struct node *
node_new(struct node *parent)
{
    struct node *node = bench_alloc(sizeof(*node));

    node->done = 0;
    node->parent = parent;
    list_init(&node->children);
    list_init(&node->on_parent);
    if (parent == NULL)
        return node;
    lock_take(&tree_lock);
    list_append(&parent->children, &node->on_parent);
    lock_drop(&tree_lock);
    return node;
}

/* Mark node and its children, and let go of them. */
static void
node_cancel(struct node *node)
{
    struct link *l;

    lock_take(&tree_lock);
    __atomic_store_n(&node->done, 1, __ATOMIC_RELEASE);
    list_remove(&node->on_parent);
    while ((l = list_take(&node->children)) != NULL) {
        struct node *child = OWNER_OF(l, struct node, on_parent);

        __atomic_store_n(&child->done, 1, __ATOMIC_RELEASE);
    }
    lock_drop(&tree_lock);
}

/* A whole life, n times, below a parent. */
struct lives {
    void *parent;
    size_t n;
};

static void
run_ctx_lives(void *arg, double *ret_figures)
{
    const struct lives *lives = arg;
    int64_t start = ctx_now();

    for (size_t i = 0; i < lives->n; i++)
        ctx_end(ctx_with_cancel(lives->parent));
    ret_figures[0] = bench_each(start, lives->n);
}

static void
run_node_lives(void *arg, double *ret_figures)
{
    const struct lives *lives = arg;
    int64_t start = ctx_now();

    for (size_t i = 0; i < lives->n; i++) {
        struct node *node = node_new(lives->parent);

        FORGET();
        node_cancel(node);
        free(node);
    }
    ret_figures[0] = bench_each(start, lives->n);
}

static void
bench_lives(const struct bench_options *options)
{
    static const struct bench_target targets[] = {{"go", "at most 0.25"},
                                                  {NULL, NULL}};
    CTX_AUTO struct ctx *ctx = ctx_with_cancel(NULL);
    struct node *node = node_new(NULL);
    size_t n = bench_size(options, 1000000);
    struct lives lives[] = {{NULL, n}, {ctx, n}, {node, n}};
    struct contender all[4 + 2 * PEERS] = {{run_ctx_lives, &lives[0], {0}},
                                           {run_node_lives, &lives[0], {0}},
                                           {run_ctx_lives, &lives[1], {0}},
                                           {run_node_lives, &lives[2], {0}}};
    const char *what[] = {"ctx_with_cancel + ctx_end, a root",
                          "ctx_with_cancel + ctx_end, a child"};
    size_t peers[2], at = 4;

    at += peers[0] = bench_peers(options, "life", n, all + at);
    at += peers[1] = bench_peers(options, "child", n, all + at);
    bench_compete(all, at, bench_rounds(options, ROUNDS_CALM));
    for (int i = 0; i < 2; i++) {
        bench_say(BENCH_NS, what[i], all[2 * i].median[0],
                  "a malloc'd node, a list and a mutex",
                  all[2 * i + 1].median[0], "at most 1.5");
        bench_say_peers(BENCH_NS, what[i], all[2 * i].median[0],
                        all + (i == 0 ? 4 : 4 + peers[0]), peers[i], 0,
                        targets);
    }
    free(node);
}

/* -- Deadlines ------------------------------------------------------------ */

#define CROWD 400000

/* n of them, one after the other, while others wait. */
struct timeouts {
    size_t n, others;
};

static void
run_timeouts(void *arg, double *ret_figures)
{
    const struct timeouts *timeouts = arg;
    struct ctx **others = bench_alloc((timeouts->others + 1) * sizeof(*others));
    int64_t hour = ROTA_SEC(3600), start;

    for (size_t i = 0; i < timeouts->others; i++)
        others[i] = ctx_with_timeout(NULL, hour + ROTA_MS((int64_t)i));
    start = ctx_now();
    for (size_t i = 0; i < timeouts->n; i++)
        ctx_end(ctx_with_timeout(NULL, hour + ROTA_US((int64_t)i)));
    ret_figures[0] = bench_each(start, timeouts->n);
    for (size_t i = 0; i < timeouts->others; i++)
        ctx_end(others[i]);
    free(others);
}

static void
bench_timeouts(const struct bench_options *options)
{
    static const struct bench_target targets[] = {{"go", "at most 0.25"},
                                                  {NULL, NULL}};
    size_t n = bench_size(options, 1000000);
    struct timeouts timeouts[] = {{n, 0}, {n, CROWD}};
    struct contender all[2 + 2 * PEERS] = {{run_timeouts, &timeouts[0], {0}},
                                           {run_timeouts, &timeouts[1], {0}}};
    size_t alone, crowded;

    alone = bench_peers(options, "timeout", n, all + 2);
    crowded = bench_peers(options, "timeout-crowded", n, all + 2 + alone);
    bench_compete(all, 2 + alone + crowded, bench_rounds(options, ROUNDS_CALM));
    bench_say_peers(BENCH_NS, "ctx_with_timeout + ctx_end", all[0].median[0],
                    all + 2, alone, 0, targets);
    bench_say_peers(BENCH_NS, "the same with 400,000 others", all[1].median[0],
                    all + 2 + alone, crowded, 0, targets);
    bench_say(BENCH_NS, "the same with 400,000 others", all[1].median[0],
              "alone", all[0].median[0], NULL);
}

/* 10,000 of them a second: how late is each? */
#define EVERY ROTA_US(100)

struct due {
    struct ctx_hook hook;
    int64_t at;
    double *late;
    atomic_size_t *left;
};

static void
note_late(void *arg)
{
    struct due *due = arg;

    *due->late = (double)(ctx_now() - due->at);
    atomic_fetch_sub(due->left, 1);
}

static void
run_deadlines(void *arg, double *ret_figures)
{
    size_t n = *(const size_t *)arg;
    struct due *dues = bench_alloc(n * sizeof(*dues));
    struct ctx **all = bench_alloc(n * sizeof(struct ctx *));
    double *late = bench_alloc(n * sizeof(*late));
    int64_t start = ctx_now() + ROTA_MS(50);
    atomic_size_t left = n;

    for (size_t i = 0; i < n; i++) {
        dues[i].at = start + (int64_t)i * EVERY;
        dues[i].late = &late[i];
        dues[i].left = &left;
        all[i] = ctx_with_deadline(NULL, dues[i].at);
        ctx_after(all[i], &dues[i].hook, note_late, &dues[i]);
    }
    while (atomic_load(&left) > 0)
        (void)ctx_sleep(ctx_background(), ROTA_MS(10));
    for (size_t i = 0; i < n; i++)
        ctx_end(all[i]);
    bench_percentiles(late, n, ret_figures);
    free(late);
    free(all);
    free(dues);
}

static void
run_sleeps(void *arg, double *ret_figures)
{
    size_t n = *(const size_t *)arg;
    double *late = bench_alloc(n * sizeof(*late));
    int64_t start = ctx_now() + ROTA_MS(1);

    for (size_t i = 0; i < n; i++) {
        int64_t at = start + (int64_t)i * EVERY;
        const struct timespec until = {at / 1000000000, at % 1000000000};

        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) ==
               EINTR)
            continue;
        late[i] = (double)(ctx_now() - at);
    }
    bench_percentiles(late, n, ret_figures);
    free(late);
}

static void
bench_deadlines(const struct bench_options *options)
{
    size_t n = bench_size(options, 10000);
    struct contender all[] = {{run_deadlines, &n, {0}}, {run_sleeps, &n, {0}}};

    bench_compete(all, 2, bench_rounds(options, ROUNDS_CALM));
    bench_say(BENCH_NS, "a deadline's callback, late by, p50", all[0].median[0],
              "a bare clock_nanosleep", all[1].median[0], NULL);
    bench_say(BENCH_NS, "a deadline's callback, late by, p99", all[0].median[1],
              "a bare clock_nanosleep", all[1].median[1], "ours below 1 ms");
}

/* -- Callbacks ------------------------------------------------------------ */

static void
nothing(void *arg)
{
    (void)arg;
}

static void
run_hooks(void *arg, double *ret_figures)
{
    const struct lives *lives = arg;
    struct ctx_hook hook;
    int64_t start = ctx_now();

    for (size_t i = 0; i < lives->n; i++) {
        ctx_after(lives->parent, &hook, nothing, NULL);
        if (!ctx_hook_stop(&hook))
            bench_fail("a callback ran");
    }
    ret_figures[0] = bench_each(start, lives->n);
}

static void
run_lock_pairs(void *arg, double *ret_figures)
{
    const struct lives *lives = arg;
    int64_t start = ctx_now();

    for (size_t i = 0; i < lives->n; i++) {
        lock_take(&tree_lock);
        FORGET();
        lock_drop(&tree_lock);
    }
    ret_figures[0] = bench_each(start, lives->n);
}

static void
bench_hooks(const struct bench_options *options)
{
    CTX_AUTO struct ctx *ctx = ctx_with_cancel(NULL);
    struct lives lives = {ctx, bench_size(options, 2000000)};
    struct contender all[] = {{run_hooks, &lives, {0}},
                              {run_lock_pairs, &lives, {0}}};

    bench_compete(all, 2, bench_rounds(options, ROUNDS_CALM));
    bench_say(BENCH_NS, "ctx_after + ctx_hook_stop", all[0].median[0],
              "an uncontended lock pair", all[1].median[0], "at most 3");
}

/* -- Fan-out -------------------------------------------------------------- */

static void
run_ctx_fan_out(void *arg, double *ret_figures)
{
    size_t n = *(const size_t *)arg;
    struct ctx *root = ctx_with_cancel(NULL);
    struct ctx **children = bench_alloc(n * sizeof(struct ctx *));
    size_t before;
    int64_t start;

    before = mallinfo2().uordblks;
    for (size_t i = 0; i < n; i++)
        children[i] = ctx_with_cancel(root);
    ret_figures[1] = (double)(mallinfo2().uordblks - before) / (double)n;
    start = ctx_now();
    (void)ctx_cancel(root);
    ret_figures[0] = bench_each(start, n);
    for (size_t i = 0; i < n; i++)
        ctx_end(children[i]);
    ctx_end(root);
    free(children);
}

static void
run_node_fan_out(void *arg, double *ret_figures)
{
    size_t n = *(const size_t *)arg;
    struct node *root = node_new(NULL);
    struct node **children = bench_alloc(n * sizeof(struct node *));
    int64_t start;

    for (size_t i = 0; i < n; i++)
        children[i] = node_new(root);
    start = ctx_now();
    node_cancel(root);
    ret_figures[0] = bench_each(start, n);
    for (size_t i = 0; i < n; i++)
        free(children[i]);
    free(root);
    free(children);
}

static void
bench_fan_out(const struct bench_options *options)
{
    static const struct bench_target targets[] = {
        {"stop_token", "at most 0.6"}, {"go", "at most 0.05"}, {NULL, NULL}};
    size_t n = 100000; /* of the line below, so never fewer */
    struct contender all[2 + PEERS] = {{run_ctx_fan_out, &n, {0}},
                                       {run_node_fan_out, &n, {0}}};
    size_t peers = bench_peers(options, "fan-out", n, all + 2);
    const char *what = "a cancel, for each of 100,000 children";

    bench_compete(all, 2 + peers, bench_rounds(options, ROUNDS_CALM));
    bench_say(BENCH_NS, what, all[0].median[0], "a walk over an intrusive list",
              all[1].median[0], "at most 2");
    bench_say_peers(BENCH_NS, what, all[0].median[0], all + 2, peers, 0,
                    targets);
    bench_say(BENCH_BYTES, "memory for a child", all[0].median[1],
              "what is wanted", 128, "at most 1");
    bench_say_peers(BENCH_BYTES, "memory for a child", all[0].median[1],
                    all + 2, peers, 1, NULL);
}

/* -- Until it is seen ----------------------------------------------------- */

static struct ctx *
live_ctx(void)
{
    return ctx_with_cancel(NULL);
}

static void
cancel(struct ctx *ctx)
{
    (void)ctx_cancel(ctx);
}

static const struct bench_end by_cancel = {live_ctx, cancel, ctx_end};

struct seeing {
    const struct bench_end *how;
    size_t samples;
};

static void
run_seeing(void *arg, double *ret_figures)
{
    const struct seeing *seeing = arg;

    bench_end_seen(seeing->how, seeing->samples, ret_figures);
}

static void
bench_seeing(const struct bench_options *options)
{
    size_t n = bench_size(options, 10000);
    struct seeing seeing[] = {{&by_cancel, n}, {&bench_bare_flag, n}};
    struct contender all[2 + PEERS] = {{run_seeing, &seeing[0], {0}},
                                       {run_seeing, &seeing[1], {0}}};
    size_t peers = bench_peers(options, "seen", n, all + 2);
    const char *what[] = {"ctx_cancel until a polling loop sees it, p50",
                          "ctx_cancel until a polling loop sees it, p99"};

    bench_compete(all, 2 + peers, bench_rounds(options, ROUNDS_CALM));
    for (int i = 0; i < 2; i++) {
        bench_say(BENCH_NS, what[i], all[0].median[i], "a bare flag",
                  all[1].median[i], "at most 2");
        bench_say_peers(BENCH_NS, what[i], all[0].median[i], all + 2, peers, i,
                        NULL);
    }
}

/* -- Until a waiter is awake ---------------------------------------------- */

/* One that waits, again and again, until over. */
struct waiter {
    pthread_mutex_t mutex; /* guards the conditions' use, and is_set */
    pthread_cond_t bare;
    struct ctx_cond cond;
    bool is_set;
    struct ctx *ctx; /* NULL: the bare condition is waited for */
    atomic_bool over;
    atomic_int_fast64_t awake_at; /* 0: not yet */
    atomic_bool is_ready;         /* for the next */
};

static void *
waiter_body(void *arg)
{
    struct waiter *waiter = arg;

    MUST(pthread_mutex_lock(&waiter->mutex));
    for (;;) {
        atomic_store(&waiter->is_ready, true);
        if (waiter->ctx == NULL) {
            while (!waiter->is_set)
                MUST(pthread_cond_wait(&waiter->bare, &waiter->mutex));
        } else {
            while (ctx_cond_wait(waiter->ctx, &waiter->cond, &waiter->mutex,
                                 ROTA_FOREVER) == ROTA_OK)
                continue;
        }
        atomic_store(&waiter->awake_at, ctx_now());
        /* the next, once it is there */
        MUST(pthread_mutex_unlock(&waiter->mutex));
        while (atomic_load(&waiter->awake_at) != 0 &&
               !atomic_load(&waiter->over))
            (void)sched_yield();
        if (atomic_load(&waiter->over))
            return NULL;
        MUST(pthread_mutex_lock(&waiter->mutex));
    }
}

struct waking {
    bool is_bare;
    size_t n;
};

static void
run_waking(void *arg, double *ret_figures)
{
    const struct waking *waking = arg;
    struct waiter waiter = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                            .bare = PTHREAD_COND_INITIALIZER};
    double *samples = bench_alloc(waking->n * sizeof(*samples));
    const struct timespec gap = {.tv_nsec = 200000};
    pthread_t thread;

    ctx_cond_init(&waiter.cond);
    waiter.ctx = waking->is_bare ? NULL : ctx_with_cancel(NULL);
    MUST(pthread_create(&thread, NULL, waiter_body, &waiter));
    for (size_t i = 0; i < waking->n; i++) {
        int64_t start, at;

        while (!atomic_load(&waiter.is_ready))
            (void)sched_yield();
        (void)nanosleep(&gap, NULL); /* until it is asleep */
        start = ctx_now();
        if (waking->is_bare) {
            MUST(pthread_mutex_lock(&waiter.mutex));
            waiter.is_set = true;
            MUST(pthread_mutex_unlock(&waiter.mutex));
            MUST(pthread_cond_signal(&waiter.bare));
        } else {
            (void)ctx_cancel(waiter.ctx);
        }
        while ((at = atomic_load(&waiter.awake_at)) == 0)
            (void)nanosleep(&gap, NULL);
        samples[i] = (double)(at - start);
        atomic_store(&waiter.is_ready, false);
        waiter.is_set = false;
        if (!waking->is_bare) {
            ctx_end(waiter.ctx);
            waiter.ctx = ctx_with_cancel(NULL);
        }
        if (i + 1 == waking->n)
            atomic_store(&waiter.over, true);
        atomic_store(&waiter.awake_at, 0);
    }
    MUST(pthread_join(thread, NULL));
    if (!waking->is_bare)
        ctx_end(waiter.ctx);
    bench_percentiles(samples, waking->n, ret_figures);
    free(samples);
}

static void
bench_waking(const struct bench_options *options)
{
    size_t n = bench_size(options, 2000);
    struct waking waking[] = {{false, n}, {true, n}};
    struct contender all[] = {{run_waking, &waking[0], {0}},
                              {run_waking, &waking[1], {0}}};
    const char *what[] = {"ctx_cancel until ctx_cond_wait is awake, p50",
                          "ctx_cancel until ctx_cond_wait is awake, p99"};

    bench_compete(all, 2, bench_rounds(options, ROUNDS_CALM));
    for (int i = 0; i < 2; i++)
        bench_say(BENCH_NS, what[i], all[0].median[i],
                  "a bare condition variable", all[1].median[i], "at most 1.3");
}

int
main(int argc, char **argv)
{
    struct bench_options options;

    bench_options(argc, argv, &options);
    /* first, as it starts threads: from then on locks and malloc() cost what
     * they do in a program with threads */
    bench_polling(&options);
    bench_lives(&options);
    bench_timeouts(&options);
    bench_hooks(&options);
    bench_fan_out(&options);
    bench_seeing(&options);
    bench_waking(&options);
    bench_deadlines(&options);
    return 0;
}
