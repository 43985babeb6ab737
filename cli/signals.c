/* See signals.h. */
#define _GNU_SOURCE
#include "cli/signals.h"

#include <signal.h>
#include <string.h>

#include "cli/cli.h"

struct ctx *
signals_context(void)
{
    sigset_t signals;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGHUP);
    return ctx_with_signals(ctx_background(), &signals);
}

int
signals_code(const struct ctx *ctx)
{
    const char *cause = ctx_cause(ctx);

    if (cause != NULL && strcmp(cause, "SIGTERM") == 0)
        return 128 + SIGTERM;
    if (cause != NULL && strcmp(cause, "SIGHUP") == 0)
        return 128 + SIGHUP;
    if (cause != NULL && strcmp(cause, "SIGINT") == 0)
        return 128 + SIGINT;
    return CLI_BROKEN; /* the context could not be made */
}
