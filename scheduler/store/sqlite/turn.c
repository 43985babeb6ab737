#define _GNU_SOURCE
#include "store/sqlite/turn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rota/ctx.h>

#include "base/base.h"
#include "base/descriptor.h"
#include "base/list.h"

/* Where no thread is to be had, the gate is looked at so often. */
#define LOOK ROTA_MS(1)

struct turn {
    pthread_t thread;
    int fd; /* the same open file by a descriptor of the thread's own: it may
             * wait longer than the queue is open */
    struct link on_turns; /* under turns_lock, as is the closing of fd */
    pthread_mutex_t lock;
    pthread_cond_t ended;
    /* under lock */
    bool is_wanted; /* somebody waits for it */
    bool is_left;   /* and nobody ever will again: the thread frees it */
    bool has_ended; /* the thread has nothing more to do */
    bool has_come;  /* the gate is ours */
    int error;      /* errno, if that could not be */
};

static pthread_mutex_t turns_lock = PTHREAD_MUTEX_INITIALIZER;
static struct link turns = {&turns, &turns};
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void
fork_prepare(void)
{
    lock_take(&turns_lock);
}

static void
fork_parent(void)
{
    lock_drop(&turns_lock);
}

static void
fork_child(void)
{
    for (struct link *l = turns.next; l != &turns; l = l->next) {
        struct turn *turn = OWNER_OF(l, struct turn, on_turns);

        if (turn->fd >= 0)
            (void)close(turn->fd);
        turn->fd = -1;
    }
    lock_drop(&turns_lock);
}

static void
fork_handlers(void)
{
    MUST(pthread_atfork(fork_prepare, fork_parent, fork_child));
}

int
byte_lock(int fd, int command, short type, off_t byte)
{
    struct flock lock = {
        .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int answer;

    do {
        answer = fcntl(fd, command, &lock);
    } while (answer != 0 && errno == EINTR);
    return answer;
}

/* -- The thread ----------------------------------------------------------- */

static void
turn_free(struct turn *turn)
{
    lock_take(&turns_lock);
    list_remove(&turn->on_turns);
    if (turn->fd >= 0)
        (void)close(turn->fd);
    lock_drop(&turns_lock);
    MUST(pthread_cond_destroy(&turn->ended));
    MUST(pthread_mutex_destroy(&turn->lock));
    free(turn);
}

/* Wait for the gate, however long; 0 or errno. */
static int
stand_in_line(int fd)
{
    int error = 0;

    if (byte_lock(fd, F_OFD_SETLKW, F_WRLCK, TURNSTILE) != 0)
        return errno;
    if (byte_lock(fd, F_OFD_SETLKW, F_WRLCK, GATE) != 0)
        error = errno;
    (void)byte_lock(fd, F_OFD_SETLK, F_UNLCK, TURNSTILE);
    return error;
}

static void *
turn_thread(void *arg)
{
    struct turn *turn = arg;
    int error = stand_in_line(turn->fd);
    bool is_left;

    lock_take(&turn->lock);
    turn->error = error;
    turn->has_come = error == 0 && turn->is_wanted;
    if (!turn->has_come)
        (void)byte_lock(turn->fd, F_OFD_SETLK, F_UNLCK, GATE);
    turn->has_ended = true;
    is_left = turn->is_left;
    MUST(pthread_cond_signal(&turn->ended));
    lock_drop(&turn->lock);
    if (is_left)
        turn_free(turn);
    return NULL;
}

/* NULL: there is no memory, or no thread. */
static struct turn *
turn_new(int fd)
{
    struct turn *turn = calloc(1, sizeof(*turn));
    pthread_condattr_t attr;

    if (turn == NULL)
        return NULL;
    MUST(pthread_mutex_init(&turn->lock, NULL));
    MUST(pthread_condattr_init(&attr));
    MUST(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    MUST(pthread_cond_init(&turn->ended, &attr));
    MUST(pthread_condattr_destroy(&attr));
    turn->is_wanted = true;
    MUST(pthread_once(&fork_once, fork_handlers));
    lock_take(&turns_lock);
    turn->fd = fcntl(fd, F_DUPFD_CLOEXEC, DESCRIPTOR_FIRST);
    list_append(&turns, &turn->on_turns);
    lock_drop(&turns_lock);
    if (turn->fd >= 0 &&
        thread_start(&turn->thread, "rota-turn", turn_thread, turn) == 0)
        return turn;
    turn_free(turn);
    return NULL;
}

/* -- The caller ----------------------------------------------------------- */

/* Under turn->lock: until the thread has ended, or deadline. */
static void
await_end(struct turn *turn, int64_t deadline)
{
    const struct timespec until = {.tv_sec = deadline / 1000000000,
                                   .tv_nsec = deadline % 1000000000};
    int answer = 0;

    while (!turn->has_ended && answer != ETIMEDOUT)
        answer = pthread_cond_timedwait(&turn->ended, &turn->lock, &until);
}

/* Without a thread: look, and look again. */
static enum rota_error
turn_poll(int fd, int64_t deadline)
{
    const struct timespec pause = {.tv_nsec = LOOK};
    bool is_next = false, is_in = false;

    while (!is_in && ctx_now() < deadline) {
        is_next =
            is_next || byte_lock(fd, F_OFD_SETLK, F_WRLCK, TURNSTILE) == 0;
        is_in = is_next && byte_lock(fd, F_OFD_SETLK, F_WRLCK, GATE) == 0;
        if (!is_in)
            (void)nanosleep(&pause, NULL);
    }
    if (is_next)
        (void)byte_lock(fd, F_OFD_SETLK, F_UNLCK, TURNSTILE);
    return is_in ? ROTA_OK : ROTA_BUSY;
}

/* Wait for the thread. If it has ended it is gone, and *turn_at is NULL. */
static enum rota_error
turn_await(struct turn **turn_at, int64_t deadline)
{
    struct turn *turn = *turn_at;
    bool has_ended, has_come;
    int error;

    lock_take(&turn->lock);
    turn->is_wanted = true;
    await_end(turn, deadline);
    turn->is_wanted = false;
    has_ended = turn->has_ended;
    has_come = turn->has_come;
    error = turn->error;
    lock_drop(&turn->lock);
    if (has_ended) {
        MUST(pthread_join(turn->thread, NULL));
        turn_free(turn);
        *turn_at = NULL;
    }
    if (error == 0)
        return has_come ? ROTA_OK : ROTA_BUSY;
    message_set("cannot lock the queue's lock file: %s", strerror(error));
    return ROTA_SYSTEM;
}

enum rota_error
turn_take(struct turn **turn_at, int fd, int64_t deadline)
{
    enum rota_error error;

    do {
        if (*turn_at == NULL)
            *turn_at = turn_new(fd);
        if (*turn_at == NULL)
            return turn_poll(fd, deadline);
        error = turn_await(turn_at, deadline);
        /* it had come before, when nobody wanted it: stand in line anew */
    } while (error == ROTA_BUSY && *turn_at == NULL && ctx_now() < deadline);
    return error;
}

void
turn_leave(struct turn *turn)
{
    pthread_t thread;
    bool has_ended;

    if (turn == NULL)
        return;
    thread =
        turn->thread; /* the rest may be freed as soon as lock is dropped */
    lock_take(&turn->lock);
    has_ended = turn->has_ended;
    turn->is_left = true;
    lock_drop(&turn->lock);
    if (!has_ended) {
        MUST(pthread_detach(thread));
        return;
    }
    MUST(pthread_join(thread, NULL));
    turn_free(turn);
}

void
turn_inherited(struct turn *turn)
{
    if (turn == NULL)
        return;
    (void)close(turn->fd);
    turn->fd = -1;
}
