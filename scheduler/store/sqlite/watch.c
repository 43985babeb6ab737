/*
 * What others do to the file.
 *
 * A watch is woken by inotify on the log (<db>-wal), by the pidfd of each
 * process that runs jobs, and twice a second anyway. All of these are hints;
 * what it then reads from the file, and the byte locks, are the truth.
 *
 * The hard case is that an inotify event comes before the commit that wrote is
 * visible: who looks at once may see nothing, and nothing tells him again. So
 * it looks again a few times over 20 ms after each event.
 */
#define _GNU_SOURCE
#include "store/sqlite/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/base.h"
#include "base/descriptor.h"
#include "base/grow.h"
#include "base/process.h"
#include "store/sqlite/reader.h"
#include "store/sqlite/sqlite.h"

/* Everything is looked at so often, hint or no hint. */
#define LOOK_EVERY ROTA_MS(500)
/* And without inotify, or while a process is dying. */
#define LOOK_EVERY_BLIND ROTA_MS(20)

/* When to look again after an event, counted from the event. */
static const int64_t again_after[] = {ROTA_MS(1), ROTA_MS(2), ROTA_MS(4),
                                      ROTA_MS(8), ROTA_MS(20)};
#define AGAIN (sizeof(again_after) / sizeof(again_after[0]))

/* Another process that runs jobs. */
struct neighbour {
    int64_t id;
    int pidfd;     /* -1: cannot be watched, the slow look finds out */
    bool is_dying; /* it has ended, but what it started perhaps has not */
    bool is_open;  /* as of the latest reading: it has not been seen to end */
};

struct sqlite_watch {
    struct watch base;
    struct sqlite_store
        *store; /* of which only what is for any thread is used */
    struct connection connection;
    int64_t data_version;
    int inotify; /* a descriptor; -1: none is to be had */
    struct neighbour *neighbours;
    size_t n_neighbours, room;
    int64_t *dead; /* what the last look found; room for all neighbours */
    size_t n_dead, dead_room;
    int64_t own;       /* the scope's process */
    int64_t event_at;  /* of the event that we look after; 0: none */
    size_t again;      /* how often we have looked since */
    int64_t next_slow; /* the next look without a hint */
    bool has_moved;    /* the file, as was told */
};

static struct sqlite_watch *
watch_of(struct watch *watch)
{
    return OWNER_OF(watch, struct sqlite_watch, base);
}

/* -- Life ----------------------------------------------------------------- */

/* A watch on the log opens no descriptor on it, so that no lock of SQLite's is
 * lost when it is closed. Without one the looks are more frequent. */
static void
inotify_begin(struct sqlite_watch *watch)
{
    watch->inotify = descriptor_above(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (watch->inotify >= 0 &&
        inotify_add_watch(watch->inotify, watch->connection.parts[PART_LOG],
                          IN_MODIFY) < 0) {
        close(watch->inotify);
        watch->inotify = -1;
    }
}

enum rota_error
sqlite_watch_open(struct store *store, struct watch **ret_watch)
{
    struct sqlite_watch *watch = calloc(1, sizeof(*watch));
    enum rota_error error;

    if (watch == NULL)
        return no_memory();
    watch->base.ops = &sqlite_ops;
    watch->store = sqlite_store_of(store);
    watch->data_version = -1;
    error = connection_to(watch->store, &watch->connection);
    if (error != ROTA_OK) {
        free(watch);
        return error;
    }
    inotify_begin(watch);
    *ret_watch = &watch->base;
    return ROTA_OK;
}

void
sqlite_watch_close(struct watch *base)
{
    struct sqlite_watch *watch = watch_of(base);

    for (size_t i = 0; i < watch->n_neighbours; i++)
        if (watch->neighbours[i].pidfd >= 0)
            close(watch->neighbours[i].pidfd);
    free(watch->neighbours);
    free(watch->dead);
    if (watch->inotify >= 0)
        close(watch->inotify);
    connection_close(&watch->connection);
    free(watch);
}

/* -- Hints ---------------------------------------------------------------- */

/* The first is inotify's, the others the neighbours'; poll ignores those that
 * are -1. */
size_t
sqlite_watch_descriptors(const struct watch *base, struct pollfd *fds, size_t n)
{
    const struct sqlite_watch *watch = (const struct sqlite_watch *)base;

    for (size_t i = 0; i < n && i <= watch->n_neighbours; i++)
        fds[i] = (struct pollfd){.fd = i == 0 ? watch->inotify
                                              : watch->neighbours[i - 1].pidfd,
                                 .events = POLLIN};
    return watch->n_neighbours + 1;
}

/* Throw away what inotify has to say; that it spoke is enough. */
static void
swallow(int fd)
{
    char buffer[4096];

    while (read(fd, buffer, sizeof(buffer)) > 0)
        continue;
}

/* A neighbour has ended. As long as what it had started is being ended, its
 * lock is held, and the descriptor has nothing more to say: so from now on it
 * is looked at often. */
static void
neighbour_ended(struct sqlite_watch *watch, struct neighbour *neighbour)
{
    close(neighbour->pidfd);
    neighbour->pidfd = -1;
    neighbour->is_dying = true;
    watch->next_slow = 0;
}

void
sqlite_watch_heard(struct watch *base, const struct pollfd *fds, size_t n)
{
    struct sqlite_watch *watch = watch_of(base);

    for (size_t i = 1; i < n; i++)
        if (fds[i].revents != 0)
            neighbour_ended(watch, &watch->neighbours[i - 1]);
    if (n == 0 || fds[0].revents == 0)
        return;
    swallow(watch->inotify);
    watch->event_at = ctx_now();
    watch->again = 0;
}

int64_t
sqlite_watch_next(const struct watch *base)
{
    const struct sqlite_watch *watch = (const struct sqlite_watch *)base;
    int64_t next = watch->next_slow;

    if (watch->event_at != 0 &&
        watch->event_at + again_after[watch->again] < next)
        next = watch->event_at + again_after[watch->again];
    return next;
}

/* Note that what is to be seen after an event has been looked at once more.
 * What was seen may have been an earlier commit, such as one of ours: so it
 * goes on to the end of the list. */
static void
event_looked_at(struct sqlite_watch *watch)
{
    if (watch->event_at == 0)
        return;
    while (watch->again < AGAIN &&
           watch->event_at + again_after[watch->again] <= ctx_now())
        watch->again++;
    if (watch->again == AGAIN)
        watch->event_at = 0;
}

/* -- The file ------------------------------------------------------------- */

STATEMENT(CANCELS) = {"SELECT id, lease, cancel_reason FROM _running"
                      " WHERE process = ?1 AND cancel_at IS NOT NULL"};
enum { CANCEL_ID, CANCEL_LEASE, CANCEL_REASON };

/* True on doubt. */
static bool
has_changed(struct sqlite_watch *watch)
{
    int64_t before = watch->data_version;

    return connection_data_version(&watch->connection, &watch->data_version) !=
               ROTA_OK ||
           watch->data_version != before;
}

static void
look_for_cancels(struct sqlite_watch *watch, int64_t process,
                 watch_cancel_fn *fn, void *arg)
{
    struct stmt stmt;

    if (process == 0)
        return;
    stmt = stmt_of(&watch->connection, &CANCELS);
    (void)sqlite3_bind_int64(stmt.s, 1, process);
    while (stmt_next(&stmt)) {
        int64_t id = stmt_integer(&stmt, CANCEL_ID);
        int64_t lease = stmt_integer(&stmt, CANCEL_LEASE);

        if (stmt.error == ROTA_OK)
            fn(arg, id, lease,
               (const char *)sqlite3_column_text(stmt.s, CANCEL_REASON));
    }
    if (stmt_end(&stmt) != ROTA_OK)
        watch->next_slow = ctx_now() + LOOK_EVERY_BLIND; /* again, soon */
}

static void
look_for_work(struct sqlite_watch *watch, const struct scope *scope,
              struct news *news)
{
    struct waiting waiting;
    enum rota_error error = waiting_read(
        &watch->connection, store_now(&watch->store->base), scope, &waiting);

    /* a file that was put in the place of another is no damage */
    if (error == ROTA_CORRUPT && !connection_has_moved(&watch->connection))
        store_damage_note(&watch->store->base);
    news->is_known = error == ROTA_OK;
    if (!news->is_known)
        return;
    news->is_ready = waiting.is_ready;
    news->chores_at = waiting.is_unsettled ? 0 : waiting.next;
}

/* Say that the file is gone, or back. */
static void
look_for_file(struct sqlite_watch *watch)
{
    bool has_moved = connection_has_moved(&watch->connection);

    if (has_moved && !watch->has_moved)
        store_say(&watch->store->base, "%s", message_get());
    else if (!has_moved && watch->has_moved)
        store_say(&watch->store->base, "%s is back", watch->connection.path);
    watch->has_moved = has_moved;
}

/* -- Who died ------------------------------------------------------------- */

/* A descriptor that becomes readable when the process dies; -1 if there is no
 * such process on this machine, or no way to watch it. */
static int
process_watch(const struct open_process *process)
{
    int fd;

    if (strcmp(process->boot, process_boot()) != 0)
        return -1;
    fd = descriptor_above((int)syscall(SYS_pidfd_open, (pid_t)process->pid, 0));
    if (fd >= 0 && process_start_ticks(process->pid) != process->start_ticks) {
        close(fd); /* the number is somebody else's by now */
        fd = -1;
    }
    return fd;
}

static void
neighbour_note(void *arg, const struct open_process *process)
{
    struct sqlite_watch *watch = arg;

    if (process->id == watch->own)
        return;
    for (size_t i = 0; i < watch->n_neighbours; i++)
        if (watch->neighbours[i].id == process->id) {
            watch->neighbours[i].is_open = true;
            return;
        }
    if (!grow(watch->neighbours, watch->n_neighbours, watch->room))
        return; /* the next slow look tries again */
    watch->neighbours[watch->n_neighbours++] = (struct neighbour){
        .id = process->id, .pidfd = process_watch(process), .is_open = true};
}

/* Read who there is, and tell of those who are not. */
static void
look_for_dead(struct sqlite_watch *watch, int64_t process)
{
    size_t kept = 0;

    watch->own = process;
    for (size_t i = 0; i < watch->n_neighbours; i++)
        watch->neighbours[i].is_open = false;
    if (open_processes_read(&watch->connection, neighbour_note, watch) !=
        ROTA_OK)
        return;
    for (size_t i = 0; i < watch->n_neighbours; i++) {
        struct neighbour *neighbour = &watch->neighbours[i];

        if (!neighbour->is_open) {
            if (neighbour->pidfd >= 0)
                close(neighbour->pidfd);
            continue;
        }
        if (!lockfile_lives(watch->store->lockfile, neighbour->id) &&
            grow(watch->dead, watch->n_dead, watch->dead_room))
            watch->dead[watch->n_dead++] = neighbour->id;
        watch->neighbours[kept++] = *neighbour;
    }
    watch->n_neighbours = kept;
}

/* -- Look ----------------------------------------------------------------- */

static bool
somebody_is_dying(const struct sqlite_watch *watch)
{
    for (size_t i = 0; i < watch->n_neighbours; i++)
        if (watch->neighbours[i].is_dying)
            return true;
    return false;
}

/* What is looked at hint or no hint. */
static void
look_slowly(struct sqlite_watch *watch, const struct scope *scope)
{
    bool is_blind;

    look_for_file(watch);
    if (!watch->store->base.options.is_readonly && !watch->has_moved)
        look_for_dead(watch, scope->process);
    is_blind = watch->inotify < 0 || somebody_is_dying(watch);
    watch->next_slow = ctx_now() + (is_blind ? LOOK_EVERY_BLIND : LOOK_EVERY);
}

void
sqlite_watch_look(struct watch *base, const struct scope *scope,
                  watch_cancel_fn *fn, void *arg, struct news *ret_news)
{
    struct sqlite_watch *watch = watch_of(base);
    bool is_slow = ctx_now() >= watch->next_slow;

    *ret_news = (struct news){.has_changed = has_changed(watch)};
    watch->n_dead = 0;
    if (is_slow)
        look_slowly(watch, scope);
    if (ret_news->has_changed || is_slow) {
        look_for_cancels(watch, scope->process, fn, arg);
        look_for_work(watch, scope, ret_news);
    }
    event_looked_at(watch);
    ret_news->dead = watch->dead;
    ret_news->n_dead = watch->n_dead;
}
