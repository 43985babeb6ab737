/*
 * The listener: one thread that learns what others did to the queue, and who
 * died.
 */
#ifndef LISTENER_H
#define LISTENER_H

#include "engine/engine.h"

/* Start it unless it runs. Takes rota.start_lock. */
ROTA_MUST_USE enum rota_error listener_start(struct rota *rota);

/* End it, once the scheduler is closing. */
void listener_stop(struct rota *rota);

#endif
