#include "engine/retention.h"

#include "engine/readers.h"
#include "engine/state.h"
#include "engine/writer.h"

/* Not more often, however short queues keep their jobs; and not less. */
#define CHECK_LEAST ROTA_MS(500)
#define CHECK_MOST  ROTA_SEC(60)

/* Forget what the queue has kept long enough, some hundreds at a time. */
static void
queue_prune(struct rota *rota, struct reader *reader, int64_t queue, int64_t ms)
{
    int64_t ids[CHUNK_MAX], last = 0;
    struct request request = {.wish = {.kind = WISH_PRUNE}};
    enum rota_error error = ROTA_OK;
    size_t n = 0;

    request.wish.prune.jobs = ids;
    request.wish.prune.before = rota_now(rota) - ms;
    while (error == ROTA_OK && last != INT64_MAX && !engine_is_closing(rota)) {
        error = reader_prunable(reader, queue, request.wish.prune.before, &last,
                                ids, CHUNK_MAX, &n);
        request.wish.prune.n = n;
        if (error == ROTA_OK && n > 0)
            error = wish_run(rota, &request);
    }
}

/* Of every queue that keeps its jobs for a time only. Not more often than a
 * sixteenth of that time, and for a twentieth of ours: queues that keep theirs
 * are walked over. */
void
retention_check(struct rota *rota, int64_t *next)
{
    int64_t now = ctx_now(), queue = 0, ms = 0, pause = CHECK_MOST;
    enum rota_error error;
    struct reader *reader;

    if (rota->is_readonly || now < *next)
        return;
    reader = reader_acquire(rota, &error);
    while (reader != NULL && reader_retaining(reader, &queue, &ms) == ROTA_OK &&
           queue != 0) {
        queue_prune(rota, reader, queue, ms);
        if (saturating_ms(ms) / 16 < pause)
            pause = saturating_ms(ms) / 16;
    }
    if (reader != NULL)
        reader_release(rota, reader);
    if (pause < 20 * (ctx_now() - now))
        pause = 20 * (ctx_now() - now);
    if (pause < CHECK_LEAST)
        pause = CHECK_LEAST;
    *next = saturating_add(now, pause);
}
