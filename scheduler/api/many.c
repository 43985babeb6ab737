/*
 * What concerns many jobs: their ids are read first, by a connection of its
 * own, and then they are cancelled or forgotten some hundreds at a time, so
 * that others can write in between. Any thread, no lock held.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/check.h"
#include "api/control.h"
#include "base/grow.h"
#include "engine/job.h"
#include "engine/state.h"

/* -- Which ---------------------------------------------------------------- */

struct ids {
    int64_t *all;
    size_t n, room;
    bool is_short; /* of memory */
};

static bool
id_note(void *arg, int n, const char *const *names,
        const struct rota_value *values)
{
    struct ids *ids = arg;

    (void)n;
    (void)names;
    if (values == NULL)
        return true;
    ids->is_short = !grow(ids->all, ids->n, ids->room);
    if (!ids->is_short)
        ids->all[ids->n++] = values[0].integer;
    return !ids->is_short;
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
    return error == ROTA_OK && ids->is_short ? no_memory() : error;
}

/* -- What is done to n of them; counts is the caller's --------------------- */

typedef enum rota_error chunk_fn(struct rota *rota, int64_t *ids, size_t n,
                                 const char *reason, int64_t *counts);

static enum rota_error
chunk_cancel(struct rota *rota, int64_t *ids, size_t n, const char *reason,
             int64_t *counts)
{
    enum rota_cancel_answer answers[CHUNK_MAX];
    struct request request = {.wish = {.kind = WISH_CANCEL_MANY,
                                       .cancel_many = {.jobs = ids,
                                                       .n = n,
                                                       .reason = reason,
                                                       .answers = answers}}};
    bool were_here[CHUNK_MAX];
    enum rota_error error;

    for (size_t i = 0; i < n; i++)
        were_here[i] = job_cancel(rota, ids[i], 0, reason);
    error = request_ask(rota, &request);
    for (size_t i = 0; error == ROTA_OK && i < n; i++)
        counts[cancel_answer(rota, ids[i], reason, were_here[i], answers[i])]++;
    return error;
}

static enum rota_error
chunk_prune(struct rota *rota, int64_t *ids, size_t n, const char *reason,
            int64_t *counts)
{
    struct request request = {
        .wish = {.kind = WISH_PRUNE,
                 .prune = {.jobs = ids, .n = n, .before = INT64_MAX}}};
    enum rota_error error = request_ask(rota, &request);

    (void)reason;
    if (error == ROTA_OK)
        *counts += request.wish.prune.count;
    return error;
}

/* -- All of them ---------------------------------------------------------- */

/* Do that to the jobs that have ended, or have not, and for which where holds,
 * CHUNK_MAX at a time until ctx ends. */
static enum rota_error
jobs_each(struct ctx *ctx, struct rota *rota, bool ended, const char *where,
          const struct rota_value *params, int n, chunk_fn *fn,
          const char *reason, int64_t *counts)
{
    struct ids ids = {0};
    enum rota_error error = engine_writable(rota);
    size_t chunk;

    if (error == ROTA_OK && !reason_is_valid(rota, reason))
        error = ROTA_INVALID;
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
                                      chunk_cancel, reason, counts);

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
        jobs_each(ctx, rota, true, where, params, n, chunk_prune, NULL, &count);

    if (ret_count != NULL)
        *ret_count = count;
    return error;
}
