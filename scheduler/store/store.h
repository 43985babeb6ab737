/*
 * The durable state of a queue, whatever keeps it: so far a SQLite file
 * (store/sqlite); ops.h is what another kind of store is to be. Knows nothing
 * of threads that run jobs.
 *
 * A store makes every move of a job, and each in one guarded statement whose
 * count of changed rows is the truth. Who makes which, in files of the store's
 * own folder:
 *
 *   submit      new -> ready | scheduled | blocked                 submit
 *   arrive      new -> running, claimed as it comes                arrivals
 *   claim       ready -> running                                   claim
 *   hold        ready -> held, and back: its key is at its limit   limits
 *   promote     scheduled -> ready, when it is due                 due
 *   expire      ready | held | scheduled | blocked -> failed       due
 *   end         running -> succeeded | failed | cancelled
 *                        | scheduled | ready                       end
 *   rescue      running -> ready | failed | cancelled              rescue
 *   settle      blocked -> ready | scheduled | cancelled;
 *               cancelled -> blocked; children are cancelled       dependents
 *   cancel      what waits -> cancelled; what runs is told         commands
 *   retry       succeeded | failed | cancelled -> ready ...        commands
 *   prune       what has ended is forgotten                        prune
 *
 * Where an end or a death leads is decided by outcome.h, for every store.
 *
 * Errors everywhere: ROTA_STORE, ROTA_FULL (no room), ROTA_BUSY (a foreign
 * client holds a lock), ROTA_CORRUPT, ROTA_NOMEM; words by message_get().
 */
#ifndef STORE_H
#define STORE_H

#include <poll.h>

#include <rota/ctx.h>

#include "store/work.h"

struct store;

/* -- Life ----------------------------------------------------------------- */

/* Called with a line about the store, without a newline. On the thread that is
 * in store_cycle() or watch_look(), no lock held. */
typedef void store_say_fn(void *arg, const char *line);

struct store_options {
    bool is_readonly;     /* only readers and watches will be used */
    bool waits_for_none;  /* who writes: ROTA_BUSY at once */
    rota_clock_fn *clock; /* NULL: the store's own */
    void *clock_arg;
    int64_t log_max;   /* rota_options.log_max */
    store_say_fn *say; /* NULL: nobody listens */
    void *say_arg;
};

/* Open the queue called name: a path, or postgres://... Made if it is not
 * there, never if readonly. options is copied. Errors besides: ROTA_NOTFOUND,
 * ROTA_VERSION, ROTA_INVALID, ROTA_SYSTEM. */
ROTA_MUST_USE enum rota_error store_open(const char *name,
                                         const struct store_options *options,
                                         struct store **ret_store);

/* Its readers and watches are closed by then. NULL is a no-op. */
void store_close(struct store *store);

/* Jobs that came with a copy of another queue: those from the former before up
 * to the id last are of that instance. */
struct former {
    int64_t last;
    char instance[64];
};

/* Which queue it is. Read-only, valid until store_close(). Any thread. */
struct store_identity {
    char instance[64]; /* what tells it from any other, for ever: a random text
                        */
    struct former *former; /* by last, rising; freed with the store */
    size_t n_former;
    const char *name; /* for people: the whole path */
    const char *file; /* the path, if it is a file; or NULL */
    uintmax_t place;  /* a number that a copy of it elsewhere does not have */
};
const struct store_identity *store_identity(const struct store *store);

/* The instance of the queue that the job was submitted to. */
const char *identity_of_job(const struct store_identity *identity, int64_t id);

/* Whether this process is a forked child of the one that opened it, which must
 * not touch it; words by message_get(). Any thread. */
bool store_is_inherited(const struct store *store);

/* How many bytes it can keep of a result, or of words, at the most. Any thread.
 */
size_t store_value_max(const struct store *store);

/* What is wrong with it, if it has been found damaged; or NULL. Then
 * store_cycle() and the calls of its readers are ROTA_CORRUPT, with these words
 * in message_get(), and write nothing: what was read so far cannot be trusted,
 * and who goes on makes it worse. Any thread. */
const char *store_damage(const struct store *store);

/* What time it is for the queue, in Unix milliseconds. Any thread. */
int64_t store_now(const struct store *store);

/* -- Writing -------------------------------------------------------------- */

/* Carry work out, all of it or nothing, and fill in the answers. On an error
 * nothing has happened, and of the answers only has_begun and is_gone count;
 * its words are in message_get(). One thread at a time: whoever has the
 * writer's role (engine/writer.c). */
ROTA_MUST_USE enum rota_error store_cycle(struct store *store,
                                          struct work *work);

/* -- Reading -------------------------------------------------------------- */

/* A connection that only reads; one thread at a time. While what the store has
 * open is no longer the queue that its name means, its calls are ROTA_STORE. */
struct reader;

ROTA_MUST_USE enum rota_error reader_open(struct store *store,
                                          struct reader **ret_reader);
void reader_close(struct reader *reader);

/* Where a job stands. ROTA_NOTFOUND. ret_outcome->state decides; the rest is
 * filled for ended jobs. */
ROTA_MUST_USE enum rota_error reader_outcome(struct reader *reader, int64_t id,
                                             struct rota_outcome *ret_outcome);

/* What waits for somebody to act. */
struct waiting {
    bool is_ready;     /* a job of the scope may be claimed */
    bool is_limited;   /* one could, but for the limit of its queue or key */
    bool is_unsettled; /* jobs are to be told of others' ends */
    int64_t next;      /* when WISH_CHORES has something to do; INT64_MAX */
};
ROTA_MUST_USE enum rota_error reader_waiting(struct reader *reader,
                                             const struct scope *scope,
                                             struct waiting *ret_waiting);

/* Call fn with each process that has died without leaving. */
typedef void reader_dead_fn(void *arg, int64_t process);
ROTA_MUST_USE enum rota_error reader_dead(struct reader *reader,
                                          reader_dead_fn *fn, void *arg);

/* rota_query(): its errors. ctx is not NULL, and has not ended. */
ROTA_MUST_USE enum rota_error reader_query(struct ctx *ctx,
                                           struct reader *reader,
                                           const char *sql,
                                           const struct rota_value *params,
                                           int n, rota_row_fn *fn, void *arg);

/* The first queue behind number *queue that keeps its jobs for a time only, and
 * for how long; *queue is 0 if there is none. */
ROTA_MUST_USE enum rota_error reader_retaining(struct reader *reader,
                                               int64_t *queue, int64_t *ret_ms);

/* Up to n jobs of queue behind the id *last that have ended before that time;
 * *last is set to how far it looked, INT64_MAX if there are no more. */
ROTA_MUST_USE enum rota_error reader_prunable(struct reader *reader,
                                              int64_t queue, int64_t before,
                                              int64_t *last, int64_t *ids,
                                              size_t n, size_t *ret_n);

/* -- Watching ------------------------------------------------------------- */

/*
 * What others do to the queue: a hint to wake up by, and a look at the truth.
 * One thread, which goes round: watch_look(), then sleep until watch_next() or
 * until one of the descriptors is readable, then watch_heard().
 */
struct watch;

ROTA_MUST_USE enum rota_error watch_open(struct store *store,
                                         struct watch **ret_watch);
void watch_close(struct watch *watch);

/* Fill fds, of which there are room for n, with what to poll for. Returns how
 * many there would be. */
size_t watch_descriptors(const struct watch *watch, struct pollfd *fds,
                         size_t n);

/* What poll has said of the n of them. */
void watch_heard(struct watch *watch, const struct pollfd *fds, size_t n);

/* Look, as far as it is time to. Calls fn for each running job of the scope's
 * process whose cancel was asked; reason may be NULL. */
struct news {
    bool has_changed;    /* somebody, this process included, has committed */
    bool is_known;       /* the two below are news: */
    bool is_ready;       /* a job of the scope may be claimed */
    int64_t chores_at;   /* when WISH_CHORES has something to do; 0: now;
                          * INT64_MAX: never */
    const int64_t *dead; /* processes, until the next look */
    size_t n_dead;
};
typedef void watch_cancel_fn(void *arg, int64_t id, int64_t lease,
                             const char *reason);
void watch_look(struct watch *watch, const struct scope *scope,
                watch_cancel_fn *fn, void *arg, struct news *ret_news);

/* When to look again even if nothing is heard, on ctx_now()'s clock. */
int64_t watch_next(const struct watch *watch);

#endif
