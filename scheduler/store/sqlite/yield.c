#define _GNU_SOURCE
#include "store/sqlite/yield.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include <rota/ctx.h>

#include "base/base.h"
#include "store/sqlite/users.h"

#define PERIOD ROTA_MS(50)
#define WINDOW ROTA_MS(24)
#define ASK    ROTA_MS(10)  /* whether somebody has opened the file, so often */
#define LOOK   ROTA_SEC(10) /* and who is there at least so often */
#define STAY   ROTA_SEC(1)  /* who leaves may come again */

enum rota_error
courtesy_begin(struct courtesy *courtesy, const char *path)
{
    *courtesy = (struct courtesy){.opens = -1};
    if (asprintf(&courtesy->shm, "%s-shm", path) < 0) {
        courtesy->shm = NULL;
        return no_memory();
    }
    if (asprintf(&courtesy->lock, "%s-lock", path) < 0) {
        courtesy->lock = NULL;
        return no_memory();
    }
    courtesy->opens = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (courtesy->opens >= 0 &&
        inotify_add_watch(courtesy->opens, path, IN_OPEN) < 0) {
        (void)close(courtesy->opens);
        courtesy->opens = -1;
    }
    return ROTA_OK;
}

void
courtesy_end(struct courtesy *courtesy)
{
    free(courtesy->shm);
    free(courtesy->lock);
    if (courtesy->opens >= 0)
        (void)close(courtesy->opens);
}

/* As of one reading, in which somebody may be missing. */
static bool
others_seem_there(const struct courtesy *courtesy)
{
    struct holders holders;

    if (!holders_read(courtesy->shm, courtesy->lock, &holders))
        return true;
    if (!pids_have(&holders.open, getpid()) ||
        !pids_have(&holders.rotas, getpid()))
        return true; /* the kernel does not tell of us: nor of others */
    for (size_t i = 0; i < holders.open.n; i++)
        if (!pids_have(&holders.rotas, holders.open.all[i]))
            return true;
    return holders.open.n == HOLDERS_MAX;
}

bool
courtesy_looks(const struct courtesy *courtesy)
{
    for (int i = 0; i < 3; i++)
        if (!others_seem_there(courtesy))
            return false;
    return true;
}

static void
sleep_until(int64_t time)
{
    const struct timespec until = {.tv_sec = time / 1000000000,
                                   .tv_nsec = time % 1000000000};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) ==
           EINTR)
        continue;
}

static bool
was_opened(const struct courtesy *courtesy)
{
    char events[1024];
    bool opened = false;

    while (courtesy->opens >= 0 &&
           read(courtesy->opens, events, sizeof(events)) > 0)
        opened = true;
    return opened;
}

/* For how long others are to be minded from now on. */
static void
look_again(struct courtesy *courtesy, int64_t now)
{
    bool opened = was_opened(courtesy);
    bool minded = courtesy->until > courtesy->looked;

    if (now < courtesy->until ||
        (!opened && !minded && now - courtesy->looked < LOOK))
        return;
    courtesy->looked = now;
    if (courtesy_looks(courtesy))
        courtesy->until = now + STAY;
}

void
courtesy_wait(struct courtesy *courtesy)
{
    int64_t now = ctx_now(), time = now - courtesy->since;

    if (time >= PERIOD) {
        courtesy->is_crowded = courtesy->busy > time / 4;
        courtesy->busy = 0;
        courtesy->since = now;
    }
    if (courtesy->is_crowded && now - courtesy->asked >= ASK) {
        courtesy->asked = now;
        look_again(courtesy, now);
    }
    if (courtesy->is_crowded && now < courtesy->until &&
        now % PERIOD < WINDOW) {
        sleep_until(now - now % PERIOD + WINDOW);
        now = ctx_now();
    }
    courtesy->began = now;
}

void
courtesy_wrote(struct courtesy *courtesy)
{
    courtesy->busy += ctx_now() - courtesy->began;
}
