/*
 * libuv's threadpool. uv_queue_work() is for the loop's own thread: there is
 * one producer. A task's end is told to the loop, as its users have it.
 */
#include "peer.h"

#include <uv.h>

static size_t ran;

static void
count_one(uv_work_t *work)
{
    (void)work;
    (void)__atomic_fetch_add(&ran, 1, __ATOMIC_RELAXED);
}

static void
on_end(uv_work_t *work, int status)
{
    (void)work;
    (void)status;
}

static int
submit(size_t n)
{
    uv_work_t *works = malloc(n * sizeof(*works));
    int64_t start = now();

    for (size_t i = 0; i < n; i++)
        if (uv_queue_work(uv_default_loop(), &works[i], count_one, on_end) != 0)
            return 1;
    (void)uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    return __atomic_load_n(&ran, __ATOMIC_RELAXED) == n ? say_rate(start, n)
                                                        : 1;
}

static void
on_wake(uv_work_t *work)
{
    (void)work;
    note_start();
}

static void
wake(void *arg)
{
    static uv_work_t work;

    (void)arg;
    (void)uv_run(uv_default_loop(), UV_RUN_DEFAULT); /* the one before */
    note_start();
    __atomic_store_n(&started_at, 0, __ATOMIC_SEQ_CST);
    if (uv_queue_work(uv_default_loop(), &work, on_wake, on_end) != 0)
        abort();
}

int
main(int argc, char **argv)
{
    const char *measure = argc == 3 ? argv[1] : "";
    size_t n = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;

    (void)setenv("UV_THREADPOOL_SIZE", "2", 1);
    if (strcmp(measure, "submit1") == 0)
        return submit(n);
    if (strcmp(measure, "wake") == 0)
        return say_wakes(wake, NULL, n);
    return NO_MEASURE;
}
