/*
 * What a job can say and ask: rota/job.h. All of it is for the thread that
 * runs the job; what the writer reads meanwhile is atomic, relaxed, because
 * progress orders nothing but itself.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"
#include "base/text.h"
#include "engine/job.h"
#include "engine/rescue.h"
#include "engine/state.h"
#include "engine/writer.h"
#include "interrupt/children.h"
#include "interrupt/target.h"

/* So much is kept of the words of a failure. */
#define MESSAGE_MAX 4096

int64_t
rota_job_id(const struct rota_job *job)
{
    return job->claim.id;
}

const char *
rota_job_kind(const struct rota_job *job)
{
    return job->kind->name;
}

const void *
rota_job_args(const struct rota_job *job, size_t *ret_size)
{
    if (ret_size != NULL)
        *ret_size = job->claim.args_size;
    return job->claim.args;
}

void *
rota_job_arg(const struct rota_job *job)
{
    return job->kind->arg;
}

int64_t
rota_job_lease(const struct rota_job *job)
{
    return job->claim.lease;
}

int64_t
rota_job_cursor(const struct rota_job *job)
{
    return atomic_load_explicit(&job->cursor, memory_order_relaxed);
}

enum rota_stop_reason
rota_job_stop_reason(const struct rota_job *job)
{
    return job_stop_reason(job);
}

struct rota *
rota_job_rota(const struct rota_job *job)
{
    return job->rota;
}

void
rota_job_total(struct rota_job *job, int64_t total)
{
    atomic_store_explicit(&job->total, total < 0 ? -1 : total,
                          memory_order_relaxed);
    if (!job->has_advanced) /* what it took to count is no time of an item's */
        atomic_store_explicit(&job->base_at, rota_now(job->rota),
                              memory_order_relaxed);
}

/* The first advance is written down at once: it tells a job that gets on from
 * one that kills its process each time. */
static void
first_advance(struct rota_job *job)
{
    struct rota *rota = job->rota;

    job->has_advanced = true;
    lock_take(&rota->lock);
    rota->must_flush = true;
    lock_drop(&rota->lock);
    writer_poke(rota);
}

void
rota_job_advance(struct rota_job *job, int64_t cursor)
{
    int64_t before = atomic_load_explicit(&job->cursor, memory_order_relaxed);

    atomic_store_explicit(&job->cursor, cursor, memory_order_relaxed);
    if (cursor > before && !job->has_advanced)
        first_advance(job);
}

enum rota_error
rota_job_commit(struct rota_job *job, int64_t cursor)
{
    struct request request = {.wish = {.kind = WISH_COMMIT}};

    atomic_store_explicit(&job->cursor, cursor, memory_order_relaxed);
    job->has_advanced = true;
    request.wish.commit = job_progress(job);
    return wish_run(job->rota, &request);
}

enum rota_error
rota_job_result(struct rota_job *job, const void *data, size_t size)
{
    size_t most = store_value_max(job->rota->store);
    void *copy;

    if (size > most) {
        message_set("a result of %zu bytes is more than the %zu that a queue "
                    "keeps; put it into a file and leave its name",
                    size, most);
        return ROTA_INVALID;
    }
    copy = malloc(size > 0 ? size : 1);
    if (copy == NULL)
        return no_memory();
    if (size > 0)
        memcpy(copy, data, size);
    free(job->result);
    job->result = copy;
    job->result_size = size;
    return ROTA_OK;
}

enum rota_error
rota_job_fail(struct rota_job *job, enum rota_error code, const char *format,
              ...)
{
    char *message;
    va_list args;

    va_start(args, format);
    if (vasprintf(&message, format, args) < 0)
        message = NULL; /* the code's own words, then */
    va_end(args);
    if (message != NULL)
        text_cut(message, MESSAGE_MAX);
    free(job->message);
    job->message = message;
    return code;
}

enum rota_error
rota_job_snooze(struct rota_job *job, int64_t delay)
{
    job->snooze_ms = delay > 0 ? saturating_add(delay, 999999) / 1000000 : 0;
    return ROTA_SNOOZE;
}

void
rota_job_log(struct rota_job *job, const char *format, ...)
{
    char line[1024];
    va_list args;

    va_start(args, format);
    text_vprint(line, sizeof(line), format, args);
    va_end(args);
    rota_say(job->rota, job->claim.id, "%s", line);
}

/* -- Child processes ------------------------------------------------------- */

/* Say it once: what is short as a rule stays so for a while. */
static void
say_short(struct rota_job *job)
{
    if (!atomic_exchange_explicit(&job->rota->has_been_short, true,
                                  memory_order_relaxed))
        rota_say(job->rota, job->claim.id,
                 "%s; fewer run at once, and others wait for room",
                 message_get());
}

/* Run it, as soon as there is room for it. */
static enum rota_error
run_when_possible(struct rota_job *job, const struct rota_process *process,
                  struct rota_process_result *result)
{
    enum rota_error error, waited = ROTA_OK;
    int64_t pause = 0;
    uint64_t given;

    do {
        given = room_given();
        rota_process_result_fini(result);
        error = process_run(job->ctx, process, true, result);
        if (!room_is_short(result->error))
            return error;
        say_short(job);
        waited = room_await(job->ctx, given, &pause);
    } while (waited == ROTA_OK);
    message_set("%s", ctx_cause(job->ctx));
    return waited;
}

enum rota_error
rota_job_process(struct rota_job *job, const struct rota_process *process,
                 struct rota_process_result *ret_result)
{
    struct rota_process own;
    char tag[128];
    size_t n;

    *ret_result = (struct rota_process_result)ROTA_PROCESS_RESULT_INIT;
    if (!process_take(&own, process))
        return ROTA_INVALID;
    process_tag(job->rota,
                atomic_load_explicit(&job->rota->process, memory_order_relaxed),
                tag, sizeof(tag));
    n = strlen(tag);
    (void)snprintf(tag + n, sizeof(tag) - n, "%jd.%jd", (intmax_t)job->claim.id,
                   (intmax_t)job->claim.lease);
    own.tag = tag;
    return run_when_possible(job, &own, ret_result);
}

/* -- Databases ------------------------------------------------------------ */

/* path may be NULL: a database in memory. */
static enum rota_error
refuse_own_file(const struct rota_job *job, const char *path)
{
    const char *file = job->rota->identity->file;

    if (file == NULL || path == NULL || !rota_sqlite_owns(file, path))
        return ROTA_OK;
    message_set("%s is the queue's own file: a job writes to another", path);
    return ROTA_INVALID;
}

enum rota_error
rota_job_db(struct rota_job *job, const char *path, struct sqlite3 **ret_db)
{
    struct target *target;
    enum rota_error error = refuse_own_file(job, path);

    if (error == ROTA_OK)
        error = target_open(job->ctx, path, &target);
    if (error != ROTA_OK)
        return error;
    error = refuse_own_file(job, target_path(target->db));
    if (error != ROTA_OK) {
        (void)target_close(target); /* it was in disguise: a file: URI */
        return error;
    }
    target->next = job->targets;
    job->targets = target;
    *ret_db = target->db;
    return ROTA_OK;
}

const char *
rota_job_instance(const struct rota_job *job)
{
    return identity_of_job(job->rota->identity, job->claim.id);
}

static struct stepper
job_stepper(const struct rota_job *job)
{
    return (struct stepper){.queue = rota_job_instance(job),
                            .job = job->claim.id,
                            .restart = job->claim.restart,
                            .lease = job->claim.lease};
}

/* From now on the job may step on db. */
static bool
resumed_note(struct rota_job *job, struct sqlite3 *db)
{
    if (!grow(job->resumed, job->n_resumed, job->resumed_room))
        return false;
    job->resumed[job->n_resumed++] = db;
    return true;
}

enum rota_error
rota_job_resume(struct rota_job *job, struct sqlite3 *db, int64_t *ret_cursor)
{
    struct stepper stepper = job_stepper(job);
    int64_t cursor;
    enum rota_error error = refuse_own_file(job, target_path(db));

    if (error == ROTA_OK)
        error = target_resume(job->ctx, db, &stepper, &cursor);
    if (error != ROTA_OK)
        return error;
    if (!resumed_note(job, db))
        return no_memory();
    atomic_store_explicit(&job->base, cursor, memory_order_relaxed);
    atomic_store_explicit(&job->base_at, rota_now(job->rota),
                          memory_order_relaxed);
    atomic_store_explicit(&job->cursor, cursor, memory_order_relaxed);
    *ret_cursor = cursor;
    return ROTA_OK;
}

enum rota_error
rota_job_step(struct rota_job *job, struct sqlite3 *db, int64_t cursor,
              rota_sqlite_fn *fn, void *arg)
{
    struct stepper stepper = job_stepper(job);
    enum rota_error error;
    size_t i = 0;

    while (i < job->n_resumed && job->resumed[i] != db)
        i++;
    if (i == job->n_resumed) {
        message_set("rota_job_resume() comes before rota_job_step()");
        return ROTA_INVALID;
    }
    error = target_step(job->ctx, db, &stepper, cursor, fn, arg);
    if (error == ROTA_OK)
        rota_job_advance(job, cursor);
    return error;
}
