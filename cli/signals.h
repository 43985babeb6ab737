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

/* A context that ends with the first of them. The caller ends it, also where it
 * could not be had, which is said, and the answer is CLI_BROKEN. */
int signals_open(struct ctx **ret_ctx);

/* 128 + the number of the signal that ended ctx; CLI_BROKEN if none did. */
int signals_code(const struct ctx *ctx);

#endif
