/*
 * What callers ask of one job or one queue that is there: cancel, retry,
 * reschedule, pause, limits, retention. Each is a wish to the holder of the
 * writer's role. Any thread, no lock held.
 */
#include "api/control.h"

#include "api/check.h"
#include "engine/job.h"
#include "engine/rescue.h"
#include "engine/state.h"
#include "engine/writer.h"

enum rota_error
request_ask(struct rota *rota, struct request *request)
{
    enum rota_error error = engine_writable(rota);

    return error == ROTA_OK ? wish_run(rota, request) : error;
}

enum rota_error
rota_rescue(struct rota *rota)
{
    return store_is_inherited(rota->store) ? ROTA_INVALID : rescue_all(rota);
}

/* -- One job -------------------------------------------------------------- */

/* Between telling it in memory and the answer of the queue a job may have been
 * claimed here: then it is told now. Or it may have ended of what it was told:
 * the queue says that the cancel came too late, but it did not. */
enum rota_cancel_answer
cancel_answer(struct rota *rota, int64_t id, const char *reason, bool was_here,
              enum rota_cancel_answer answer)
{
    if (!was_here && answer == ROTA_CANCEL_REQUESTED)
        (void)job_cancel(rota, id, 0, reason);
    return was_here && answer == ROTA_CANCEL_TOO_LATE ? ROTA_CANCEL_REQUESTED
                                                      : answer;
}

enum rota_error
rota_cancel(struct rota *rota, int64_t id, const char *reason,
            enum rota_cancel_answer *ret_answer)
{
    struct request request = {
        .wish = {.kind = WISH_CANCEL, .cancel = {.job = id, .reason = reason}}};
    enum rota_error error = engine_writable(rota);
    enum rota_cancel_answer answer;
    bool was_here;

    if (error != ROTA_OK)
        return error;
    if (!reason_is_valid(rota, reason))
        return ROTA_INVALID;
    /* delivered in memory first, recorded next, acknowledged last */
    was_here = job_cancel(rota, id, 0, reason);
    error = wish_run(rota, &request);
    if (error != ROTA_OK)
        return error;
    answer =
        cancel_answer(rota, id, reason, was_here, request.wish.cancel.answer);
    if (ret_answer != NULL)
        *ret_answer = answer;
    return ROTA_OK;
}

enum rota_error
rota_retry(struct rota *rota, int64_t id, bool restart)
{
    struct request request = {
        .wish = {.kind = WISH_RETRY,
                 .retry = {.job = id, .restarts = restart}}};

    return request_ask(rota, &request);
}

enum rota_error
rota_reschedule(struct rota *rota, int64_t id, const int64_t *priority,
                const int64_t *run_at)
{
    struct request request = {
        .wish = {
            .kind = WISH_RESCHEDULE,
            .reschedule = {.job = id, .priority = priority, .run_at = run_at}}};

    if ((priority != NULL && !priority_is_valid(*priority)) ||
        (run_at != NULL && !time_is_valid(rota, *run_at, "run_at")))
        return ROTA_INVALID;
    return request_ask(rota, &request);
}

/* -- Queues and limits ----------------------------------------------------- */

static const char *
queue_named(const char *queue)
{
    return queue == NULL ? "default" : queue;
}

static enum rota_error
pause_ask(struct rota *rota, const char *queue, bool pauses)
{
    struct request request = {
        .wish = {.kind = WISH_PAUSE,
                 .pause = {.queue = queue_named(queue), .pauses = pauses}}};

    return name_is_valid(request.wish.pause.queue, "queue")
               ? request_ask(rota, &request)
               : ROTA_INVALID;
}

enum rota_error
rota_pause(struct rota *rota, const char *queue)
{
    return pause_ask(rota, queue, true);
}

enum rota_error
rota_resume(struct rota *rota, const char *queue)
{
    return pause_ask(rota, queue, false);
}

enum rota_error
rota_limit_queue(struct rota *rota, const char *queue, int64_t max_running)
{
    struct request request = {.wish = {.kind = WISH_LIMIT,
                                       .limit = {.queue = queue_named(queue),
                                                 .max_running = max_running}}};

    return limit_is_valid(max_running) &&
                   name_is_valid(request.wish.limit.queue, "queue")
               ? request_ask(rota, &request)
               : ROTA_INVALID;
}

enum rota_error
rota_limit_key(struct rota *rota, const char *limit_key, int64_t max_running)
{
    struct request request = {
        .wish = {.kind = WISH_LIMIT,
                 .limit = {.key = limit_key, .max_running = max_running}}};

    return limit_is_valid(max_running) && name_is_valid(limit_key, "limit_key")
               ? request_ask(rota, &request)
               : ROTA_INVALID;
}

enum rota_error
rota_retain(struct rota *rota, const char *queue, int64_t time)
{
    int64_t ms = saturating_add(time, 999999) / 1000000;
    struct request request = {
        .wish = {.kind = WISH_RETAIN,
                 .retain = {.queue = queue_named(queue), .time_ms = ms}}};

    if (time < 0 || ms > LAST_TIME) {
        message_set("the time must be positive, or 0, and below 3000 years");
        return ROTA_INVALID;
    }
    return name_is_valid(request.wish.retain.queue, "queue")
               ? request_ask(rota, &request)
               : ROTA_INVALID;
}
