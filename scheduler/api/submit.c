/*
 * Submitting jobs, and running one to its end. Everything that writes is a wish
 * to the holder of the writer's role (engine/writer.c), often granted on the
 * caller's own thread. Any thread; no lock held but for moments.
 */
#include <stdlib.h>
#include <string.h>

#include "api/check.h"
#include "engine/state.h"
#include "engine/writer.h"

/* -- Submit --------------------------------------------------------------- */

static enum rota_error
submit(struct rota *rota, const struct rota_submission *submissions, size_t n,
       int64_t *ret_ids)
{
    struct request request = {.wish = {.kind = WISH_SUBMIT}};
    enum rota_error error;
    int64_t *ids = calloc(n, sizeof(*ids));

    if (ids == NULL)
        return no_memory();
    request.wish.submit.submissions = submissions;
    request.wish.submit.n = n;
    request.wish.submit.ids = ids;
    error = wish_run(rota, &request);
    if (ret_ids != NULL && error == ROTA_OK)
        memcpy(ret_ids, ids, n * sizeof(*ret_ids));
    else if (ret_ids != NULL && error == ROTA_EXISTS)
        ret_ids[0] = ids[0];
    free(ids);
    return error;
}

enum rota_error
rota_submit_many(struct rota *rota, const struct rota_submission *submissions,
                 size_t n, int64_t *ret_ids)
{
    const struct rota_submission *taken = NULL;
    struct rota_submission *copy = NULL;
    enum rota_error error = engine_writable(rota);

    if (error != ROTA_OK || n == 0)
        return error;
    error = submissions_take(rota, submissions, n, &taken, &copy);
    if (error == ROTA_OK)
        error = submit(rota, taken, n, ret_ids);
    free(copy);
    return error;
}

enum rota_error
rota_submit(struct rota *rota, const struct rota_submission *submission,
            int64_t *ret_id)
{
    return rota_submit_many(rota, submission, 1, ret_id);
}

/* -- Run ------------------------------------------------------------------ */

/* ctx's deadline as the queue keeps it; 0: none. */
static int64_t
deadline_of(struct rota *rota, struct ctx *ctx)
{
    int64_t left = ctx_remaining(ctx);

    return left == ROTA_FOREVER || left > ROTA_SEC(1000000000)
               ? 0
               : rota_now(rota) + (left + 999999) / 1000000;
}

static enum rota_error
wait_a_little(struct rota *rota, int64_t id, struct rota_outcome *ret_outcome)
{
    struct ctx *ctx = ctx_with_timeout(ctx_background(), ROTA_MS(100));
    enum rota_error error = rota_wait(ctx, rota, id, ret_outcome);

    ctx_end(ctx);
    return error;
}

/* ctx has ended first, with that error: have the job end too, and wait for it.
 */
static enum rota_error
run_call_off(struct ctx *ctx, struct rota *rota, int64_t id,
             enum rota_error error, struct rota_outcome *ret_outcome)
{
    struct request chores = {.wish = {.kind = WISH_CHORES}};

    /* a running job has the same deadline, and ends by itself */
    if (error == ROTA_DEADLINE)
        error = wait_a_little(rota, id, ret_outcome);
    if (error == ROTA_OK)
        return ROTA_OK;
    /* a waiting one fails by the same deadline, if somebody looks */
    if (error == ROTA_DEADLINE)
        (void)wish_run(rota, &chores);
    error = rota_cancel(rota, id, ctx_cause(ctx), NULL);
    if (error != ROTA_OK)
        return error;
    return rota_wait(ctx_background(), rota, id, ret_outcome);
}

/* The submission with ctx's deadline, if that is sooner. */
static enum rota_error
submit_under(struct ctx *ctx, struct rota *rota,
             const struct rota_submission *submission, int64_t *ret_id)
{
    struct rota_submission own = *submission;
    int64_t deadline = deadline_of(rota, ctx);

    if (deadline != 0 && (own.deadline == 0 || deadline < own.deadline))
        own.deadline = deadline;
    if (ctx_done(ctx)) {
        message_set("%s", ctx_cause(ctx));
        return ctx_err(ctx);
    }
    return rota_submit(rota, &own, ret_id);
}

enum rota_error
rota_run(struct ctx *ctx, struct rota *rota,
         const struct rota_submission *submission,
         struct rota_outcome *ret_outcome)
{
    const struct rota_submission *taken = NULL;
    struct rota_submission *copy = NULL;
    enum rota_error error =
        submissions_take(rota, submission, 1, &taken, &copy);
    int64_t id;

    if (ctx == NULL)
        ctx = ctx_background();
    if (error == ROTA_OK)
        error = submit_under(ctx, rota, taken, &id);
    free(copy);
    if (error != ROTA_OK)
        return error;
    error = rota_wait(ctx, rota, id, ret_outcome);
    if (!ctx_done(ctx) || (error != ROTA_CANCELED && error != ROTA_DEADLINE))
        return error;
    return run_call_off(ctx, rota, id, error, ret_outcome);
}
