/*
 * libgomp's tasks, on two threads.
 */
#include "peer.h"

#include <stdbool.h>

static size_t ran;

static void
count_one(void)
{
    (void)__atomic_fetch_add(&ran, 1, __ATOMIC_RELAXED);
}

static void
branch(size_t depth)
{
    count_one();
    if (depth == 1)
        return;
    for (int i = 0; i < 2; i++) {
#pragma omp task
        branch(depth - 1);
    }
}

static void
branch_and_join(size_t depth)
{
    count_one();
    if (depth == 1)
        return;
    for (int i = 0; i < 2; i++) {
#pragma omp task
        branch_and_join(depth - 1);
    }
#pragma omp taskwait
}

static int
grow_tree(size_t n, bool joins)
{
    size_t depth = (size_t)__builtin_ctzll(n + 1);
    int64_t start = 0;

#pragma omp parallel num_threads(WORKERS)
    {
#pragma omp single
        {
            start = now();
            if (joins)
                branch_and_join(depth);
            else
                branch(depth);
        }
    }
    return __atomic_load_n(&ran, __ATOMIC_RELAXED) == n ? say_rate(start, n)
                                                        : 1;
}

int
main(int argc, char **argv)
{
    const char *measure = argc == 3 ? argv[1] : "";
    size_t n = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;

    if (strcmp(measure, "tree") == 0)
        return grow_tree(n, false);
    if (strcmp(measure, "join") == 0)
        return grow_tree(n, true);
    return NO_MEASURE;
}
