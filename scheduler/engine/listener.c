/*
 * The listener goes round: it looks at the queue through the store's watch
 * (store.h), acts on the news, and sleeps until the watch hears something or
 * something is due.
 *
 * Its own fields are the thread's alone; it takes rota.lock briefly, and
 * cancels running jobs' contexts with no lock held.
 */
#define _GNU_SOURCE
#include "engine/listener.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "base/grow.h"
#include "engine/job.h"
#include "engine/rescue.h"
#include "engine/retention.h"
#include "engine/sleepers.h"
#include "engine/state.h"
#include "engine/writer.h"

/* Own commits wake us too: look at most so often. */
#define LOOK_PAUSE ROTA_MS(2)
/* After chores have failed they are tried again so much later, ms. */
#define CHORES_AGAIN 200
/* Without memory for what to poll, the next look is so much later. */
#define BLIND_PAUSE ROTA_MS(20)

struct listener {
    struct rota *rota;
    struct watch *watch;
    struct rescuer rescuer;
    int stop;           /* an eventfd: readable when the thread is to end */
    struct pollfd *fds; /* the first is stop's, then the watch's */
    size_t room;
    int64_t chores_at;    /* Unix milliseconds; INT64_MAX: never */
    int64_t retention_at; /* monotonic */
};

/* -- Acting on news ------------------------------------------------------- */

/* A cancel that was asked for outside, for one of our jobs. */
static void
cancel_deliver(void *rota, int64_t id, int64_t lease, const char *reason)
{
    (void)job_cancel(rota, id, lease, reason);
}

/* What time has brought is done when it is due. */
static void
do_chores(struct listener *listener)
{
    struct rota *rota = listener->rota;
    struct request request = {.wish = {.kind = WISH_CHORES}};
    int64_t now = rota_now(rota);

    if (rota->is_readonly || listener->chores_at > now)
        return;
    if (wish_run(rota, &request) == ROTA_OK)
        listener->chores_at = request.wish.chores.next;
    else
        listener->chores_at = now + CHORES_AGAIN;
}

/* Look, and do what the news asks for. True if the queue has changed. */
static bool
look(struct listener *listener)
{
    struct rota *rota = listener->rota;
    struct scope scope;
    struct news news;

    (void)engine_scope(rota, &scope);
    watch_look(listener->watch, &scope, cancel_deliver, rota, &news);
    engine_check_store(rota);
    if (news.is_known)
        listener->chores_at = news.chores_at;
    if (news.is_known && news.is_ready)
        writer_offer(rota);
    if (news.is_known || news.has_changed)
        sleepers_wake_all(rota); /* the jobs of others may have ended */
    do_chores(listener);
    rescuer_take(&listener->rescuer, news.dead, news.n_dead);
    retention_check(rota, &listener->retention_at);
    return news.has_changed;
}

/* -- Sleeping ------------------------------------------------------------- */

/* When to look next, monotonic. */
static int64_t
next_look(const struct listener *listener, int64_t now)
{
    const struct rota *rota = listener->rota;
    int64_t next = watch_next(listener->watch), due;

    if (rota->is_readonly)
        return next;
    if (listener->retention_at < next)
        next = listener->retention_at;
    if (listener->chores_at != INT64_MAX) {
        due = listener->chores_at - rota_now(rota);
        due = saturating_add(now, due <= 0 ? 0 : saturating_ms(due));
        if (due < next)
            next = due;
    }
    return next;
}

/* Fill listener->fds. False without memory. */
static bool
descriptors_fill(struct listener *listener, size_t *ret_n)
{
    size_t n = 1 + watch_descriptors(listener->watch, NULL, 0);

    if (!grow_to(listener->fds, n, listener->room))
        return false;
    listener->fds[0] = (struct pollfd){.fd = listener->stop, .events = POLLIN};
    (void)watch_descriptors(listener->watch, listener->fds + 1, n - 1);
    *ret_n = n;
    return true;
}

/* Sleep until the watch hears something, or it is time. */
static void
listen_once(struct listener *listener)
{
    int64_t now = ctx_now(), wait = next_look(listener, now) - now;
    struct timespec pause = {.tv_sec = wait < 0 ? 0 : wait / 1000000000,
                             .tv_nsec = wait < 0 ? 0 : wait % 1000000000};
    size_t n;

    if (!descriptors_fill(listener, &n)) {
        (void)ctx_sleep(ctx_background(), BLIND_PAUSE);
        return;
    }
    if (ppoll(listener->fds, (nfds_t)n, &pause, NULL) > 0)
        watch_heard(listener->watch, listener->fds + 1, n - 1);
}

/* -- The thread ----------------------------------------------------------- */

static void *
listener_thread(void *arg)
{
    struct listener *listener = arg;

    while (!engine_is_closing(listener->rota)) {
        if (look(listener))
            (void)ctx_sleep(ctx_background(), LOOK_PAUSE);
        listen_once(listener);
    }
    return NULL;
}

static void
listener_free(struct listener *listener)
{
    if (listener == NULL)
        return;
    rescuer_fini(&listener->rescuer);
    watch_close(listener->watch);
    if (listener->stop >= 0)
        close(listener->stop);
    free(listener->fds);
    free(listener);
}

static enum rota_error
listener_open(struct rota *rota, struct listener **ret_listener)
{
    struct listener *listener = calloc(1, sizeof(*listener));
    enum rota_error error;

    if (listener == NULL)
        return no_memory();
    listener->rota = rota;
    listener->rescuer.rota = rota;
    listener->chores_at = INT64_MAX;
    listener->stop = descriptor_above(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    error = listener->stop < 0 ? ROTA_SYSTEM : ROTA_OK;
    if (error != ROTA_OK)
        message_set("no eventfd: %s", strerror(errno));
    if (error == ROTA_OK)
        error = watch_open(rota->store, &listener->watch);
    if (error != ROTA_OK) {
        listener_free(listener);
        return error;
    }
    *ret_listener = listener;
    return ROTA_OK;
}

/* Under rota.start_lock. */
static enum rota_error
thread_begin(struct rota *rota)
{
    struct listener *listener;
    enum rota_error error = listener_open(rota, &listener);
    int failed;

    if (error != ROTA_OK)
        return error;
    failed = thread_start(&rota->listener, "rota-listener", listener_thread,
                          listener);
    if (failed != 0) {
        message_set("cannot start a thread: %s", strerror(failed));
        listener_free(listener);
        return ROTA_SYSTEM;
    }
    rota->hearing = listener;
    rota->has_listener = true;
    return ROTA_OK;
}

enum rota_error
listener_start(struct rota *rota)
{
    enum rota_error error = ROTA_OK;

    if (store_is_inherited(rota->store))
        return ROTA_INVALID;
    lock_take(&rota->start_lock);
    if (!rota->has_listener)
        error = thread_begin(rota);
    lock_drop(&rota->start_lock);
    return error;
}

void
listener_stop(struct rota *rota)
{
    uint64_t one = 1;

    if (!rota->has_listener)
        return;
    (void)!write(rota->hearing->stop, &one, sizeof(one));
    MUST(pthread_join(rota->listener, NULL));
    rota->has_listener = false;
    listener_free(rota->hearing);
    rota->hearing = NULL;
}
