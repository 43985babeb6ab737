/*
 * What the peers' programs share, in C11 and C++17. Each is called as
 *
 *   PEER MEASURE N
 *
 * does what a benchmark of ours of that name does, N times, and prints its
 * figure, or p50 and p99; exit status 3: it has no such measure. Files go
 * below the folder BENCH_DIR of the environment, or the current one.
 *
 *   poll1 poll2      ns for a poll of one object, by one thread and by two
 *   work1            ns for a poll and about 4 ns of work
 *   life child       ns to make and cancel one, without and with a parent
 *   timeout          ns to make and cancel one with a deadline
 *   timeout-crowded  the same while 400,000 others have one
 *   fan-out          ns a child to cancel N of them, and bytes a child
 *   submit1 submit4  empty tasks a second, from one thread and from four
 *   tree             tasks a second, each of which spawns two more
 *   join             the same, and each waits for its two
 *   wake             ns from a submit to an idle pool to the task's start
 *   lives            whole lives of jobs a second, each acknowledged when it
 *                    would survive a crash of the process
 *   lives-full       the same, when it would survive a loss of power
 *   lives-tuned lives-full-tuned
 *                    the same, with what was found to be quickest for just this
 */
#ifndef PEER_H
#define PEER_H

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WORKERS     2
#define NO_MEASURE  3
#define WAKE_GAP_NS 500000

static inline int64_t
now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
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

static inline int
say(double figure)
{
    return printf("%.3f\n", figure) < 0;
}

static inline int
say_two(double first, double second)
{
    return printf("%.3f %.3f\n", first, second) < 0;
}

static inline int
by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* -- From an idle pool's submit to the task's start ------------------------ */

static int64_t started_at; /* atomic; 0: not yet */

static inline void
note_start(void)
{
    __atomic_store_n(&started_at, now(), __ATOMIC_SEQ_CST);
}

/* wake() has note_start() called by the pool. */
static inline int
say_wakes(void (*wake)(void *arg), void *arg, size_t n)
{
    const struct timespec gap = {0, WAKE_GAP_NS};
    double *samples = (double *)malloc(n * sizeof(*samples));
    int status;

    for (size_t i = 0; i < n; i++) {
        int64_t start, at;

        __atomic_store_n(&started_at, 0, __ATOMIC_SEQ_CST);
        (void)nanosleep(&gap, NULL);
        start = now();
        wake(arg);
        while ((at = __atomic_load_n(&started_at, __ATOMIC_SEQ_CST)) == 0)
            (void)nanosleep(&gap, NULL);
        samples[i] = (double)(at - start);
    }
    qsort(samples, n, sizeof(*samples), by_size);
    status = say_two(samples[n / 2], samples[n * 99 / 100]);
    free(samples);
    return status;
}

/* -- Threads that do the same ---------------------------------------------- */

struct team {
    void (*body)(void *arg, size_t n);
    void *arg;
    size_t n; /* for each */
    pthread_barrier_t start;
};

static inline void *
team_member(void *arg)
{
    struct team *team = (struct team *)arg;

    (void)pthread_barrier_wait(&team->start);
    team->body(team->arg, team->n);
    return NULL;
}

/* Returns when they started. */
static inline int64_t
team_run(unsigned threads, void (*body)(void *arg, size_t n), void *arg,
         size_t n)
{
    struct team team;
    pthread_t thread[8];
    int64_t start;

    team.body = body;
    team.arg = arg;
    team.n = n;
    (void)pthread_barrier_init(&team.start, NULL, threads + 1);
    for (unsigned i = 0; i < threads; i++)
        if (pthread_create(&thread[i], NULL, team_member, &team) != 0)
            abort();
    start = now();
    (void)pthread_barrier_wait(&team.start);
    for (unsigned i = 0; i < threads; i++)
        (void)pthread_join(thread[i], NULL);
    (void)pthread_barrier_destroy(&team.start);
    return start;
}

static inline int
say_each(int64_t start, size_t n)
{
    return say((double)(now() - start) / (double)n);
}

static inline int
say_rate(int64_t start, size_t n)
{
    return say((double)n * 1e9 / (double)(now() - start));
}

#define FORGET() __asm__ volatile("" ::: "memory")

#endif
