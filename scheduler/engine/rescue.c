#include "engine/rescue.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/grow.h"
#include "engine/readers.h"
#include "engine/state.h"
#include "engine/writer.h"
#include "interrupt/strays.h"

void
process_tag(const struct rota *rota, int64_t process, char *tag, size_t size)
{
    /* a copy of the queue knows the same processes, but they are not its own */
    (void)snprintf(tag, size, "%s.%jx.%jd.", rota->identity->instance,
                   rota->identity->place, (intmax_t)process);
}

/* What the jobs of a dead process had started still runs: it ends before they
 * are run again. */
static void
children_end(struct rota *rota, int64_t process)
{
    char entry[160] = "ROTA_TAG=";
    int n;

    process_tag(rota, process, entry + 9, sizeof(entry) - 9);
    n = strays_kill(entry);
    if (n > 0)
        rota_say(rota, 0,
                 "worker %" PRId64 " died: killed %d processes that its jobs "
                 "had started",
                 process, n);
}

enum rota_error
rescue_process(struct rota *rota, int64_t process)
{
    struct request request = {
        .wish = {.kind = WISH_RESCUE, .rescue = {.process = process}}};
    enum rota_error error;

    children_end(rota, process);
    error = wish_run(rota, &request);
    if (error == ROTA_OK && request.wish.rescue.jobs > 0)
        rota_say(rota, 0,
                 "worker %" PRId64 " died; jobs that it was running: %" PRId64,
                 process, request.wish.rescue.jobs);
    return error;
}

struct dead {
    int64_t *all;
    size_t n, room;
    bool is_short; /* of memory */
};

static void
dead_note(void *arg, int64_t process)
{
    struct dead *dead = arg;

    dead->is_short |= !grow(dead->all, dead->n, dead->room);
    if (!dead->is_short)
        dead->all[dead->n++] = process;
}

enum rota_error
rescue_all(struct rota *rota)
{
    struct dead dead = {0};
    enum rota_error error;
    struct reader *reader = reader_acquire(rota, &error);

    if (reader == NULL)
        return error;
    error = reader_dead(reader, dead_note, &dead);
    reader_release(rota, reader);
    for (size_t i = 0; error == ROTA_OK && i < dead.n; i++)
        error = rescue_process(rota, dead.all[i]);
    if (error == ROTA_OK && dead.is_short)
        error = no_memory();
    free(dead.all);
    return error;
}
