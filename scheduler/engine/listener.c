/*
 * The listener: one thread that learns what others did to the file, and who
 * died.
 *
 * It wakes by inotify on the log (<db>-wal), by the pidfd of each process that
 * runs jobs, by an eventfd of ours, and twice a second anyway. All of these
 * are hints; what it then reads from the file, and the byte locks, are the
 * truth. An inotify event comes before the commit is visible, so it looks
 * again a few times over 20 ms.
 *
 * Its own fields are the thread's alone; it takes rota.lock briefly, and
 * cancels running jobs' contexts with no lock held.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/engine.h"
#include "base/process.h"
#include "interrupt/strays.h"

/* Everything is looked at so often, hint or no hint. */
#define LOOK_EVERY ROTA_MS(500)
/* And without inotify. */
#define LOOK_EVERY_BLIND ROTA_MS(20)
/* Own commits wake us too: look at most so often. */
#define LOOK_PAUSE ROTA_MS(2)

/* When to look again after an event, counted from the event. */
static const int64_t again_after[] = {ROTA_MS(1), ROTA_MS(2), ROTA_MS(4),
                                      ROTA_MS(8), ROTA_MS(20)};
#define AGAIN (sizeof(again_after) / sizeof(again_after[0]))

/* Another process that runs jobs. */
struct watched {
    int64_t id;
    int pidfd; /* -1: cannot be watched, the slow look finds out */
    bool seen; /* in the latest reading */
};

struct outside {
    struct rota *rota;
    struct reader *reader;
    int inotify, poked; /* descriptors; inotify may be -1 */
    struct watched *watched;
    size_t n_watched;
    int64_t event_at;  /* of the event we look after; 0: none */
    size_t again;      /* how often we have looked since */
    int64_t next_slow; /* the next look without a hint */
    int64_t next_due;  /* of chores, Unix milliseconds */
    int64_t next_prune;
    bool has_moved; /* the file, as was told */
};

/* -- Looking at the file -------------------------------------------------- */

/* A cancel that was asked for through the file, for one of our jobs. */
static void
cancel_tell(void *rota, int64_t id, int64_t lease, const char *reason)
{
    (void)job_cancel(rota, id, lease, reason);
}

static void
look_for_cancels(struct outside *outside)
{
    struct rota *rota = outside->rota;

    /* should it fail, the next look comes soon */
    if (rota->process != 0 && reader_cancels(outside->reader, rota->process,
                                             cancel_tell, rota) != ROTA_OK)
        outside->next_slow = 0;
}

/* Is there something to claim, and when are the chores due? */
static void
look_for_work(struct outside *outside)
{
    struct rota *rota = outside->rota;
    struct scope scope = {0};
    struct waiting waiting = {.next = outside->next_due};

    lock_take(&rota->lock);
    if (rota->started)
        scope = rota->scope;
    lock_drop(&rota->lock);
    if (reader_waiting(outside->reader, &scope, &waiting) != ROTA_OK)
        return;
    outside->next_due = waiting.unsettled ? 0 : waiting.next;
    if (!waiting.ready)
        return;
    lock_take(&rota->lock);
    rota->maybe_ready = true;
    lock_drop(&rota->lock);
    writer_tell(rota); /* it is for the writer to say whether there is room */
}

/* Callers who wait for jobs that may have ended in another process read for
 * themselves. */
static void
look_for_waiters(struct outside *outside)
{
    struct rota *rota = outside->rota;

    lock_take(&rota->lock);
    for (struct link *l = rota->waiters.next; l != &rota->waiters; l = l->next)
        wake_up(&OWNER_OF(l, struct waiter, on_waiters)->wake, WAKE_SET);
    lock_drop(&rota->lock);
}

static void
do_chores(struct outside *outside)
{
    struct request request = {.kind = REQUEST_CHORES};
    int64_t now = rota_now(outside->rota);

    if (outside->rota->readonly || outside->next_due > now)
        return;
    if (request_run(outside->rota, &request) == ROTA_OK)
        outside->next_due = request.next;
    else
        outside->next_due = now + 200; /* the store's bad day */
}

static bool
is_closing(struct rota *rota)
{
    bool closing;

    lock_take(&rota->lock);
    closing = rota->closing;
    lock_drop(&rota->lock);
    return closing;
}

/* Forget what the queue has kept long enough, some hundreds at a time. */
static void
prune_queue(struct outside *outside, int64_t queue, int64_t ms)
{
    struct rota *rota = outside->rota;
    int64_t ids[CHUNK_MAX], last = 0;
    struct request request = {
        .kind = REQUEST_PRUNE, .ids = ids, .next = rota_now(rota) - ms};
    enum rota_error error = ROTA_OK;

    while (error == ROTA_OK && last != INT64_MAX && !is_closing(rota)) {
        error = reader_prunable(outside->reader, queue, request.next, &last,
                                ids, CHUNK_MAX, &request.n);
        if (error == ROTA_OK && request.n > 0)
            error = request_run(rota, &request);
    }
}

/* Of every queue that keeps its jobs for a time only. Not more often than a
 * sixteenth of that time, and for a twentieth of ours: queues that keep theirs
 * are walked over. */
static void
prune_due(struct outside *outside)
{
    int64_t now = ctx_now(), queue = 0, ms = 0, pause = ROTA_SEC(60);

    if (outside->rota->readonly || now < outside->next_prune)
        return;
    while (reader_retaining(outside->reader, &queue, &ms) == ROTA_OK &&
           queue != 0) {
        prune_queue(outside, queue, ms);
        if (saturating_ms(ms) / 16 < pause)
            pause = saturating_ms(ms) / 16;
    }
    if (pause < 20 * (ctx_now() - now))
        pause = 20 * (ctx_now() - now);
    outside->next_prune = saturating_add(now, pause);
}

static bool
look(struct outside *outside, bool anyway)
{
    bool changed = reader_changed(outside->reader);

    if (changed || anyway) {
        look_for_cancels(outside);
        look_for_work(outside);
        look_for_waiters(outside);
    }
    do_chores(outside);
    return changed;
}

/* -- Who died ------------------------------------------------------------- */

/* A descriptor that becomes readable when peer dies; -1 if there is no such
 * process on this machine, or no way to watch it. */
static int
peer_watch(const struct peer *peer)
{
    int fd;

    if (strcmp(peer->boot, process_boot()) != 0)
        return -1;
    fd = (int)syscall(SYS_pidfd_open, (pid_t)peer->pid, 0);
    if (fd >= 0 && process_start_ticks(peer->pid) != peer->start_ticks) {
        close(fd); /* the number is somebody else's by now */
        fd = -1;
    }
    return fd;
}

static void
peer_note(void *arg, const struct peer *peer)
{
    struct outside *outside = arg;
    struct watched *grown;

    if (peer->id == outside->rota->process)
        return;
    for (size_t i = 0; i < outside->n_watched; i++)
        if (outside->watched[i].id == peer->id) {
            outside->watched[i].seen = true;
            return;
        }
    grown =
        realloc(outside->watched, (outside->n_watched + 1) * sizeof(*grown));
    if (grown == NULL)
        return; /* the next slow look tries again */
    outside->watched = grown;
    grown[outside->n_watched++] = (struct watched){
        .id = peer->id, .pidfd = peer_watch(peer), .seen = true};
}

/* Nothing happens if process lives. */
static enum rota_error
rescue(struct rota *rota, int64_t process)
{
    struct request request = {.kind = REQUEST_RESCUE, .id = process};
    char entry[160] = "ROTA_TAG=";
    enum rota_error error;
    int n;

    if (store_lives(rota->store, process))
        return ROTA_OK;
    /* before its jobs run again: what they had started still runs */
    process_tag(rota, process, entry + 9, sizeof(entry) - 9);
    n = strays_kill(entry);
    if (n > 0)
        rota_say(rota, 0,
                 "worker %" PRId64
                 " died: killed %d processes that its jobs had "
                 "started",
                 process, n);
    error = request_run(rota, &request);
    if (error == ROTA_OK && request.count > 0)
        rota_say(rota, 0,
                 "worker %" PRId64 " died; jobs that it was running: %" PRId64,
                 process, request.count);
    return error;
}

/* Read who there is, and rescue the jobs of those who are not. */
static void
look_for_peers(struct outside *outside)
{
    size_t kept = 0;

    for (size_t i = 0; i < outside->n_watched; i++)
        outside->watched[i].seen = false;
    if (reader_peers(outside->reader, peer_note, outside) != ROTA_OK)
        return;
    for (size_t i = 0; i < outside->n_watched; i++) {
        struct watched *watched = &outside->watched[i];

        if (watched->seen) /* if it fails, the next look tries again */
            (void)rescue(outside->rota, watched->id);
        if (watched->seen)
            outside->watched[kept++] = *watched;
        else if (watched->pidfd >= 0)
            close(watched->pidfd);
    }
    outside->n_watched = kept;
}

struct dead {
    struct rota *rota;
    int64_t *ids;
    size_t n;
    bool failed;
};

static void
dead_note(void *arg, const struct peer *peer)
{
    struct dead *dead = arg;
    int64_t *grown;

    if (peer->id == dead->rota->process ||
        store_lives(dead->rota->store, peer->id))
        return;
    grown = realloc(dead->ids, (dead->n + 1) * sizeof(*grown));
    if (grown == NULL) {
        dead->failed = true;
        return;
    }
    dead->ids = grown;
    grown[dead->n++] = peer->id;
}

enum rota_error
outside_rescue(struct rota *rota)
{
    struct dead dead = {.rota = rota};
    enum rota_error error;
    struct reader *reader = reader_acquire(rota, &error);

    if (reader == NULL)
        return error;
    error = reader_peers(reader, dead_note, &dead);
    reader_release(rota, reader);
    for (size_t i = 0; error == ROTA_OK && i < dead.n; i++)
        error = rescue(rota, dead.ids[i]);
    if (error == ROTA_OK && dead.failed)
        error = no_memory();
    free(dead.ids);
    return error;
}

/* -- The thread ----------------------------------------------------------- */

/* When to look next, monotonic. */
static int64_t
next_look(const struct outside *outside, int64_t now)
{
    int64_t next = outside->next_slow, due;

    if (outside->event_at != 0 &&
        outside->event_at + again_after[outside->again] < next)
        next = outside->event_at + again_after[outside->again];
    if (outside->next_due != INT64_MAX && !outside->rota->readonly) {
        due = outside->next_due - rota_now(outside->rota);
        due = saturating_add(now, due <= 0 ? 0 : saturating_ms(due));
        if (due < next)
            next = due;
    }
    return next;
}

/* Throw away what fd has to say; that it spoke is enough. */
static void
swallow(int fd)
{
    char buffer[4096];

    while (read(fd, buffer, sizeof(buffer)) > 0)
        continue;
}

/* Sleep until a hint comes or it is time. *ret_died: a watched process did. */
static bool
listen_once(struct outside *outside, bool *ret_died)
{
    size_t n = outside->n_watched + 2;
    struct pollfd *fds = calloc(n, sizeof(*fds));
    int64_t now = ctx_now(), wait = next_look(outside, now) - now;
    struct timespec pause = {.tv_sec = wait < 0 ? 0 : wait / 1000000000,
                             .tv_nsec = wait < 0 ? 0 : wait % 1000000000};
    bool event = false;

    if (fds == NULL) {
        (void)ctx_sleep(ctx_background(), ROTA_MS(20));
        return false;
    }
    fds[0] = (struct pollfd){.fd = outside->poked, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = outside->inotify, .events = POLLIN};
    for (size_t i = 2; i < n; i++)
        fds[i] = (struct pollfd){.fd = outside->watched[i - 2].pidfd,
                                 .events = POLLIN};
    if (ppoll(fds, (nfds_t)n, &pause, NULL) > 0) {
        event = fds[1].revents != 0;
        if (event)
            swallow(outside->inotify);
        if (fds[0].revents != 0)
            swallow(outside->poked);
        for (size_t i = 2; i < n; i++)
            if (fds[i].revents != 0)
                *ret_died = true;
    }
    free(fds);
    return event;
}

/* An event, or the time to look again after one. What was seen meanwhile may
 * be an earlier commit, such as one of ours: look to the end. */
static void
after_event(struct outside *outside, bool event)
{
    if (event) {
        outside->event_at = ctx_now();
        outside->again = 0;
    }
    if (outside->event_at == 0)
        return;
    while (outside->again < AGAIN &&
           outside->event_at + again_after[outside->again] <= ctx_now())
        outside->again++;
    if (outside->again == AGAIN)
        outside->event_at = 0;
}

/* Say that the file is gone, or back. */
static void
look_for_file(struct outside *outside)
{
    struct rota *rota = outside->rota;
    bool has_moved = reader_has_moved(outside->reader);

    if (has_moved && !outside->has_moved)
        rota_say(rota, 0, "%s", message_get());
    else if (!has_moved && outside->has_moved)
        rota_say(rota, 0, "%s is back", rota->path);
    outside->has_moved = has_moved;
}

/* A log that is full is looked at by transactions, and nobody makes any. */
static void
try_log(struct rota *rota)
{
    struct request request = {.kind = REQUEST_CHORES};
    bool is_full;

    lock_take(&rota->lock);
    is_full = rota->log_full;
    lock_drop(&rota->lock);
    if (is_full)
        (void)request_run(rota, &request);
}

/* What is looked at hint or no hint. */
static void
look_slowly(struct outside *outside)
{
    look_for_file(outside);
    if (!outside->rota->readonly && !outside->has_moved) {
        look_for_peers(outside);
        try_log(outside->rota);
    }
    prune_due(outside);
    outside->next_slow =
        ctx_now() + (outside->inotify >= 0 ? LOOK_EVERY : LOOK_EVERY_BLIND);
}

static void *
listener_thread(void *arg)
{
    struct outside *outside = arg;
    bool event = false, changed, slow, died;

    while (!is_closing(outside->rota)) {
        died = false;
        slow = ctx_now() >= outside->next_slow;
        changed = look(outside, slow);
        after_event(outside, event);
        if (slow)
            look_slowly(outside);
        if (changed)
            (void)ctx_sleep(ctx_background(), LOOK_PAUSE);
        event = listen_once(outside, &died);
        if (died)
            outside->next_slow = 0;
    }
    return NULL;
}

static void
outside_free(struct outside *outside)
{
    if (outside == NULL)
        return;
    for (size_t i = 0; i < outside->n_watched; i++)
        if (outside->watched[i].pidfd >= 0)
            close(outside->watched[i].pidfd);
    free(outside->watched);
    if (outside->inotify >= 0)
        close(outside->inotify);
    if (outside->poked >= 0)
        close(outside->poked);
    reader_close(outside->reader);
    free(outside);
}

static enum rota_error
outside_open(struct rota *rota, struct outside **ret_outside)
{
    struct outside *outside = calloc(1, sizeof(*outside));
    char *wal = NULL;
    enum rota_error error;

    if (outside == NULL)
        return no_memory();
    outside->rota = rota;
    outside->next_due = INT64_MAX;
    outside->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    outside->poked = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    error = outside->poked < 0 ? ROTA_SYSTEM : ROTA_OK;
    if (error != ROTA_OK)
        message_set("no eventfd: %s", strerror(errno));
    if (error == ROTA_OK)
        error = reader_open(rota->store, &outside->reader);
    if (error == ROTA_OK && asprintf(&wal, "%s-wal", rota->path) < 0)
        error = no_memory();
    /* a watch opens no descriptor on the log, so no lock is lost by it */
    if (error == ROTA_OK && outside->inotify >= 0 &&
        inotify_add_watch(outside->inotify, wal, IN_MODIFY) < 0) {
        close(outside->inotify);
        outside->inotify = -1;
    }
    free(wal);
    if (error != ROTA_OK) {
        outside_free(outside);
        return error;
    }
    *ret_outside = outside;
    return ROTA_OK;
}

enum rota_error
outside_start(struct rota *rota)
{
    struct outside *outside;
    enum rota_error error = ROTA_OK;
    int failed;

    if (store_is_inherited(rota->store))
        return ROTA_INVALID;
    lock_take(&rota->start_lock);
    if (rota->has_listener)
        goto out;
    error = outside_open(rota, &outside);
    if (error != ROTA_OK)
        goto out;
    failed = thread_start(&rota->listener, "rota-listener", listener_thread,
                          outside);
    if (failed != 0) {
        message_set("cannot start a thread: %s", strerror(failed));
        outside_free(outside);
        error = ROTA_SYSTEM;
        goto out;
    }
    rota->outside = outside;
    rota->has_listener = true;
out:
    lock_drop(&rota->start_lock);
    return error;
}

void
outside_stop(struct rota *rota)
{
    uint64_t one = 1;

    if (!rota->has_listener)
        return;
    (void)!write(rota->outside->poked, &one, sizeof(one));
    MUST(pthread_join(rota->listener, NULL));
    rota->has_listener = false;
    outside_free(rota->outside);
    rota->outside = NULL;
}
