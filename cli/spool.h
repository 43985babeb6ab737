/*
 * What commands have written, kept until their job has ended for good and then
 * printed whole: nothing of one command ends up in the midst of another's, and
 * nothing of a run that is to be repeated is printed at all.
 *
 *   worker   spool_keep(), once its command has ended
 *   writer   spool_settle(), as the job's end is recorded
 *   main     spool_next(), in the order they end, or the one they were given in
 *
 * Between the two first calls a run is kept, after the second it is ready; one
 * whose turn has not come is held until it has. Whose turn it is spool_expect()
 * says, and a job may have ended by then: one that nobody expects yet is held,
 * too, until it is known which come before it.
 */
#ifndef SPOOL_H
#define SPOOL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/written.h"

/* Ids, from first to last. */
struct range {
    int64_t first, last;
};

struct spool {
    bool in_order;          /* read-only after spool_init() */
    pthread_mutex_t lock;   /* guards all down to at_range */
    pthread_cond_t changed; /* something to print, or spool_poke() */
    bool poked;
    struct written *kept, **kept_end;   /* runs that are not recorded yet */
    struct written *ready, **ready_end; /* to be printed */
    int64_t n_ready;
    struct range *ranges; /* of jobs whose turn has not been, in order; */
    size_t n_ranges, room_ranges;
    size_t at_range; /* those before this one have had it */
    int64_t passed;  /* the last whose turn is over; 0: none */
    bool knows_all;  /* no more will be expected */
    /* main's alone */
    struct written **held; /* a heap by id: their turn has not come */
    size_t n_held, room_held;
    int held_fd; /* what those wrote; -1: nothing yet */
    int64_t held_size;
};

void spool_init(struct spool *spool, bool in_order);
void spool_fini(struct spool *spool);

/* A run is over; it comes before its spool_settle(). Any thread. */
void spool_keep(struct spool *spool, struct written *written);

/* A run's end is recorded: a rota_ended_fn's. */
void spool_settle(struct spool *spool, int64_t job, enum rota_state state);

/* These come next, if there is an order. Ids only rise. */
void spool_expect(struct spool *spool, const int64_t *ids, size_t n);

/* And that was all. */
void spool_expect_no_more(struct spool *spool);

/* How many wait to be printed that could be. Any thread. */
int64_t spool_backlog(struct spool *spool);

/* Wait for something to do until deadline. */
void spool_wait(struct spool *spool, int64_t deadline);

/* Have that return. Any thread. */
void spool_poke(struct spool *spool);

/* The next end of a run, in order if there is one. is_last: do not wait for
 * those that come before it. NULL: none. To be freed. Main's. */
struct written *spool_next(struct spool *spool, bool is_last);

#endif
