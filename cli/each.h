/*
 * `each`: a command for each item, as a batch of exec jobs in a queue of their
 * own. What its three parts share:
 *
 *   feeder   takes items and submits them, as fast as they come   each_feed.c
 *   workers  run the commands, and keep what they write           each.c
 *   main     prints what ended, shows how far it is, sums up      each_ends.c
 *
 * There is no lock here: a field belongs to one of them, is atomic, or is set
 * before the threads begin and read-only from then on. What needs a lock is in
 * the spool.
 */
#ifndef EACH_H
#define EACH_H

#include <stdatomic.h>

#include "cli/cli.h"
#include "cli/failures.h"
#include "cli/item_set.h"
#include "cli/items.h"
#include "cli/progress.h"
#include "cli/rate.h"
#include "cli/spool.h"

/* Commands that run at once, at most: as --jobs says. */
enum { PLACES = 1024 };

struct each {
    /* set before the threads begin */
    struct cli *cli;
    struct ctx *signals; /* ends with one */
    struct ctx *ctx;     /* the same, or when nobody reads stdout any more */
    struct rota *rota;
    struct item_set done, waiting; /* what the batch had when we came */
    char *const *words;            /* the command */
    size_t n_words;
    char *folder; /* where it runs */
    char batch[256], queue[264];
    int64_t begun_unix; /* Unix milliseconds */
    /* with locks of their own */
    struct progress progress;
    struct spool spool;
    /* by the workers, read by main */
    atomic_int running;            /* commands */
    _Atomic int64_t begun[PLACES]; /* when each began; 0: nothing runs there */
    _Atomic int64_t runs, spent;   /* that ended, and nanoseconds they took */
    _Atomic int64_t ended;         /* jobs, for good */
    /* by the feeder, read by main: what was given is known when is_fed is */
    _Atomic int64_t given;   /* jobs that must end; those found included */
    _Atomic int64_t skipped; /* items that the batch has done before */
    atomic_bool is_fed;      /* no more will be given */
    /* the feeder's, and main's once it has joined it */
    struct items items;
    enum rota_error feed_error;
    char feed_message[512];
    /* main's */
    int64_t succeeded, cancelled; /* jobs; those that failed are failures.n */
    struct failures failures;
    int broken; /* CLI_OK, or the code to end with: the file is not there */
    int64_t unprinted; /* ends of which something could not be printed */
    bool has_printed;  /* anything at all */
    int64_t begun_at;  /* ctx_now(), and so below */
    struct rate rate;
    int64_t looked_at; /* when it was seen that the file is there */
    int64_t moved_at;  /* when it was last seen that something moves here, */
    int64_t moved;     /* and how many had ended then */
};

/* How many jobs have ended that were told of. Main's. */
static inline int64_t
each_ended(const struct each *each)
{
    return each->succeeded + each->failures.n + each->cancelled;
}

/* The feeder thread's function; arg is a struct each. */
void *each_feed(void *arg);

/* Count and print what has ended. is_last: nothing more comes, so that what
 * waits for its turn is printed too. Main's. */
void each_take_ends(struct each *each, bool is_last);

/* Say what became of it all, once everything has stopped, and give the code
 * that the process ends with. Main's. */
int each_sum_up(struct each *each);

#endif
