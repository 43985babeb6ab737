/*
 * Ordering threads in tests: by gates and by looking, never by the clock.
 */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>

#include <rota/ctx.h>

struct Suite;
struct TCase;

/* Look until condition holds. For what another thread is sure to do. */
#define AWAIT(condition)     \
    do {                     \
        while (!(condition)) \
            sched_yield();   \
    } while (0)

/* Sanitizers are slow: do less where the number is not the point. */
#if !defined(__has_feature)
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define IS_THREAD_SANITIZED 1
#else
#define IS_THREAD_SANITIZED 0
#endif
#if IS_THREAD_SANITIZED || defined(__SANITIZE_ADDRESS__) ||                    \
    __has_feature(address_sanitizer)
#define IS_SANITIZED 1
#else
#define IS_SANITIZED 0
#endif
#define MANY(n) (IS_SANITIZED ? (n) / 20 : (n))

/* Threads wait at a gate until it is opened; then it stays open. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int arrived;
    bool is_open;
};
#define GATE_INIT                                                     \
    {                                                                 \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false \
    }

void gate_pass(struct gate *gate);
void gate_open(struct gate *gate);

/* Until n threads have come to the gate. */
void gate_await(struct gate *gate, int n);

/* Adds one to the atomic_int that arg points to. */
void count_up(void *arg);

pthread_t thread_new(void *(*body)(void *arg), void *arg);
void *thread_join(pthread_t thread);

/* How many children, waiters and hooks ctx has at the moment. */
size_t ctx_children(struct ctx *ctx);
size_t ctx_waiters(struct ctx *ctx);
size_t ctx_hooks(struct ctx *ctx);

/* A case of suite, with a minute for each test. */
struct TCase *case_new(struct Suite *suite, const char *name);

/* Run what CK_RUN_SUITE and the like choose of suite: main()'s result. */
int suite_run(struct Suite *suite);

/* The number that the environment gives for name. */
int number_from(const char *name, int otherwise);

/* How many threads this process has whose names begin with prefix. */
int threads_named(const char *prefix);

#endif
