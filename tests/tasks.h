/*
 * A group on a pool, and tasks for it, which count themselves.
 */
#ifndef TASKS_H
#define TASKS_H

#include <stdatomic.h>

#include <rota.h>

#include "support.h"

extern struct rota_pool *pool;
extern struct rota_group *group;
extern struct gate gate;
extern atomic_int ran;         /* tasks */
extern atomic_int now_running; /* at the moment, */
extern atomic_int most;        /* and at the most, of count() */

/* Open a pool, and a group below no context. */
void begin(int workers, int limit);

/* Close both. */
void finish(void);

enum rota_error count(struct ctx *ctx, void *arg);

/* Fails with AS(error). */
enum rota_error fail_as(struct ctx *ctx, void *arg);
#define AS(error) ((void *)(intptr_t)(error))

enum rota_error until_done(struct ctx *ctx, void *arg);
enum rota_error behind_the_gate(struct ctx *ctx, void *arg);

#endif
