/*
 * A scheduler's life: open, handle, start, stop, close. Locking as engine.h
 * says; these calls are few, and rota.lock is dropped before any that waits.
 * Opening and closing are for one thread, the others for any.
 */
#define _GNU_SOURCE
#include "api/life.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/check.h"
#include "engine/job.h"
#include "engine/listener.h"
#include "engine/readers.h"
#include "engine/rescue.h"
#include "engine/sleepers.h"
#include "engine/state.h"

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
    enum rota_error error = ROTA_OK;

    lock_take(&rota->lock);
    if (rota->is_starting || rota->is_started) {
        message_set("rota_handle() comes before rota_start()");
        error = ROTA_BUSY;
    } else if (kind_is_handled(rota, kind->name)) {
        message_set("kind %s has a function already", kind->name);
        error = ROTA_EXISTS;
    } else {
        kind->next = rota->kinds;
        rota->kinds = kind;
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

/* -- Start ---------------------------------------------------------------- */

/* What a start has made, and does not yet belong to the scheduler. */
struct making {
    struct joined_kind *kinds; /* in the order of rota.kinds */
    int64_t *kind_numbers;
    size_t n_kinds;
    struct rota_pool *pool;
    struct ctx *run_ctx;
};

/* Whether it may start; if so, it is starting, and nobody else may. */
static enum rota_error
start_claim(struct rota *rota)
{
    enum rota_error error = engine_writable(rota);

    if (error != ROTA_OK)
        return error;
    lock_take(&rota->lock);
    if (rota->n_kinds == 0) {
        message_set("no kind is handled here: rota_handle() comes first");
        error = ROTA_INVALID;
    } else if (rota->is_started || rota->is_starting) {
        message_set(rota->is_stepping ? "rota_step() runs its jobs"
                                      : "it was started before");
        error = ROTA_BUSY;
    } else {
        rota->is_starting = true;
    }
    lock_drop(&rota->lock);
    return error;
}

/* The kinds, as the store is to know them. The list stays as it is while
 * is_starting. */
static enum rota_error
kinds_list(const struct rota *rota, struct making *making)
{
    size_t n = 0;

    making->n_kinds = rota->n_kinds;
    making->kinds = calloc(rota->n_kinds, sizeof(*making->kinds));
    making->kind_numbers = calloc(rota->n_kinds, sizeof(*making->kind_numbers));
    if (making->kinds == NULL || making->kind_numbers == NULL)
        return no_memory();
    for (const struct kind *kind = rota->kinds; kind != NULL;
         kind = kind->next) {
        int attempts = kind->defaults.max_attempts;

        making->kinds[n++] = (struct joined_kind){
            .name = kind->name,
            .max_attempts = attempts > 0 ? attempts : 1,
            .timeout_ms = /* rounded up: 0 is none */
            saturating_add(kind->defaults.timeout, 999999) / 1000000};
    }
    return ROTA_OK;
}

static enum rota_error
workers_make(const struct rota *rota, struct making *making)
{
    int workers = rota->options.workers;
    enum rota_error error = pool_open(workers, "rota", &making->pool);

    if (error == ROTA_SYSTEM)
        message_set("cannot start %d threads", workers);
    /* the jobs that are claimed, and those given back but still queued */
    return error == ROTA_OK
               ? pool_reserve(making->pool,
                              2 * ((size_t)workers + PREFETCH_MAX))
               : error;
}

static void
making_undo(struct making *making)
{
    (void)pool_close(making->pool);
    free(making->kind_numbers);
    ctx_end(making->run_ctx);
}

/* Join those who run jobs. Last: what others see is not undone. */
static enum rota_error
start_join(struct rota *rota, const struct start *start, struct making *making,
           struct scope *ret_scope)
{
    struct request request = {
        .wish = {.kind = WISH_JOIN,
                 .join = {.kinds = making->kinds,
                          .n_kinds = making->n_kinds,
                          .queue = start->queue,
                          .threads = rota->options.workers}}};
    enum rota_error error = wish_run(rota, &request);

    for (size_t i = 0; error == ROTA_OK && i < making->n_kinds; i++)
        making->kind_numbers[i] = making->kinds[i].number;
    if (error == ROTA_OK)
        *ret_scope = (struct scope){.process = request.wish.join.process,
                                    .kinds = making->kind_numbers,
                                    .n_kinds = making->n_kinds,
                                    .queue = request.wish.join.queue_number,
                                    .job = start->job};
    return error;
}

/* Hand over what was made: from here on jobs may be claimed. */
static void
start_finish(struct rota *rota, const struct start *start,
             const struct making *making, const struct scope *scope)
{
    size_t n = 0;

    atomic_store_explicit(&rota->process, scope->process, memory_order_relaxed);
    lock_take(&rota->lock);
    for (struct kind *kind = rota->kinds; kind != NULL; kind = kind->next)
        kind->number = making->kind_numbers[n++];
    rota->kind_numbers = making->kind_numbers;
    rota->pool = making->pool;
    rota->run_ctx = making->run_ctx;
    rota->scope = *scope;
    rota->is_stepping = start->is_stepping;
    rota->is_started = true;
    rota->is_starting = false;
    rota->maybe_ready = true;
    lock_drop(&rota->lock);
    writer_poke(rota);
}

/* All that can be undone, and then to join. */
static enum rota_error
start_make(struct ctx *ctx, struct rota *rota, const struct start *start,
           struct making *making, struct scope *ret_scope)
{
    enum rota_error error = kinds_list(rota, making);

    if (error == ROTA_OK && !start->is_stepping)
        error = workers_make(rota, making);
    making->run_ctx = ctx_with_cancel(ctx);
    if (error == ROTA_OK && ctx_err(making->run_ctx) == ROTA_NOMEM)
        error = no_memory(); /* under it nothing would run */
    if (error == ROTA_OK)
        error = rescue_all(rota);
    if (error == ROTA_OK && !start->is_stepping)
        error = writer_start(rota);
    if (error == ROTA_OK && !start->is_stepping)
        error = listener_start(rota);
    return error == ROTA_OK ? start_join(rota, start, making, ret_scope)
                            : error;
}

enum rota_error
engine_start(struct ctx *ctx, struct rota *rota, const struct start *start)
{
    struct making making = {0};
    struct scope scope = {0};
    enum rota_error error = start_claim(rota);

    if (error != ROTA_OK)
        return error;
    error = start_make(ctx, rota, start, &making, &scope);
    if (error == ROTA_OK) {
        start_finish(rota, start, &making, &scope);
    } else {
        making_undo(&making);
        lock_take(&rota->lock);
        rota->is_starting = false;
        lock_drop(&rota->lock);
    }
    free(making.kinds);
    return error;
}

enum rota_error
rota_start(struct ctx *ctx, struct rota *rota)
{
    return engine_start(ctx, rota, &(struct start){0});
}

enum rota_error
rota_start_job(struct ctx *ctx, struct rota *rota, int64_t id)
{
    return engine_start(ctx, rota,
                        &(struct start){.job = id == 0 ? SCOPE_NEXT : id});
}

enum rota_error
rota_start_queue(struct ctx *ctx, struct rota *rota, const char *queue)
{
    if (queue == NULL)
        queue = "default";
    if (!name_is_valid(queue, "queue"))
        return ROTA_INVALID;
    return engine_start(ctx, rota, &(struct start){.queue = queue});
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
