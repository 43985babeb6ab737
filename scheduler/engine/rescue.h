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

/* A thread that rescues, so that whoever has news of deaths need not wait for
 * it: looking for what is left takes its time. The fields are rescue.c's; all
 * calls by one thread. */
struct rescuer {
    struct rota *rota;
    pthread_t thread;
    bool has_thread;
    atomic_bool is_busy; /* cleared by the thread, released to who sees it */
    int64_t *dead;       /* the thread's, as long as it is busy */
    size_t n, room;
};

/* Have it rescue the jobs of these processes. If it is busy, or no thread is to
 * be had, nothing happens: the caller hears of them again. */
void rescuer_take(struct rescuer *rescuer, const int64_t *dead, size_t n);

/* Wait until it is done. */
void rescuer_fini(struct rescuer *rescuer);

/* What the tags of the children of process begin with. */
void process_tag(const struct rota *rota, int64_t process, char *tag,
                 size_t size);

#endif
