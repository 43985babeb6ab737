/*
 * Asking for something about jobs and queues that are there. What control.c and
 * many.c share. Any thread, no lock held.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include "engine/engine.h"

/* Have it carried out, if this scheduler may write. */
enum rota_error request_ask(struct rota *rota, struct request *request);

/* A cancel that the queue has answered: what it came to. was_here: the job had
 * been told in memory before. */
enum rota_cancel_answer cancel_answer(struct rota *rota, int64_t id,
                                      const char *reason, bool was_here,
                                      enum rota_cancel_answer answer);

#endif
