/*
 * A scheduler's life: open, handle, start, stop, close. Locking as engine.h
 * says; these calls are few, and rota.lock is dropped before any that waits.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "engine/engine.h"

const char *
rota_errmsg(const struct rota *rota)
{
    (void)rota; /* messages are the thread's */
    return message_get();
}

int64_t
rota_now(const struct rota *rota)
{
    return store_now(rota->store);
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
    return store_instance(rota->store);
}

void
rota_say(struct rota *rota, int64_t job, const char *format, ...)
{
    char line[1280];
    va_list args;

    if (rota->options.log == NULL)
        return;
    va_start(args, format);
    (void)vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    rota->options.log(rota->options.log_arg, job, line);
}

/* -- Open ----------------------------------------------------------------- */

static void
locks_init(struct rota *rota)
{
    pthread_condattr_t attr;

    MUST(pthread_mutex_init(&rota->lock, NULL));
    MUST(pthread_mutex_init(&rota->start_lock, NULL));
    MUST(pthread_condattr_init(&attr));
    MUST(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    MUST(pthread_cond_init(&rota->work, &attr));
    MUST(pthread_condattr_destroy(&attr));
    list_init(&rota->requests);
    list_init(&rota->waiters);
    for (int i = 0; i < JOB_BUCKETS; i++)
        list_init(&rota->jobs[i]);
}

static void
rota_free(struct rota *rota)
{
    struct kind *kind;

    if (rota == NULL)
        return;
    while (rota->n_idle > 0)
        reader_close(rota->idle[--rota->n_idle]);
    store_close(rota->store);
    while ((kind = rota->kinds) != NULL) {
        rota->kinds = kind->next;
        free(kind->name);
        free(kind);
    }
    free(rota->kind_numbers);
    free(rota->path);
    MUST(pthread_cond_destroy(&rota->work));
    MUST(pthread_mutex_destroy(&rota->lock));
    MUST(pthread_mutex_destroy(&rota->start_lock));
    free(rota);
}

static enum rota_error
options_take(struct rota *rota, const struct rota_options *options)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    if (options != NULL) {
        if (options->size != sizeof(*options) || options->workers < 0 ||
            options->log_max < 0 ||
            (options->flags & ~(unsigned)(ROTA_NORMAL | ROTA_READONLY)) != 0) {
            message_set("options start as ROTA_OPTIONS_INIT; workers and "
                        "log_max must not be negative");
            return ROTA_INVALID;
        }
        rota->options = *options;
    }
    rota->readonly = (rota->options.flags & ROTA_READONLY) != 0;
    if (rota->options.log_max == 0)
        rota->options.log_max = LOG_MAX;
    if (rota->options.workers == 0)
        rota->options.workers = cpus > 0 ? (int)cpus : 1;
    return ROTA_OK;
}

/* Which file it is. */
static enum rota_error
keep_file(struct rota *rota)
{
    struct stat file = {.st_ino = 0};

    rota->path = strdup(store_path(rota->store));
    if (rota->path == NULL)
        return no_memory();
    (void)stat(rota->path, &file);
    rota->inode = file.st_ino;
    return ROTA_OK;
}

enum rota_error
rota_open(const char *path, const struct rota_options *options,
          struct rota **ret_rota)
{
    struct rota *rota = calloc(1, sizeof(*rota));
    enum rota_error error;

    if (rota == NULL)
        return no_memory();
    locks_init(rota);
    error = options_take(rota, options);
    if (error == ROTA_OK)
        error = store_open(path, rota->readonly, &rota->store);
    if (error == ROTA_OK && rota->options.clock != NULL)
        store_set_clock(rota->store, rota->options.clock,
                        rota->options.clock_arg);
    if (error == ROTA_OK)
        error = keep_file(rota);
    if (error != ROTA_OK) {
        rota_free(rota);
        return error;
    }
    *ret_rota = rota;
    return ROTA_OK;
}

/* -- Handle --------------------------------------------------------------- */

bool
rota_handles(struct rota *rota, const char *name)
{
    struct kind *kind;

    lock_take(&rota->lock);
    kind = rota->kinds;
    while (kind != NULL && strcmp(kind->name, name) != 0)
        kind = kind->next;
    lock_drop(&rota->lock);
    return kind != NULL;
}

static enum rota_error
kind_check(struct rota *rota, const char *name, rota_job_fn *fn,
           const struct rota_defaults *defaults)
{
    size_t length = name == NULL ? 0 : strlen(name);

    if (length < 1 || length > 255 || !text_is_utf8(name, length) ||
        fn == NULL) {
        message_set("a kind needs a name (UTF-8) of 1 to 255 bytes and a "
                    "function");
        return ROTA_INVALID;
    }
    if (defaults != NULL &&
        (defaults->size != sizeof(*defaults) || defaults->max_attempts < 0 ||
         defaults->timeout < 0 || defaults->grace < 0)) {
        message_set("defaults start as ROTA_DEFAULTS_INIT and must not be "
                    "negative");
        return ROTA_INVALID;
    }
    if (rota->started) {
        message_set("rota_handle() comes before rota_start()");
        return ROTA_BUSY;
    }
    if (rota_handles(rota, name)) {
        message_set("kind %s has a function already", name);
        return ROTA_EXISTS;
    }
    return ROTA_OK;
}

enum rota_error
rota_handle(struct rota *rota, const char *name, rota_job_fn *fn, void *arg,
            const struct rota_defaults *defaults)
{
    enum rota_error error = kind_check(rota, name, fn, defaults);
    struct kind *kind;

    if (error != ROTA_OK)
        return error;
    kind = calloc(1, sizeof(*kind));
    if (kind == NULL)
        return no_memory();
    kind->name = strdup(name);
    if (kind->name == NULL) {
        free(kind);
        return no_memory();
    }
    kind->fn = fn;
    kind->arg = arg;
    if (defaults != NULL)
        kind->defaults = *defaults;
    lock_take(&rota->lock);
    kind->next = rota->kinds;
    rota->kinds = kind;
    rota->n_kinds++;
    lock_drop(&rota->lock);
    return ROTA_OK;
}

/* -- Start ---------------------------------------------------------------- */

static enum rota_error
start_check(struct rota *rota)
{
    if (store_is_inherited(rota->store))
        return ROTA_INVALID;
    if (rota->readonly || rota->n_kinds == 0) {
        message_set(rota->readonly ? "it was opened to look only"
                                   : "no kind is handled here: "
                                     "rota_handle() comes first");
        return ROTA_INVALID;
    }
    if (rota->started) {
        message_set(rota->stepping ? "rota_step() runs its jobs"
                                   : "it was started before");
        return ROTA_BUSY;
    }
    return ROTA_OK;
}

static enum rota_error
start_workers(struct rota *rota, bool stepping)
{
    int workers = rota->options.workers;
    enum rota_error error;

    rota->kind_numbers = calloc(rota->n_kinds, sizeof(*rota->kind_numbers));
    if (rota->kind_numbers == NULL)
        return no_memory();
    if (stepping)
        return ROTA_OK;
    error = pool_open(workers, "rota", &rota->pool);
    if (error == ROTA_SYSTEM)
        message_set("cannot start %d threads", workers);
    /* the jobs that are claimed, and those given back but still queued */
    if (error == ROTA_OK)
        error = pool_reserve(rota->pool, 2 * ((size_t)workers + PREFETCH_MAX));
    return error;
}

/* Undo a start that failed half-way, so that another may be tried. */
static void
start_undo(struct rota *rota)
{
    (void)pool_close(rota->pool);
    rota->pool = NULL;
    free(rota->kind_numbers);
    rota->kind_numbers = NULL;
    rota->scope = (struct scope){0};
    ctx_end(rota->run_ctx);
    rota->run_ctx = NULL;
}

/* The threads that run and record jobs, and look outside. */
static enum rota_error
start_threads(struct rota *rota)
{
    enum rota_error error = writer_start(rota);

    return error == ROTA_OK ? outside_start(rota) : error;
}

enum rota_error
engine_start(struct ctx *ctx, struct rota *rota, const struct start *start)
{
    struct request request = {.kind = REQUEST_BEGIN_PROCESS,
                              .queue = start->queue};
    enum rota_error error = start_check(rota);

    if (error != ROTA_OK)
        return error;
    error = start_workers(rota, start->stepping);
    rota->run_ctx = ctx_with_cancel(ctx);
    if (error == ROTA_OK && ctx_err(rota->run_ctx) == ROTA_NOMEM)
        error = no_memory(); /* under it nothing would run */
    if (error == ROTA_OK)
        error = outside_rescue(rota);
    if (error == ROTA_OK && !start->stepping)
        error = start_threads(rota);
    if (error == ROTA_OK) /* last: what others see is not undone */
        error = request_run(rota, &request);
    if (error != ROTA_OK) {
        start_undo(rota);
        return error;
    }
    rota->process = request.id;
    lock_take(&rota->lock);
    rota->scope.kinds = rota->kind_numbers;
    rota->scope.n_kinds = rota->n_kinds;
    rota->scope.process = rota->process;
    rota->takes_next = start->is_next;
    rota->scope.job = start->is_next ? -1 : start->job;
    rota->stepping = start->stepping;
    rota->started = true;
    rota->maybe_ready = true;
    lock_drop(&rota->lock);
    writer_poke(rota);
    return ROTA_OK;
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
                        &(struct start){.job = id, .is_next = id == 0});
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

/* Wait until no job is claimed or running here; false if some still are at
 * deadline, or all that are will not stop. */
static bool
await_quiet(struct rota *rota, int64_t deadline)
{
    struct waiter waiter = {.id = 0};
    bool quiet, is_over = false;

    lock_take(&rota->lock);
    while (!(quiet = engine_is_quiet(rota)) && !is_over &&
           !engine_is_left_alone(rota) &&
           (rota->stuck == 0 || rota->stuck < rota->active)) {
        list_append(&rota->waiters, &waiter.on_waiters);
        lock_drop(&rota->lock);
        (void)wake_wait(&waiter.wake, deadline);
        is_over = ctx_now() >= deadline;
        lock_take(&rota->lock);
        list_remove(&waiter.on_waiters);
        atomic_store_explicit(&waiter.wake.word, 0, memory_order_relaxed);
    }
    lock_drop(&rota->lock);
    return quiet;
}

/* How long jobs may take to stop, and to be seen to have. */
static int64_t
longest_grace(const struct rota *rota)
{
    int64_t longest = 0, grace;

    for (const struct kind *kind = rota->kinds; kind != NULL;
         kind = kind->next) {
        grace = kind->defaults.grace > 0 ? kind->defaults.grace : GRACE;
        if (grace > longest)
            longest = grace;
    }
    return saturating_add(longest, 4 * FLUSH_EVERY);
}

/* Say what keeps the scheduler from stopping. */
static enum rota_error
fail_to_stop(struct rota *rota)
{
    struct rota_job *first = NULL;
    char others[48] = "";

    lock_take(&rota->lock);
    for (int b = 0; b < JOB_BUCKETS; b++)
        for (struct link *l = rota->jobs[b].next; l != &rota->jobs[b];
             l = l->next) {
            struct rota_job *job = OWNER_OF(l, struct rota_job, on_bucket);

            if (job->stuck_since != 0 && job->place == JOB_RUNNING &&
                (first == NULL || job->claim.id < first->claim.id))
                first = job;
        }
    if (rota->stuck > 1)
        (void)snprintf(others, sizeof(others), ", and %jd other%s",
                       (intmax_t)rota->stuck - 1, rota->stuck > 2 ? "s" : "");
    if (first != NULL)
        message_set("job %jd (%s) has ignored for %.1f s that it should stop%s",
                    (intmax_t)first->claim.id, first->kind->name,
                    (double)(ctx_now() - first->told_at) / 1e9, others);
    else
        message_set("the ends of %jd jobs cannot be written to the file yet: "
                    "%s",
                    (intmax_t)rota->active, rota->kept_words);
    lock_drop(&rota->lock);
    return ROTA_BUSY;
}

bool
is_own_job(const struct rota *rota, const char *what)
{
    bool is_own =
        rota->stepping
            ? rota->in_step && pthread_equal(rota->stepper, pthread_self())
            : rota->pool != NULL && pool_is_worker(rota->pool);

    if (!is_own)
        return false;
    message_set("a job cannot %s the scheduler it runs on", what);
    return true;
}

enum rota_error
rota_stop(struct rota *rota, int64_t grace)
{
    struct request request = {.kind = REQUEST_END_PROCESS};
    int64_t deadline;

    if (store_is_inherited(rota->store))
        return ROTA_INVALID;
    if (!rota->started)
        return ROTA_OK;
    if (is_own_job(rota, "stop"))
        return ROTA_INVALID;
    lock_take(&rota->lock);
    rota->stopping = true;
    request.id = rota->process;
    lock_drop(&rota->lock);
    writer_poke(rota);
    if (rota->stepping) /* nobody else does what is left */
        (void)request_run(rota, &(struct request){.kind = REQUEST_CHORES});
    deadline = saturating_add(ctx_now(), grace);
    if (ctx_done(rota->run_ctx) || !await_quiet(rota, deadline))
        (void)ctx_cancel_cause(rota->run_ctx, "shutdown");
    if (!await_quiet(rota, saturating_add(ctx_now(), longest_grace(rota))))
        return fail_to_stop(rota);
    return request_run(rota, &request);
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
    if (is_own_job(rota, "close"))
        return ROTA_INVALID;
    error = rota_stop(rota, 0);
    if (error == ROTA_BUSY && !await_quiet(rota, 0))
        return error;
    lock_take(&rota->lock);
    rota->closing = true;
    MUST(pthread_cond_signal(&rota->work));
    lock_drop(&rota->lock);
    outside_stop(rota);
    if (rota->has_writer)
        MUST(pthread_join(rota->writer, NULL));
    (void)pool_close(rota->pool);
    ctx_end(rota->run_ctx);
    rota_free(rota);
    return ROTA_OK;
}
