/*
 * Starting, as rota_step() does too. By one thread at a time: the second is
 * told so (ROTA_BUSY).
 */
#ifndef START_H
#define START_H

#include "engine/engine.h"

/* What is started: zero is workers for all that is handled here. */
struct start {
    const char *queue; /* NULL: any */
    int64_t job;       /* 0: any; or SCOPE_NEXT */
    bool is_stepping;  /* without workers */
};
ROTA_MUST_USE enum rota_error engine_start(struct ctx *ctx, struct rota *rota,
                                           const struct start *start);

#endif
