/*
 * A pipeline: numbers are read, squared and added up by three tasks with queues
 * between them. The first stage that fails calls the others off, wherever they
 * are blocked: nobody needs to close anything, and no thread is left behind.
 *
 *   pipeline NUMBER... : the sum of their squares
 */
#include <rota.h>
#include <stdio.h>
#include <stdlib.h>

struct queue {
    pthread_mutex_t lock;
    struct ctx_cond changed;
    long items[4];
    size_t first, n;
    int is_closed;
};

static enum rota_error
put(struct ctx *ctx, struct queue *q, long item)
{
    enum rota_error error = ROTA_OK;

    pthread_mutex_lock(&q->lock);
    while (q->n == 4 && error == ROTA_OK)
        error = ctx_cond_wait(ctx, &q->changed, &q->lock, ROTA_FOREVER);
    if (error == ROTA_OK)
        q->items[(q->first + q->n++) % 4] = item;
    ctx_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    return error;
}

/* ROTA_CLOSED: there will be no more. */
static enum rota_error
take(struct ctx *ctx, struct queue *q, long *ret_item)
{
    enum rota_error error = ROTA_OK;

    pthread_mutex_lock(&q->lock);
    while (q->n == 0 && error == ROTA_OK)
        error = q->is_closed
                    ? ROTA_CLOSED
                    : ctx_cond_wait(ctx, &q->changed, &q->lock, ROTA_FOREVER);
    if (error == ROTA_OK) {
        *ret_item = q->items[q->first];
        q->first = (q->first + 1) % 4;
        q->n--;
    }
    ctx_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    return error;
}

static void
close_queue(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->is_closed = 1;
    ctx_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
}

static struct queue numbers = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct queue squares = {.lock = PTHREAD_MUTEX_INITIALIZER};
static long sum;

static enum rota_error
read_all(struct ctx *ctx, void *arg)
{
    enum rota_error error = ROTA_OK;

    for (char **word = arg; *word != NULL && error == ROTA_OK; word++)
        error = put(ctx, &numbers, strtol(*word, NULL, 10));
    close_queue(&numbers);
    return error;
}

static enum rota_error
square_all(struct ctx *ctx, void *arg)
{
    enum rota_error error;
    long n;

    (void)arg;
    while ((error = take(ctx, &numbers, &n)) == ROTA_OK) {
        if (n < -3000000000 || n > 3000000000) {
            ctx_cancel_error(ctx, ROTA_FATAL, "%ld is too big", n);
            return ROTA_FATAL;
        }
        error = put(ctx, &squares, n * n);
    }
    close_queue(&squares);
    return error == ROTA_CLOSED ? ROTA_OK : error;
}

static enum rota_error
add_all(struct ctx *ctx, void *arg)
{
    enum rota_error error;
    long n;

    (void)arg;
    while ((error = take(ctx, &squares, &n)) == ROTA_OK)
        sum += n;
    return error == ROTA_CLOSED ? ROTA_OK : error;
}

int
main(int argc, char **argv)
{
    struct rota_pool *pool;
    struct rota_group *stages;
    int code;

    (void)argc;
    ctx_cond_init(&numbers.changed);
    ctx_cond_init(&squares.changed);
    if (rota_pool_open(3, &pool) != ROTA_OK) /* a thread for each stage */
        return 1;
    stages = rota_group_open(NULL, pool, 0);
    rota_group_go(stages, read_all, argv + 1);
    rota_group_go(stages, square_all, NULL);
    rota_group_go(stages, add_all, NULL);
    code = rota_group_wait(stages) != ROTA_OK;
    if (code == 0)
        printf("%ld\n", sum);
    else
        printf("failed: %s\n", ctx_cause(rota_group_ctx(stages)));
    rota_group_close(stages);
    rota_pool_close(pool);
    return code;
}
