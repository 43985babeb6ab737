/*
 * What callers ask of jobs and queues that are there: cancel, retry,
 * reschedule, pause, limits, forgetting. Each is a request to the writer's role
 * (cycle.c); what concerns many jobs is some hundreds of them at a time, after
 * their ids have been read by a connection of its own.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

enum rota_error
writable(const struct rota *rota)
{
    if (store_is_inherited(rota->store))
        return ROTA_INVALID;
    if (!rota->readonly)
        return ROTA_OK;
    message_set("%s was opened to look only", rota->path);
    return ROTA_INVALID;
}

static enum rota_error
ask(struct rota *rota, struct request *request)
{
    enum rota_error error = writable(rota);

    return error == ROTA_OK ? request_run(rota, request) : error;
}

enum rota_error
rota_rescue(struct rota *rota)
{
    enum rota_error error = writable(rota);

    return error == ROTA_OK ? outside_rescue(rota) : error;
}

/* -- One job -------------------------------------------------------------- */

/* A cancel that the file has answered, and of which the job had been told, or
 * had not, before: what it came to. */
static enum rota_cancel_answer
cancel_deliver(struct rota *rota, int64_t id, const char *reason, bool told,
               enum rota_cancel_answer answer)
{
    if (!told && answer == ROTA_CANCEL_REQUESTED)
        (void)job_cancel(rota, id, 0, reason); /* claimed meanwhile */
    if (told && answer == ROTA_CANCEL_TOO_LATE)
        return ROTA_CANCEL_REQUESTED; /* it ended of this */
    return answer;
}

enum rota_error
rota_cancel(struct rota *rota, int64_t id, const char *reason,
            enum rota_cancel_answer *ret_answer)
{
    struct request request = {
        .kind = REQUEST_CANCEL, .id = id, .reason = reason};
    enum rota_error error = writable(rota);
    enum rota_cancel_answer answer;
    bool told;

    if (error != ROTA_OK)
        return error;
    /* delivered in memory first, recorded next, acknowledged last */
    told = job_cancel(rota, id, 0, reason);
    error = request_run(rota, &request);
    if (error != ROTA_OK)
        return error;
    answer = cancel_deliver(rota, id, reason, told, request.answer);
    if (ret_answer != NULL)
        *ret_answer = answer;
    return ROTA_OK;
}

enum rota_error
rota_retry(struct rota *rota, int64_t id, bool restart)
{
    struct request request = {
        .kind = REQUEST_RETRY, .id = id, .restart = restart};

    return ask(rota, &request);
}

enum rota_error
rota_reschedule(struct rota *rota, int64_t id, const int64_t *priority,
                const int64_t *run_at)
{
    struct request request = {.kind = REQUEST_RESCHEDULE,
                              .id = id,
                              .priority = priority,
                              .run_at = run_at};

    if ((priority != NULL && !priority_is_valid(*priority)) ||
        (run_at != NULL && !time_is_valid(rota, *run_at, "run_at")))
        return ROTA_INVALID;
    return ask(rota, &request);
}

/* -- Queues and limits ----------------------------------------------------- */

static enum rota_error
queue_ask(struct rota *rota, enum request_kind kind, const char *queue,
          int64_t count)
{
    struct request request = {.kind = kind,
                              .queue = queue == NULL ? "default" : queue,
                              .count = count};

    return name_is_valid(request.queue, "queue") ? ask(rota, &request)
                                                 : ROTA_INVALID;
}

enum rota_error
rota_pause(struct rota *rota, const char *queue)
{
    return queue_ask(rota, REQUEST_PAUSE, queue, 0);
}

enum rota_error
rota_resume(struct rota *rota, const char *queue)
{
    return queue_ask(rota, REQUEST_RESUME, queue, 0);
}

static bool
limit_is_valid(int64_t max_running)
{
    if (max_running >= 0 && max_running <= 1000000)
        return true;
    message_set("max_running must be from 1 to 1000000, or 0");
    return false;
}

enum rota_error
rota_limit_queue(struct rota *rota, const char *queue, int64_t max_running)
{
    return limit_is_valid(max_running)
               ? queue_ask(rota, REQUEST_LIMIT, queue, max_running)
               : ROTA_INVALID;
}

enum rota_error
rota_limit_key(struct rota *rota, const char *limit_key, int64_t max_running)
{
    struct request request = {
        .kind = REQUEST_LIMIT, .limit_key = limit_key, .count = max_running};

    return limit_is_valid(max_running) && name_is_valid(limit_key, "limit_key")
               ? ask(rota, &request)
               : ROTA_INVALID;
}

enum rota_error
rota_retain(struct rota *rota, const char *queue, int64_t time)
{
    int64_t ms = saturating_add(time, 999999) / 1000000;

    if (time < 0 || ms > LAST_TIME) {
        message_set("the time must be positive, or 0, and below 3000 years");
        return ROTA_INVALID;
    }
    return queue_ask(rota, REQUEST_RETAIN, queue, ms);
}

/* -- Many jobs ------------------------------------------------------------ */

struct ids {
    int64_t *all;
    size_t n, room;
    bool failed;
};

static bool
id_note(void *arg, int n, const char *const *names,
        const struct rota_value *values)
{
    struct ids *ids = arg;
    size_t room = ids->room * 2 + 256;
    int64_t *grown;

    (void)n;
    (void)names;
    if (values == NULL)
        return true;
    if (ids->n == ids->room) {
        grown = realloc(ids->all, room * sizeof(*grown));
        ids->failed = grown == NULL;
        if (ids->failed)
            return false;
        ids->all = grown;
        ids->room = room;
    }
    ids->all[ids->n++] = values[0].integer;
    return true;
}

/* The ids of the jobs that have ended, or have not, and for which where holds,
 * in their order. */
static enum rota_error
ids_read(struct ctx *ctx, struct rota *rota, bool ended, const char *where,
         const struct rota_value *params, int n, struct ids *ids)
{
    enum rota_error error;
    char *sql;

    /* a comment at the end of where must not hide the bracket */
    if (asprintf(&sql,
                 "SELECT id FROM jobs WHERE finished_at IS %sNULL AND (%s\n)"
                 " ORDER BY id",
                 ended ? "NOT " : "", where == NULL ? "1" : where) < 0)
        return no_memory();
    error = rota_query(ctx, rota, sql, params, n, id_note, ids);
    free(sql);
    return error == ROTA_OK && ids->failed ? no_memory() : error;
}

/* What is done to n of many jobs; counts is the caller's. */
typedef enum rota_error chunk_fn(struct rota *rota, int64_t *ids, size_t n,
                                 const char *reason, int64_t *counts);

static enum rota_error
cancel_chunk(struct rota *rota, int64_t *ids, size_t n, const char *reason,
             int64_t *counts)
{
    enum rota_cancel_answer answers[CHUNK_MAX];
    struct request request = {.kind = REQUEST_CANCEL_MANY,
                              .reason = reason,
                              .ids = ids,
                              .n = n,
                              .answers = answers};
    bool told[CHUNK_MAX];
    enum rota_error error;

    for (size_t i = 0; i < n; i++)
        told[i] = job_cancel(rota, ids[i], 0, reason);
    error = ask(rota, &request);
    for (size_t i = 0; error == ROTA_OK && i < n; i++)
        counts[cancel_deliver(rota, ids[i], reason, told[i], answers[i])]++;
    return error;
}

static enum rota_error
prune_chunk(struct rota *rota, int64_t *ids, size_t n, const char *reason,
            int64_t *counts)
{
    struct request request = {
        .kind = REQUEST_PRUNE, .ids = ids, .n = n, .next = INT64_MAX};
    enum rota_error error = ask(rota, &request);

    (void)reason;
    if (error == ROTA_OK)
        *counts += request.count;
    return error;
}

/* Do that to the jobs that have ended, or have not, and for which where holds,
 * CHUNK_MAX at a time until ctx ends. */
static enum rota_error
jobs_each(struct ctx *ctx, struct rota *rota, bool ended, const char *where,
          const struct rota_value *params, int n, chunk_fn *fn,
          const char *reason, int64_t *counts)
{
    struct ids ids = {0};
    enum rota_error error = writable(rota);
    size_t chunk;

    if (ctx == NULL)
        ctx = ctx_background();
    if (error == ROTA_OK)
        error = ids_read(ctx, rota, ended, where, params, n, &ids);
    for (size_t done = 0; error == ROTA_OK && done < ids.n; done += chunk) {
        chunk = ids.n - done < CHUNK_MAX ? ids.n - done : CHUNK_MAX;
        error = ctx_err(ctx);
        if (error == ROTA_OK)
            error = fn(rota, &ids.all[done], chunk, reason, counts);
        else
            message_set("%s", ctx_cause(ctx));
    }
    free(ids.all);
    return error;
}

enum rota_error
rota_cancel_where(struct ctx *ctx, struct rota *rota, const char *where,
                  const struct rota_value *params, int n, const char *reason,
                  int64_t ret_counts[ROTA_CANCEL_TOO_LATE + 1])
{
    int64_t counts[ROTA_CANCEL_TOO_LATE + 1] = {0};
    enum rota_error error = jobs_each(ctx, rota, false, where, params, n,
                                      cancel_chunk, reason, counts);

    if (ret_counts != NULL)
        memcpy(ret_counts, counts, sizeof(counts));
    return error;
}

enum rota_error
rota_prune(struct ctx *ctx, struct rota *rota, const char *where,
           const struct rota_value *params, int n, int64_t *ret_count)
{
    int64_t count = 0;
    enum rota_error error =
        jobs_each(ctx, rota, true, where, params, n, prune_chunk, NULL, &count);

    if (ret_count != NULL)
        *ret_count = count;
    return error;
}
