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
#include "base/descriptor.h"
#include "store/sqlite/users.h"

#define PERIOD ROTA_MS(50)
#define WINDOW ROTA_MS(24)
#define ASK    ROTA_MS(10)  /* whether somebody has opened the file, so often */
#define LOOK   ROTA_SEC(10) /* and who is there at least so often */
#define STAY   ROTA_SEC(1)  /* who leaves may come again */

enum rota_error
yield_begin(struct yield *yield, const char *path)
{
    *yield = (struct yield){.opens = -1};
    if (asprintf(&yield->shm, "%s-shm", path) < 0) {
        yield->shm = NULL;
        return no_memory();
    }
    if (asprintf(&yield->lock, "%s-lock", path) < 0) {
        yield->lock = NULL;
        return no_memory();
    }
    yield->opens = descriptor_above(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (yield->opens >= 0 &&
        inotify_add_watch(yield->opens, path, IN_OPEN) < 0) {
        (void)close(yield->opens);
        yield->opens = -1;
    }
    return ROTA_OK;
}

void
yield_end(struct yield *yield)
{
    free(yield->shm);
    free(yield->lock);
    if (yield->opens >= 0)
        (void)close(yield->opens);
}

/* As of one reading, in which somebody may be missing. */
static bool
others_seem_there(const struct yield *yield)
{
    struct users users;

    if (!users_read(yield->shm, yield->lock, &users))
        return true;
    if (!pids_have(&users.open, getpid()) || !pids_have(&users.rotas, getpid()))
        return true; /* the kernel does not tell of us: nor of others */
    for (size_t i = 0; i < users.open.n; i++)
        if (!pids_have(&users.rotas, users.open.all[i]))
            return true;
    return users.open.n == USERS_MAX;
}

bool
yield_looks(const struct yield *yield)
{
    for (int i = 0; i < 3; i++)
        if (!others_seem_there(yield))
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
was_opened(const struct yield *yield)
{
    char events[1024];
    bool opened = false;

    while (yield->opens >= 0 && read(yield->opens, events, sizeof(events)) > 0)
        opened = true;
    return opened;
}

/* For how long others are to be minded from now on. */
static void
look_again(struct yield *yield, int64_t now)
{
    bool opened = was_opened(yield);
    bool minded = yield->until > yield->looked;

    if (now < yield->until ||
        (!opened && !minded && now - yield->looked < LOOK))
        return;
    yield->looked = now;
    if (yield_looks(yield))
        yield->until = now + STAY;
}

void
yield_wait(struct yield *yield)
{
    int64_t now = ctx_now(), time = now - yield->since;

    if (time >= PERIOD) {
        yield->is_crowded = yield->busy > time / 4;
        yield->busy = 0;
        yield->since = now;
    }
    if (yield->is_crowded && now - yield->asked >= ASK) {
        yield->asked = now;
        look_again(yield, now);
    }
    if (yield->is_crowded && now < yield->until && now % PERIOD < WINDOW) {
        sleep_until(now - now % PERIOD + WINDOW);
        now = ctx_now();
    }
    yield->began = now;
}

void
yield_wrote(struct yield *yield)
{
    yield->busy += ctx_now() - yield->began;
}
