/*
 * A scheduler's life but for its start (start.c): open, handle, stop, close.
 * Locking as engine.h says; these calls are few, and rota.lock is dropped
 * before any that waits. Opening and closing are for one thread, the others for
 * any.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/check.h"
#include "engine/job.h"
#include "engine/listener.h"
#include "engine/readers.h"
#include "engine/sleepers.h"
#include "engine/state.h"
#include "engine/writer.h"

/* The store's log may grow so far, unless the options say otherwise. */
#define LOG_MAX (INT64_C(4) << 30)

const char *
rota_errmsg(const struct rota *rota)
{
    (void)rota; /* messages are the thread's */
    return message_get();
}

const char *
rota_state_name(enum rota_state state)
{
    static const char *const names[] = {
        [ROTA_BLOCKED] = "blocked",     [ROTA_SCHEDULED] = "scheduled",
        [ROTA_READY] = "ready",         [ROTA_RUNNING] = "running",
        [ROTA_SUCCEEDED] = "succeeded", [ROTA_JOB_FAILED] = "failed",
        [ROTA_CANCELLED] = "cancelled"};

    return names[state];
}

const char *
rota_instance(const struct rota *rota)
{
    return rota->identity->instance;
}

/* -- Open ----------------------------------------------------------------- */

static void
rota_init(struct rota *rota)
{
    pthread_condattr_t attr;

    MUST(pthread_mutex_init(&rota->lock, NULL));
    MUST(pthread_mutex_init(&rota->start_lock, NULL));
    MUST(pthread_condattr_init(&attr));
    MUST(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    MUST(pthread_cond_init(&rota->work, &attr));
    MUST(pthread_condattr_destroy(&attr));
    list_init(&rota->requests);
    list_init(&rota->sleepers);
    for (int i = 0; i < JOB_BUCKETS; i++)
        list_init(&rota->jobs[i]);
}

/* Nobody else has it any more. */
static void
rota_free(struct rota *rota)
{
    struct kind *kind;

    readers_close(rota);
    store_close(rota->store);
    jobs_release(rota);
    while ((kind = rota->kinds) != NULL) {
        rota->kinds = kind->next;
        free(kind->name);
        free(kind);
    }
    free(rota->kind_numbers);
    MUST(pthread_cond_destroy(&rota->work));
    MUST(pthread_mutex_destroy(&rota->lock));
    MUST(pthread_mutex_destroy(&rota->start_lock));
    free(rota);
}

static void
options_complete(struct rota *rota)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    rota->is_readonly = (rota->options.flags & ROTA_READONLY) != 0;
    if (rota->options.log_max == 0)
        rota->options.log_max = LOG_MAX;
    if (rota->options.workers == 0)
        rota->options.workers = cpus > 0 ? (int)cpus : 1;
}

/* A line of the store's. */
static void
store_line(void *arg, const char *line)
{
    rota_say(arg, 0, "%s", line);
}

enum rota_error
rota_open(const char *path, const struct rota_options *options,
          struct rota **ret_rota)
{
    struct rota *rota = calloc(1, sizeof(*rota));
    struct store_options own = {.say = store_line, .say_arg = rota};
    enum rota_error error;

    if (rota == NULL)
        return no_memory();
    rota_init(rota);
    error = options_take(&rota->options, options);
    if (error == ROTA_OK) {
        options_complete(rota);
        own.is_readonly = rota->is_readonly;
        own.waits_for_none = (rota->options.flags & ROTA_NOWAIT) != 0;
        own.clock = rota->options.clock;
        own.clock_arg = rota->options.clock_arg;
        own.log_max = rota->options.log_max;
        error = store_open(path, &own, &rota->store);
    }
    if (error != ROTA_OK) {
        rota_free(rota);
        return error;
    }
    rota->identity = store_identity(rota->store);
    *ret_rota = rota;
    return ROTA_OK;
}

/* -- Handle --------------------------------------------------------------- */

/* Under rota.lock. */
static bool
kind_is_handled(const struct rota *rota, const char *name)
{
    const struct kind *kind = rota->kinds;

    while (kind != NULL && strcmp(kind->name, name) != 0)
        kind = kind->next;
    return kind != NULL;
}

bool
rota_handles(struct rota *rota, const char *name)
{
    bool is_handled;

    lock_take(&rota->lock);
    is_handled = kind_is_handled(rota, name);
    lock_drop(&rota->lock);
    return is_handled;
}

/* Put it on the list, unless that is too late. */
static enum rota_error
kind_add(struct rota *rota, struct kind *kind)
{
    struct kind **at = &rota->kinds;
    enum rota_error error = ROTA_OK;

    lock_take(&rota->lock);
    if (rota->is_starting || rota->is_started) {
        message_set("rota_handle() comes before rota_start()");
        error = ROTA_BUSY;
    } else if (kind_is_handled(rota, kind->name)) {
        message_set("kind %s has a function already", kind->name);
        error = ROTA_EXISTS;
    } else {
        while (!kind->defaults.is_isolated && *at != NULL &&
               (*at)->defaults.is_isolated)
            at = &(*at)->next;
        kind->next = *at;
        *at = kind;
        rota->n_kinds++;
    }
    lock_drop(&rota->lock);
    return error;
}

enum rota_error
rota_handle(struct rota *rota, const char *name, rota_job_fn *fn, void *arg,
            const struct rota_defaults *defaults)
{
    struct rota_defaults own = ROTA_DEFAULTS_INIT;
    struct kind *kind;
    enum rota_error error;

    if (fn == NULL || !name_is_valid(name, "kind")) {
        message_set("a kind needs a name (UTF-8) of 1 to 255 bytes and a "
                    "function");
        return ROTA_INVALID;
    }
    error = defaults_take(&own, defaults);
    if (error != ROTA_OK)
        return error;
    kind = calloc(1, sizeof(*kind));
    if (kind == NULL)
        return no_memory();
    kind->name = strdup(name);
    kind->fn = fn;
    kind->arg = arg;
    kind->defaults = own;
    error = kind->name == NULL ? no_memory() : kind_add(rota, kind);
    if (error != ROTA_OK) {
        free(kind->name);
        free(kind);
    }
    return error;
}

/* -- Stop ----------------------------------------------------------------- */

/* Under rota.lock: whether nobody will bring what is waited for: nothing is
 * written between steps, and jobs that are stuck may stay for ever. */
static bool
is_in_vain(const struct rota *rota)
{
    return engine_is_between_steps(rota) ||
           (rota->stuck > 0 && rota->stuck >= rota->active);
}

/* Wait until no job is claimed or running here; false if some still are at
 * deadline, or it is in vain. */
static bool
await_quiet(struct rota *rota, int64_t deadline)
{
    struct sleeper sleeper = {.id = 0};
    bool is_quiet, is_over = false;

    lock_take(&rota->lock);
    while (!(is_quiet = engine_is_quiet(rota)) && !is_over &&
           !is_in_vain(rota)) {
        list_append(&rota->sleepers, &sleeper.on_sleepers);
        lock_drop(&rota->lock);
        (void)wake_wait(&sleeper.wake, deadline);
        is_over = ctx_now() >= deadline;
        lock_take(&rota->lock);
        list_remove(&sleeper.on_sleepers);
        atomic_store_explicit(&sleeper.wake.word, 0, memory_order_relaxed);
    }
    lock_drop(&rota->lock);
    return is_quiet;
}

/* How long jobs may take to stop, and to be seen to have. */
static int64_t
longest_grace(const struct rota *rota)
{
    int64_t longest = 0;

    for (const struct kind *kind = rota->kinds; kind != NULL; kind = kind->next)
        if (kind_grace(kind) > longest)
            longest = kind_grace(kind);
    return saturating_add(longest, 4 * FLUSH_EVERY);
}

/* Under rota.lock: of the jobs that are stuck the one with the smallest id. */
static const struct rota_job *
first_stuck(const struct rota *rota)
{
    const struct rota_job *first = NULL;

    for (int b = 0; b < JOB_BUCKETS; b++)
        for (const struct link *l = rota->jobs[b].next; l != &rota->jobs[b];
             l = l->next) {
            const struct rota_job *job =
                OWNER_OF(l, struct rota_job, on_bucket);

            if (job->stuck_since != 0 && job->place == JOB_RUNNING &&
                (first == NULL || job->claim.id < first->claim.id))
                first = job;
        }
    return first;
}

/* Say what keeps the scheduler from stopping. */
static enum rota_error
fail_to_stop(struct rota *rota)
{
    const struct rota_job *first;
    char others[48] = "";

    lock_take(&rota->lock);
    first = first_stuck(rota);
    if (rota->stuck > 1)
        (void)snprintf(others, sizeof(others), ", and %jd other%s",
                       (intmax_t)rota->stuck - 1, rota->stuck > 2 ? "s" : "");
    if (first != NULL)
        message_set("job %jd (%s) has ignored for %.1f s that it should stop%s",
                    (intmax_t)first->claim.id, first->kind->name,
                    (double)(ctx_now() - first->end_seen_at) / 1e9, others);
    else
        message_set("the ends of %jd jobs cannot be recorded yet: %s",
                    (intmax_t)rota->active, rota->kept_words);
    lock_drop(&rota->lock);
    return ROTA_BUSY;
}

/* Claim no more; *ret_ctx is the one of all that runs. False if it was never
 * started. */
static bool
stop_begin(struct rota *rota, struct ctx **ret_ctx, bool *ret_stepping)
{
    bool was_started;

    lock_take(&rota->lock);
    was_started = rota->is_started;
    rota->is_stopping |= was_started;
    *ret_ctx = rota->run_ctx;
    *ret_stepping = rota->is_stepping;
    lock_drop(&rota->lock);
    return was_started;
}

enum rota_error
rota_stop(struct rota *rota, int64_t grace)
{
    struct request leave = {.wish = {.kind = WISH_LEAVE}};
    struct request chores = {.wish = {.kind = WISH_CHORES}};
    struct ctx *run_ctx;
    int64_t deadline;
    bool is_stepping;

    if (store_is_inherited(rota->store))
        return ROTA_INVALID;
    if (engine_is_own_job(rota, "stop"))
        return ROTA_INVALID;
    if (!stop_begin(rota, &run_ctx, &is_stepping))
        return ROTA_OK;
    writer_poke(rota);
    if (is_stepping) /* nobody else does what is left */
        (void)wish_run(rota, &chores);
    deadline = saturating_add(ctx_now(), grace);
    if (ctx_done(run_ctx) || !await_quiet(rota, deadline))
        (void)ctx_cancel_cause(run_ctx, "shutdown");
    if (!await_quiet(rota, saturating_add(ctx_now(), longest_grace(rota))))
        return fail_to_stop(rota);
    leave.wish.leave.process =
        atomic_load_explicit(&rota->process, memory_order_relaxed);
    return wish_run(rota, &leave);
}

/* -- Close ---------------------------------------------------------------- */

enum rota_error
rota_close(struct rota *rota)
{
    enum rota_error error;

    if (rota == NULL)
        return ROTA_OK;
    if (store_is_inherited(rota->store))
        return ROTA_INVALID;
    if (engine_is_own_job(rota, "close"))
        return ROTA_INVALID;
    error = rota_stop(rota, 0);
    if (error == ROTA_BUSY && !await_quiet(rota, 0))
        return error;
    lock_take(&rota->lock);
    rota->is_closing = true;
    MUST(pthread_cond_signal(&rota->work));
    lock_drop(&rota->lock);
    listener_stop(rota);
    if (rota->has_writer)
        MUST(pthread_join(rota->writer, NULL));
    (void)pool_close(rota->pool);
    ctx_end(rota->run_ctx);
    rota_free(rota);
    return ROTA_OK;
}
