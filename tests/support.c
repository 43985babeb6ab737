#include "support.h"

#include <check.h>
#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "context/node.h"

void
gate_pass(struct gate *gate)
{
    lock_take(&gate->lock);
    gate->arrived++;
    MUST(pthread_cond_broadcast(&gate->changed));
    while (!gate->is_open)
        MUST(pthread_cond_wait(&gate->changed, &gate->lock));
    lock_drop(&gate->lock);
}

void
gate_open(struct gate *gate)
{
    lock_take(&gate->lock);
    gate->is_open = true;
    MUST(pthread_cond_broadcast(&gate->changed));
    lock_drop(&gate->lock);
}

void
gate_await(struct gate *gate, int n)
{
    lock_take(&gate->lock);
    while (gate->arrived < n)
        MUST(pthread_cond_wait(&gate->changed, &gate->lock));
    lock_drop(&gate->lock);
}

void
count_up(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

pthread_t
thread_new(void *(*body)(void *arg), void *arg)
{
    pthread_t thread;

    MUST(pthread_create(&thread, NULL, body, arg));
    return thread;
}

void *
thread_join(pthread_t thread)
{
    void *result;

    MUST(pthread_join(thread, &result));
    return result;
}

static size_t
ring_size(struct ctx *ctx, struct link *ring)
{
    pthread_mutex_t *lock = &node_of(ctx)->tree->lock;
    size_t n = 0;

    lock_take(lock);
    for (struct link *item = ring->next; item != ring; item = item->next)
        n++;
    lock_drop(lock);
    return n;
}

size_t
ctx_children(struct ctx *ctx)
{
    return ring_size(ctx, &node_of(ctx)->children);
}

size_t
ctx_waiters(struct ctx *ctx)
{
    return ring_size(ctx, &node_of(ctx)->waiters);
}

size_t
ctx_hooks(struct ctx *ctx)
{
    return ring_size(ctx, &node_of(ctx)->hooks);
}

/* Whether the thread id, as the kernel numbers it, has such a name. */
static bool
thread_is_named(const char *id, const char *prefix)
{
    char path[300], name[64] = "";
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", id);
    file = fopen(path, "r");
    if (file == NULL)
        return false; /* it has just ended */
    if (fgets(name, sizeof(name), file) == NULL)
        name[0] = '\0';
    fclose(file);
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

int
threads_named(const char *prefix)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *entry;
    int n = 0;

    MUST_BE(tasks != NULL);
    while ((entry = readdir(tasks)) != NULL)
        n += entry->d_name[0] != '.' && thread_is_named(entry->d_name, prefix);
    closedir(tasks);
    return n;
}

TCase *
case_new(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);

    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    return tcase;
}

int
suite_run(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    int failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int
number_from(const char *name, int otherwise)
{
    const char *text = getenv(name);

    return text != NULL ? atoi(text) : otherwise;
}
