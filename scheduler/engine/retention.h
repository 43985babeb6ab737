/*
 * Forgetting what queues have kept for long enough. By the listener's thread.
 */
#ifndef RETENTION_H
#define RETENTION_H

#include "engine/engine.h"

/* Forget it, if that is due; no lock held. *next is when it will be, monotonic;
 * 0 at first. */
void retention_check(struct rota *rota, int64_t *next);

#endif
