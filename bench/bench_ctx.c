/*
 * Contexts, against what each of their calls cannot be faster than:
 *
 *   ctx_done()                  an inlined acquire load behind a pointer
 *   ctx_with_cancel + ctx_end   a malloc'd node, an intrusive list, a mutex
 *   ctx_after + ctx_hook_stop   an uncontended lock pair
 *   a cancel of 100,000         a walk over an intrusive list of as many
 *   a cancel until it is seen   a bare flag, polled by another core
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>

#include <rota/ctx.h>

#include "base.h"
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
    CTX_AUTO struct ctx *ctx = ctx_with_cancel(NULL);
    struct flag *flag = bench_alloc(sizeof(*flag));
    size_t n = bench_size(options, 100000000);
    struct polling polling[] = {{poll_ctx, ctx, n, 1},
                                {poll_flag, flag, n, 1},
                                {poll_ctx, ctx, n, 2},
                                {poll_flag, flag, n, 2}};
    struct contender all[] = {{run_polling, &polling[0], {0}},
                              {run_polling, &polling[1], {0}},
                              {run_polling, &polling[2], {0}},
                              {run_polling, &polling[3], {0}}};

    flag->is_set = 0;
    bench_compete(all, 4, bench_rounds(options, ROUNDS_CROWDED));
    bench_say(BENCH_NS, "ctx_done, 1 thread", all[0].median[0],
              "an inlined acquire load", all[1].median[0], "at most 1.1");
    bench_say(BENCH_NS, "ctx_done, 2 threads", all[2].median[0],
              "an inlined acquire load", all[3].median[0], "at most 1.1");
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
    CTX_AUTO struct ctx *ctx = ctx_with_cancel(NULL);
    struct node *node = node_new(NULL);
    size_t n = bench_size(options, 1000000);
    struct lives lives[] = {{NULL, n}, {ctx, n}, {node, n}};
    struct contender all[] = {{run_ctx_lives, &lives[0], {0}},
                              {run_node_lives, &lives[0], {0}},
                              {run_ctx_lives, &lives[1], {0}},
                              {run_node_lives, &lives[2], {0}}};

    bench_compete(all, 4, bench_rounds(options, ROUNDS_CALM));
    bench_say(BENCH_NS, "ctx_with_cancel + ctx_end, a root", all[0].median[0],
              "a malloc'd node and a mutex", all[1].median[0], NULL);
    bench_say(BENCH_NS, "ctx_with_cancel + ctx_end, a child", all[2].median[0],
              "a malloc'd node, a list and a mutex", all[3].median[0], NULL);
    free(node);
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
              "an uncontended lock pair", all[1].median[0], NULL);
}

/* -- Fan-out -------------------------------------------------------------- */

static void
run_ctx_fan_out(void *arg, double *ret_figures)
{
    size_t n = *(const size_t *)arg;
    struct ctx *root = ctx_with_cancel(NULL);
    struct ctx **children = bench_alloc(n * sizeof(struct ctx *));
    int64_t start;

    for (size_t i = 0; i < n; i++)
        children[i] = ctx_with_cancel(root);
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
    size_t n = 100000; /* of the line below, so never fewer */
    struct contender all[] = {{run_ctx_fan_out, &n, {0}},
                              {run_node_fan_out, &n, {0}}};

    bench_compete(all, 2, bench_rounds(options, ROUNDS_CALM));
    bench_say(BENCH_NS, "a cancel, for each of 100,000 children",
              all[0].median[0], "a walk over an intrusive list",
              all[1].median[0], NULL);
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
    struct contender all[] = {{run_seeing, &seeing[0], {0}},
                              {run_seeing, &seeing[1], {0}}};

    bench_compete(all, 2, bench_rounds(options, ROUNDS_CALM));
    bench_say(BENCH_NS, "ctx_cancel until a polling loop sees it, p50",
              all[0].median[0], "a bare flag", all[1].median[0], NULL);
    bench_say(BENCH_NS, "ctx_cancel until a polling loop sees it, p99",
              all[0].median[1], "a bare flag", all[1].median[1], NULL);
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
    bench_hooks(&options);
    bench_fan_out(&options);
    bench_seeing(&options);
    return 0;
}
