/*
 * See rescue.h. There is no lock: what a process's death means is decided by a
 * cycle of the writer's (store/sqlite/rescue.c), so that of two who rescue the
 * same one only the first does. The rescuer's fields are its owner's, who starts
 * the thread and joins it; is_busy tells the owner that the thread is done with
 * the rest.
 */
#include "engine/rescue.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* -- The thread ------------------------------------------------------------ */

static void *
rescuer_thread(void *arg)
{
    struct rescuer *rescuer = arg;

    for (size_t i = 0; i < rescuer->n; i++)
        (void)rescue_process(rescuer->rota, rescuer->dead[i]);
    atomic_store_explicit(&rescuer->is_busy, false, memory_order_release);
    return NULL;
}

static void
rescuer_join(struct rescuer *rescuer)
{
    if (rescuer->has_thread)
        MUST(pthread_join(rescuer->thread, NULL));
    rescuer->has_thread = false;
}

void
rescuer_take(struct rescuer *rescuer, const int64_t *dead, size_t n)
{
    if (n == 0 || atomic_load_explicit(&rescuer->is_busy, memory_order_acquire))
        return;
    rescuer_join(rescuer);
    if (!grow_to(rescuer->dead, n, rescuer->room))
        return;
    memcpy(rescuer->dead, dead, n * sizeof(*dead));
    rescuer->n = n;
    atomic_store_explicit(&rescuer->is_busy, true, memory_order_relaxed);
    rescuer->has_thread = thread_start(&rescuer->thread, "rota-rescue",
                                       rescuer_thread, rescuer) == 0;
    if (!rescuer->has_thread)
        atomic_store_explicit(&rescuer->is_busy, false, memory_order_relaxed);
}

void
rescuer_fini(struct rescuer *rescuer)
{
    rescuer_join(rescuer);
    free(rescuer->dead);
}

/* -- All ------------------------------------------------------------------- */

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
    if (error == ROTA_OK && dead.n > 0)
        error = engine_writable(rota);
    for (size_t i = 0; error == ROTA_OK && i < dead.n; i++)
        error = rescue_process(rota, dead.all[i]);
    if (error == ROTA_OK && dead.is_short)
        error = no_memory();
    free(dead.all);
    return error;
}
