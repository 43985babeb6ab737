/*
 * Connections for reading. Who reads takes one of those that lie idle, or opens
 * one, and has it to itself until it gives it back. Takes rota.lock.
 */
#ifndef READERS_H
#define READERS_H

#include "engine/engine.h"

/* NULL and *error if none can be opened, or this process was forked. */
struct reader *reader_acquire(struct rota *rota, enum rota_error *error);
void reader_release(struct rota *rota, struct reader *reader);

/* At the end, by the thread that closes: no lock. */
void readers_close(struct rota *rota);

#endif
