/*
 * A loop over items that polls: Ctrl-C, SIGTERM or two seconds end it between
 * two items, and it says how far it came.
 *
 *   loop N
 */
#include <rota.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t sum;

static void
work_on(uint64_t item)
{
    for (int i = 0; i < 1000; i++)
        sum = sum * 6364136223846793005u + item;
}

static enum rota_error
work(struct ctx *ctx, uint64_t n, uint64_t *ret_done)
{
    for (*ret_done = 0; *ret_done < n; ++*ret_done) {
        if (ctx_done(ctx))
            return ctx_err(ctx);
        work_on(*ret_done);
    }
    return ROTA_OK;
}

int
main(int argc, char **argv)
{
    uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000, done;
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    CTX_AUTO struct ctx *stop = ctx_with_signals(NULL, &signals);
    CTX_AUTO struct ctx *ctx = ctx_with_timeout(stop, ROTA_SEC(2));

    if (work(ctx, n, &done) == ROTA_OK)
        printf("all %llu done\n", (unsigned long long)done);
    else
        printf("stopped after %llu of %llu: %s\n", (unsigned long long)done,
               (unsigned long long)n, ctx_cause(ctx));
    return 0;
}
