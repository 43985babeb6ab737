/* See signals.h. */
#define _GNU_SOURCE
#include "cli/signals.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/say.h"

int
signals_open(struct ctx **ret_ctx)
{
    sigset_t signals;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGHUP);
    errno = ENOMEM;
    *ret_ctx = ctx_with_signals(ctx_background(), &signals);
    if (ctx_err(*ret_ctx) != ROTA_NOMEM)
        return CLI_OK;
    say("cannot wait for signals: %s", strerror(errno));
    return CLI_BROKEN;
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
    return CLI_BROKEN;
}
