/*
 * The pool and groups, against the pool that one would write first, against
 * the kernel, and against those peers that are installed (peers/build):
 *
 *   1,000,000 empty tasks   one mutex, one condition, one ring: signals on
 *                           every submit while a worker sleeps, takes one task
 *                           for each lock
 *   the start of one task   a futex that wakes a blocked thread
 *   a tree of 1,048,575     peers only: each task spawns two more, and, when
 *                           it joins, has a group of its own and waits
 *
 * A task is one relaxed fetch_add. Two workers; what is measured starts with
 * the first submit and ends when the last task has run and the workers have
 * been joined.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <rota/ctx.h>
#include <rota/group.h>

#include "base/base.h"
#include "bench.h"
#include "pool/pool.h"

#define WORKERS       2
#define MANY          50 /* tasks for one pool_submit_many() */
#define PRODUCERS_MAX 4

/* -- The naive pool ------------------------------------------------------- */

struct naive_task {
    pool_fn *fn;
    void *arg;
};

struct naive {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t filled;
    struct naive_task *ring;
    size_t capacity, first, count;
    int asleep;
    bool is_closing;
    pthread_t threads[WORKERS];
};

static void *
naive_body(void *arg)
{
    struct naive *naive = arg;
    struct naive_task task;

    lock_take(&naive->lock);
    for (;;) {
        while (naive->count == 0 && !naive->is_closing) {
            naive->asleep++;
            MUST(pthread_cond_wait(&naive->filled, &naive->lock));
            naive->asleep--;
        }
        if (naive->count == 0)
            break;
        task = naive->ring[naive->first];
        naive->first = (naive->first + 1) & (naive->capacity - 1);
        naive->count--;
        lock_drop(&naive->lock);
        task.fn(task.arg);
        lock_take(&naive->lock);
    }
    lock_drop(&naive->lock);
    return NULL;
}

static struct naive *
naive_open(void)
{
    struct naive *naive = bench_alloc(sizeof(*naive));

    *naive = (struct naive){.capacity = 64};
    naive->ring = bench_alloc(naive->capacity * sizeof(*naive->ring));
    MUST(pthread_mutex_init(&naive->lock, NULL));
    MUST(pthread_cond_init(&naive->filled, NULL));
    for (int i = 0; i < WORKERS; i++)
        MUST(pthread_create(&naive->threads[i], NULL, naive_body, naive));
    return naive;
}

/* naive->lock held. */
static void
naive_grow(struct naive *naive)
{
    size_t capacity = naive->capacity * 2;
    struct naive_task *ring = bench_alloc(capacity * sizeof(*ring));

    for (size_t i = 0; i < naive->count; i++)
        ring[i] = naive->ring[(naive->first + i) & (naive->capacity - 1)];
    free(naive->ring);
    naive->ring = ring;
    naive->capacity = capacity;
    naive->first = 0;
}

static void
naive_submit(struct naive *naive, pool_fn *fn, void *arg)
{
    lock_take(&naive->lock);
    if (naive->count == naive->capacity)
        naive_grow(naive);
    naive->ring[(naive->first + naive->count++) & (naive->capacity - 1)] =
        (struct naive_task){fn, arg};
    if (naive->asleep > 0)
        MUST(pthread_cond_signal(&naive->filled));
    lock_drop(&naive->lock);
}

static void
naive_close(struct naive *naive)
{
    lock_take(&naive->lock);
    naive->is_closing = true;
    MUST(pthread_cond_broadcast(&naive->filled));
    lock_drop(&naive->lock);
    for (int i = 0; i < WORKERS; i++)
        MUST(pthread_join(naive->threads[i], NULL));
    MUST(pthread_cond_destroy(&naive->filled));
    MUST(pthread_mutex_destroy(&naive->lock));
    free(naive->ring);
    free(naive);
}

/* -- Empty tasks ---------------------------------------------------------- */

static atomic_size_t ran;

static void
count_one(void *arg)
{
    (void)atomic_fetch_add_explicit((atomic_size_t *)arg, 1,
                                    memory_order_relaxed);
}

/* Submit n tasks, as one of several producers. */
typedef void produce_fn(void *pool, size_t n);

static void
produce_singly(void *pool, size_t n)
{
    for (size_t i = 0; i < n; i++)
        MUST(pool_submit(pool, count_one, &ran));
}

static void
produce_many(void *pool, size_t n)
{
    void *args[MANY];

    for (size_t i = 0; i < MANY; i++)
        args[i] = &ran;
    for (size_t left = n; left > 0; left -= left < MANY ? left : MANY)
        MUST(
            pool_submit_many(pool, count_one, args, left < MANY ? left : MANY));
}

/* What a user has: tasks of a group. */
static enum rota_error
count_one_of_group(struct ctx *ctx, void *arg)
{
    (void)ctx;
    count_one(arg);
    return ROTA_OK;
}

static void
produce_in_group(void *pool, size_t n)
{
    struct rota_group *group = rota_group_open(NULL, pool, 0);

    for (size_t i = 0; i < n; i++)
        rota_group_go(group, count_one_of_group, &ran);
    MUST(rota_group_close(group));
}

static void
produce_many_in_group(void *pool, size_t n)
{
    struct rota_group *group = rota_group_open(NULL, pool, 0);
    void *args[MANY];

    for (size_t i = 0; i < MANY; i++)
        args[i] = &ran;
    for (size_t left = n; left > 0; left -= left < MANY ? left : MANY)
        rota_group_go_many(group, count_one_of_group, args,
                           left < MANY ? left : MANY);
    MUST(rota_group_close(group));
}

static void
produce_naively(void *naive, size_t n)
{
    for (size_t i = 0; i < n; i++)
        naive_submit(naive, count_one, &ran);
}

struct load {
    produce_fn *produce;
    bool is_naive;
    unsigned producers;
    size_t n;
};

struct producer {
    pthread_t thread;
    const struct load *load;
    void *pool;
    pthread_barrier_t *start;
};

static void *
producer_body(void *arg)
{
    struct producer *producer = arg;
    const struct load *load = producer->load;

    (void)pthread_barrier_wait(producer->start);
    load->produce(producer->pool, load->n / load->producers);
    return NULL;
}

/* Have load->producers threads submit. Returns when they started. */
static int64_t
produce_by_threads(const struct load *load, void *pool)
{
    struct producer producers[PRODUCERS_MAX];
    pthread_barrier_t start;
    int64_t started;

    MUST(pthread_barrier_init(&start, NULL, load->producers + 1));
    for (unsigned i = 0; i < load->producers; i++) {
        producers[i] =
            (struct producer){.load = load, .pool = pool, .start = &start};
        MUST(pthread_create(&producers[i].thread, NULL, producer_body,
                            &producers[i]));
    }
    started = ctx_now();
    (void)pthread_barrier_wait(&start);
    for (unsigned i = 0; i < load->producers; i++)
        MUST(pthread_join(producers[i].thread, NULL));
    MUST(pthread_barrier_destroy(&start));
    return started;
}

static void
run_load(void *arg, double *ret_figures)
{
    const struct load *load = arg;
    struct rota_pool *pool = NULL;
    struct naive *naive = NULL;
    int64_t start;

    atomic_store(&ran, 0);
    if (load->is_naive)
        naive = naive_open();
    else
        MUST(pool_open(WORKERS, "bench", &pool));
    start = produce_by_threads(load, load->is_naive ? (void *)naive : pool);
    if (load->is_naive)
        naive_close(naive);
    else
        MUST(pool_close(pool));
    ret_figures[0] = bench_rate(start, load->n);
    if (atomic_load(&ran) != load->n)
        bench_fail("%zu tasks ran, of %zu", atomic_load(&ran), load->n);
}

static void
bench_load(const struct bench_options *options)
{
    static const struct bench_target single[] = {{"go", "ahead"},
                                                 {"tbb", "at least 4"},
                                                 {"glib", "at least 4"},
                                                 {"uv", "at least 4"},
                                                 {NULL, NULL}};
    size_t n = bench_size(options, 1000000);
    struct load loads[] = {
        {produce_naively, true, 1, n},   {produce_naively, true, 4, n},
        {produce_singly, false, 1, n},   {produce_singly, false, 4, n},
        {produce_many, false, 1, n},     {produce_in_group, false, 1, n},
        {produce_in_group, false, 4, n}, {produce_many_in_group, false, 1, n}};
    struct contender all[8 + 2 * PEERS];
    const struct contender *peers1 = all + 8, *peers4;
    const char *naive = "a naive pool";
    size_t n1, n4;

    for (size_t i = 0; i < 8; i++)
        all[i] = (struct contender){run_load, &loads[i], {0}};
    n1 = bench_peers(options, "submit1", n, all + 8);
    n4 = bench_peers(options, "submit4", n, all + 8 + n1);
    peers4 = peers1 + n1;
    bench_compete(all, 8 + n1 + n4, bench_rounds(options, ROUNDS_CROWDED));
    bench_say(BENCH_RATE, "pool_submit, 1 producer", all[2].median[0], naive,
              all[0].median[0], "at least 5");
    bench_say_peers(BENCH_RATE, "pool_submit, 1 producer", all[2].median[0],
                    peers1, n1, 0, single);
    bench_say(BENCH_RATE, "pool_submit, 4 producers", all[3].median[0], naive,
              all[1].median[0], NULL);
    bench_say_peers(BENCH_RATE, "pool_submit, 4 producers", all[3].median[0],
                    peers4, n4, 0, single);
    bench_say(BENCH_RATE, "pool_submit_many of 50, 1 producer",
              all[4].median[0], "pool_submit", all[2].median[0], "at least 2");
    bench_say(BENCH_RATE, "rota_group_go, 1 producer", all[5].median[0],
              "pool_submit", all[2].median[0], NULL);
    bench_say_peers(BENCH_RATE, "rota_group_go, 1 producer", all[5].median[0],
                    peers1, n1, 0, single);
    bench_say_peers(BENCH_RATE, "rota_group_go, 4 producers", all[6].median[0],
                    peers4, n4, 0, single);
    bench_say(BENCH_RATE, "rota_group_go_many of 50, 1 producer",
              all[7].median[0], "rota_group_go", all[5].median[0],
              "at least 2");
}

/* -- Trees ---------------------------------------------------------------- */

struct tree {
    size_t n; /* 2^k - 1 */
    bool joins;
};

static struct rota_group *tree_group;
static struct rota_pool *tree_pool;

static void *
below(void *depth)
{
    return (void *)((uintptr_t)depth - 1);
}

static enum rota_error
branch(struct ctx *ctx, void *depth)
{
    (void)ctx;
    count_one(&ran);
    for (int i = 0; i < 2 && (uintptr_t)depth > 1; i++)
        rota_group_go(tree_group, branch, below(depth));
    return ROTA_OK;
}

static enum rota_error
branch_and_join(struct ctx *ctx, void *depth)
{
    struct rota_group *group;

    count_one(&ran);
    if ((uintptr_t)depth == 1)
        return ROTA_OK;
    group = rota_group_open(ctx, tree_pool, 0);
    for (int i = 0; i < 2; i++)
        rota_group_go(group, branch_and_join, below(depth));
    return rota_group_close(group);
}

static void
run_tree(void *arg, double *ret_figures)
{
    const struct tree *tree = arg;
    void *depth = (void *)(uintptr_t)__builtin_ctzll(tree->n + 1);
    int64_t start;

    atomic_store(&ran, 0);
    MUST(rota_pool_open(WORKERS, &tree_pool));
    start = ctx_now();
    tree_group = rota_group_open(NULL, tree_pool, 0);
    rota_group_go(tree_group, tree->joins ? branch_and_join : branch, depth);
    MUST(rota_group_close(tree_group));
    ret_figures[0] = bench_rate(start, tree->n);
    MUST(rota_pool_close(tree_pool));
    if (atomic_load(&ran) != tree->n)
        bench_fail("%zu tasks ran, of %zu", atomic_load(&ran), tree->n);
}

static void
bench_trees(const struct bench_options *options)
{
    static const struct bench_target targets[] = {
        {"tbb", "at least 2"}, {"omp", "at least 0.7"}, {NULL, NULL}};
    struct tree trees[] = {{((size_t)1 << (options->quick ? 16 : 20)) - 1, 0},
                           {((size_t)1 << (options->quick ? 14 : 17)) - 1, 1}};
    struct contender all[2 + 2 * PEERS] = {{run_tree, &trees[0], {0}},
                                           {run_tree, &trees[1], {0}}};
    size_t n = bench_peers(options, "tree", trees[0].n, all + 2);
    size_t n_join = bench_peers(options, "join", trees[1].n, all + 2 + n);

    if (n + n_join == 0)
        return;
    bench_compete(all, 2 + n + n_join, bench_rounds(options, ROUNDS_CROWDED));
    bench_say_peers(BENCH_RATE, "a tree of tasks in one group",
                    all[0].median[0], all + 2, n, 0, targets);
    bench_say_peers(BENCH_RATE, "a tree of groups, each waited for",
                    all[1].median[0], all + 2 + n, n_join, 0, targets);
}

/* -- The start of one task ------------------------------------------------ */

#define GAP_NS 500000

static atomic_int_fast64_t started_at; /* 0: not yet */

static void
note_start(void *arg)
{
    (void)arg;
    atomic_store(&started_at, ctx_now());
}

/* Sleep until all is idle, then wake somebody, and see how long he took. */
static double
wake_sample(void (*wake)(void *arg), void *arg)
{
    const struct timespec gap = {.tv_nsec = GAP_NS};
    int64_t start, at;

    atomic_store(&started_at, 0);
    (void)nanosleep(&gap, NULL);
    start = ctx_now();
    wake(arg);
    while ((at = atomic_load(&started_at)) == 0)
        (void)nanosleep(&gap, NULL);
    return (double)(at - start);
}

static void
run_wakes(size_t n, void (*wake)(void *arg), void *arg, double *ret_figures)
{
    double *samples = bench_alloc(n * sizeof(*samples));

    for (size_t i = 0; i < n; i++)
        samples[i] = wake_sample(wake, arg);
    bench_percentiles(samples, n, ret_figures);
    free(samples);
}

static void
pool_wake(void *arg)
{
    MUST(pool_submit(arg, note_start, NULL));
}

static void
run_pool_wakes(void *arg, double *ret_figures)
{
    struct rota_pool *pool;

    MUST(pool_open(WORKERS, "bench", &pool));
    run_wakes(*(const size_t *)arg, pool_wake, pool, ret_figures);
    MUST(pool_close(pool));
}

/* The limit: a word, and a thread that sleeps while it does not change. */
struct sleeper {
    _Atomic uint32_t word;
    atomic_bool over;
};

static void
futex(_Atomic uint32_t *word, int operation, uint32_t value)
{
    (void)syscall(SYS_futex, (uint32_t *)word, operation, value, NULL, NULL, 0);
}

static void *
sleeper_body(void *arg)
{
    struct sleeper *sleeper = arg;
    uint32_t seen = 0;

    while (!atomic_load(&sleeper->over)) {
        if (atomic_load(&sleeper->word) == seen) {
            futex(&sleeper->word, FUTEX_WAIT_PRIVATE, seen);
            continue;
        }
        seen = atomic_load(&sleeper->word);
        note_start(NULL);
    }
    return NULL;
}

static void
sleeper_wake(void *arg)
{
    struct sleeper *sleeper = arg;

    (void)atomic_fetch_add(&sleeper->word, 1);
    futex(&sleeper->word, FUTEX_WAKE_PRIVATE, 1);
}

static void
run_futex_wakes(void *arg, double *ret_figures)
{
    struct sleeper sleeper = {0};
    pthread_t thread;

    MUST(pthread_create(&thread, NULL, sleeper_body, &sleeper));
    run_wakes(*(const size_t *)arg, sleeper_wake, &sleeper, ret_figures);
    atomic_store(&sleeper.over, true);
    sleeper_wake(&sleeper);
    MUST(pthread_join(thread, NULL));
}

static void
bench_wakes(const struct bench_options *options)
{
    static const struct bench_target ahead[] = {{"go", "ahead"}, {NULL, NULL}};
    size_t n = bench_size(options, 1000);
    struct contender all[2 + PEERS] = {{run_pool_wakes, &n, {0}},
                                       {run_futex_wakes, &n, {0}}};
    size_t peers = bench_peers(options, "wake", n, all + 2);
    const char *what[] = {"from an idle pool_submit to the task's start, p50",
                          "from an idle pool_submit to the task's start, p99"};

    bench_compete(all, 2 + peers, bench_rounds(options, ROUNDS_CROWDED));
    for (int i = 0; i < 2; i++) {
        bench_say(BENCH_NS, what[i], all[0].median[i], "a bare futex wake",
                  all[1].median[i], "at most 1.5");
        bench_say_peers(BENCH_NS, what[i], all[0].median[i], all + 2, peers, i,
                        i == 1 ? ahead : NULL);
    }
}

int
main(int argc, char **argv)
{
    struct bench_options options;

    bench_options(argc, argv, &options);
    bench_load(&options);
    bench_trees(&options);
    bench_wakes(&options);
    return 0;
}
