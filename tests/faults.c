#include "faults.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *memory, size_t size);
int __real_eventfd(unsigned initial, int flags);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                          void *(*body)(void *), void *arg);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *memory, size_t size);
int __wrap_eventfd(unsigned initial, int flags);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                          void *(*body)(void *), void *arg);

static atomic_int calls_left = -1; /* until the one that fails; below 0: none */
static atomic_bool has_failed;

void
faults_arm(int n)
{
    atomic_store(&has_failed, false);
    atomic_store(&calls_left, n);
}

bool
faults_disarm(void)
{
    atomic_store(&calls_left, -1);
    return atomic_load(&has_failed);
}

static bool
fault_is_due(void)
{
    int left = atomic_load(&calls_left);

    while (left >= 0) {
        if (!atomic_compare_exchange_weak(&calls_left, &left, left - 1))
            continue;
        if (left > 0)
            return false;
        atomic_store(&has_failed, true);
        return true;
    }
    return false;
}

void *
__wrap_malloc(size_t size)
{
    return fault_is_due() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t n, size_t size)
{
    return fault_is_due() ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *memory, size_t size)
{
    return fault_is_due() ? NULL : __real_realloc(memory, size);
}

int
__wrap_eventfd(unsigned initial, int flags)
{
    if (!fault_is_due())
        return __real_eventfd(initial, flags);
    errno = EMFILE;
    return -1;
}

int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                      void *(*body)(void *), void *arg)
{
    return fault_is_due() ? EAGAIN
                          : __real_pthread_create(thread, attr, body, arg);
}
