/*
 * The writer, as the rest sees it: who wants something of the store asks for it
 * here. How the role goes from hand to hand is told in writer.c. Any thread but
 * one that is in a cycle.
 */
#ifndef WRITER_H
#define WRITER_H

#include "engine/engine.h"

/* Have the wish carried out, by this thread if nobody else is writing. Returns
 * its error; the words are in message_get(). No lock held. */
enum rota_error wish_run(struct rota *rota, struct request *request);

/* Start the writer thread unless it runs. No lock held. */
ROTA_MUST_USE enum rota_error writer_start(struct rota *rota);

#endif
