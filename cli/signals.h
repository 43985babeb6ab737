/*
 * The signals that stop a command softly: SIGINT, SIGTERM and SIGHUP end a
 * context, and with it whatever the command runs and waits for. A second signal
 * acts as if nobody handled it.
 *
 * Called by the main thread of run.c, work.c and each.c.
 */
#ifndef SIGNALS_H
#define SIGNALS_H

#include <rota/ctx.h>

/* A context that ends with the first of them. The caller ends it. */
struct ctx *signals_context(void);

/* 128 + the number of the signal that ended ctx; CLI_BROKEN if none did, which
 * means that the context could not be made. */
int signals_code(const struct ctx *ctx);

#endif
