#define _GNU_SOURCE
#include "tasks.h"

#include <check.h>
#include <sched.h>
#include <stdint.h>

struct rota_pool *pool;
struct rota_group *group;
struct gate gate;
atomic_int ran, now_running, most;

void
begin(int workers, int limit)
{
    static const struct gate fresh = GATE_INIT;

    gate = fresh;
    ran = now_running = most = 0;
    ck_assert_int_eq(rota_pool_open(workers, &pool), ROTA_OK);
    group = rota_group_open(NULL, pool, limit);
}

void
finish(void)
{
    (void)rota_group_close(group);
    ck_assert_int_eq(rota_pool_close(pool), ROTA_OK);
}

enum rota_error
count(struct ctx *ctx, void *arg)
{
    int running = atomic_fetch_add(&now_running, 1) + 1, before = most;

    (void)ctx, (void)arg;
    while (before < running &&
           !atomic_compare_exchange_weak(&most, &before, running))
        continue;
    atomic_fetch_add(&ran, 1);
    (void)sched_yield();
    atomic_fetch_sub(&now_running, 1);
    return ROTA_OK;
}

enum rota_error
fail_as(struct ctx *ctx, void *arg)
{
    (void)ctx;
    atomic_fetch_add(&ran, 1);
    return (enum rota_error)(intptr_t)arg;
}

enum rota_error
until_done(struct ctx *ctx, void *arg)
{
    (void)arg;
    atomic_fetch_add(&ran, 1);
    return ctx_wait(ctx, ROTA_FOREVER);
}

enum rota_error
behind_the_gate(struct ctx *ctx, void *arg)
{
    gate_pass(&gate);
    return count(ctx, arg);
}
