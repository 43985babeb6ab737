/*
 * Three calls at once under one deadline of 500 ms: the price is required, the
 * reviews and the picture are not: if one of them fails, or is not there in
 * time, that is logged, and the page goes without.
 *
 *   fan_out PRICE REVIEWS PICTURE : what each takes, in ms; below 0: it fails
 */
#include <rota.h>
#include <stdio.h>
#include <stdlib.h>

struct call {
    const char *name;
    int ms;
    int is_here;
};

/* Stands for a request to another server. */
static enum rota_error
fetch(struct ctx *ctx, void *arg)
{
    struct call *call = arg;
    enum rota_error error = ctx_sleep(ctx, ROTA_MS(abs(call->ms)));

    if (error != ROTA_OK)
        return error;
    call->is_here = call->ms >= 0;
    return call->is_here ? ROTA_OK : ROTA_FAILED;
}

int
main(int argc, char **argv)
{
    struct call price = {"price", argc > 1 ? atoi(argv[1]) : 10, 0};
    struct call reviews = {"reviews", argc > 2 ? atoi(argv[2]) : 20, 0};
    struct call picture = {"picture", argc > 3 ? atoi(argv[3]) : 30, 0};
    CTX_AUTO struct ctx *ctx = ctx_with_timeout(NULL, ROTA_MS(500));
    struct rota_failure failures[3];
    struct rota_group *calls;
    struct rota_pool *pool;
    size_t n;

    if (rota_pool_open(3, &pool) != ROTA_OK)
        return 1;
    calls = rota_group_open(ctx, pool, 0);
    rota_group_go(calls, fetch, &price);
    rota_group_go_optional(calls, fetch, &reviews);
    rota_group_go_optional(calls, fetch, &picture);
    rota_group_wait(calls);
    n = rota_group_failures(calls, failures, 3);
    for (size_t i = 0; i < n; i++)
        printf("%s: %s\n", ((struct call *)failures[i].arg)->name,
               rota_strerror(failures[i].error));
    rota_group_close(calls);
    rota_pool_close(pool);
    if (!price.is_here)
        return printf("no page\n"), 1;
    printf("a page with price%s%s\n", reviews.is_here ? ", reviews" : "",
           picture.is_here ? ", picture" : "");
    return 0;
}
