/*
 * What a session can do in a step: in the store and in the model, with the
 * answers compared. What sessions.c and deeds.c share. A deed is one move in a
 * transaction that is open, so that it can be rolled back, or its process die,
 * at any point: hence the store's own moves, and not its cycle.
 */
#ifndef DEEDS_H
#define DEEDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "statemodel.h"
#include "store/sqlite/sqlite.h"

#define RUNS_KEPT 8

/* A run that a session has claimed. */
struct kept_run {
    int job;
    int64_t id, lease, cursor, process, failures;
    bool has_started;
};

/* A store, and what who uses it remembers. */
struct session {
    struct sqlite_store *store;
    int64_t process;
    struct kept_run runs[RUNS_KEPT]; /* the latest ones, it first */
    int n_runs;
    int64_t dead[4]; /* processes */
    int n_dead;
    int64_t old[MODEL_JOBS]; /* ids of jobs */
    size_t n_old;
    int64_t before; /* what they have ended */
};

extern struct model model;
extern struct reader *ended_reader; /* to find old jobs by */
extern struct connection look; /* of its own, to read the processes by */
extern int64_t kind, queue; /* of all jobs */

/* Its process dies, and it goes on as another one. */
void session_die(struct session *session);

/* about is what follows the colon; "": nothing. */
struct deed;
typedef void deed_fn(struct session *session, const struct deed *deed,
                     const char *about);
struct deed {
    const char *name;
    deed_fn *fn;
    bool writes;                /* in a transaction */
    int64_t number;             /* the deed's own */
    struct model_ending ending; /* the same */
};
extern const struct deed deeds[]; /* the last one has no name */

#endif
