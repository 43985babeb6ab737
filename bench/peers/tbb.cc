// oneTBB: an arena with two workers, task_group.
#include "peer.h"

#include <atomic>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_group.h>

static std::atomic<size_t> ran;

static void
count_one()
{
    ran.fetch_add(1, std::memory_order_relaxed);
}

static void
produce(void *arena, size_t n)
{
    while (n-- > 0)
        static_cast<tbb::task_arena *>(arena)->enqueue(count_one);
}

static void
await(size_t n)
{
    const struct timespec tick = {0, 100000};

    while (ran.load() < n)
        (void)nanosleep(&tick, NULL);
}

static int
submit(tbb::task_arena &arena, unsigned producers, size_t n)
{
    int64_t start = team_run(producers, produce, &arena, n / producers);

    await(n / producers * producers);
    return say_rate(start, n);
}

static void
branch(tbb::task_group &group, size_t depth)
{
    count_one();
    if (depth == 1)
        return;
    for (int i = 0; i < 2; i++)
        group.run([&group, depth] { branch(group, depth - 1); });
}

static void
branch_and_join(size_t depth)
{
    tbb::task_group group;

    count_one();
    if (depth == 1)
        return;
    for (int i = 0; i < 2; i++)
        group.run([depth] { branch_and_join(depth - 1); });
    group.wait();
}

static int
grow_tree(tbb::task_arena &arena, size_t n, bool joins)
{
    size_t depth = (size_t)__builtin_ctzll(n + 1);
    int64_t start = now();

    arena.execute([depth, joins] {
        tbb::task_group group;

        if (joins)
            branch_and_join(depth);
        else
            branch(group, depth);
        group.wait();
    });
    return ran.load() == n ? say_rate(start, n) : 1;
}

static void
wake(void *arena)
{
    static_cast<tbb::task_arena *>(arena)->enqueue(note_start);
}

int
main(int argc, char **argv)
{
    const char *measure = argc == 3 ? argv[1] : "";
    size_t n = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
    bool is_tree = strcmp(measure, "tree") == 0;
    bool joins = strcmp(measure, "join") == 0;
    tbb::global_control two(tbb::global_control::max_allowed_parallelism,
                            WORKERS + 1);
    /* who executes a tree is one of the two */
    tbb::task_arena arena(WORKERS, is_tree || joins ? 1 : 0);

    if (strcmp(measure, "submit1") == 0)
        return submit(arena, 1, n);
    if (strcmp(measure, "submit4") == 0)
        return submit(arena, 4, n);
    if (is_tree || joins)
        return grow_tree(arena, n, joins);
    if (strcmp(measure, "wake") == 0)
        return say_wakes(wake, &arena, n);
    return NO_MEASURE;
}
