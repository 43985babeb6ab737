/*
 * The jobs of processes that died, and the child processes that those had
 * started. No lock held.
 */
#ifndef RESCUE_H
#define RESCUE_H

#include "engine/engine.h"

/* Rescue the jobs of this process, which was seen dead; nothing happens if
 * another has. */
enum rota_error rescue_process(struct rota *rota, int64_t process);

/* Those of every process that has died. */
ROTA_MUST_USE enum rota_error rescue_all(struct rota *rota);

/* What the tags of the children of process begin with. */
void process_tag(const struct rota *rota, int64_t process, char *tag,
                 size_t size);

#endif
