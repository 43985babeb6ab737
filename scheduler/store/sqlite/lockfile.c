/*
 * Byte locks in <db>-lock, of the open-file-description kind (F_OFD_*): they
 * belong to our descriptor alone, are dropped by the kernel at death, and do
 * not vanish when somebody else in the process closes the same file.
 *
 *   byte 0      the turnstile: held by whoever is next to write
 *   byte 1      the gate: held by whoever writes
 *   byte 16+p   held by process p as long as it lives, and what it started
 *   2^40+pid    held, and shared, by whoever has the queue open: yield.h
 *
 * A writer takes the turnstile, then the gate, then drops the turnstile. With
 * the gate alone a process that writes without pause would take it again
 * before a waiter wakes; with the turnstile it queues behind the waiter. Who
 * does not come through at once waits in turn.c.
 *
 * The lock that says that a process lives has a descriptor of its own, which
 * keepers inherit (base/held.h): what a dead process had started may still run,
 * and until it has ended nobody takes over its jobs. The gate must not stay
 * shut for so long.
 *
 * Locking: fork_lock guards the list of open files, for the fork handlers.
 * The byte locks are the kernel's; no other lock is taken here.
 */
#define _GNU_SOURCE
#include "store/sqlite/lockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "base/descriptor.h"
#include "base/held.h"
#include "store/sqlite/turn.h"

#define FIRST_PROCESS 16

struct lockfile {
    int fd;
    struct held live;  /* says that we live; one thread at a time */
    char *path;        /* malloc'd */
    bool is_inherited; /* we are a forked child */
    dev_t device;      /* of the file; read-only */
    ino_t inode;
    struct turn *turn;   /* that has not come yet; NULL: none */
    _Atomic int64_t own; /* the process that is us; relaxed, set once */
    struct link on_open; /* under fork_lock */
};

static pthread_mutex_t fork_lock = PTHREAD_MUTEX_INITIALIZER;
static struct link open_files = {&open_files, &open_files};
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void
fork_prepare(void)
{
    lock_take(&fork_lock);
}

static void
fork_parent(void)
{
    lock_drop(&fork_lock);
}

static void
fork_child(void)
{
    for (struct link *l = open_files.next; l != &open_files; l = l->next) {
        struct lockfile *file = OWNER_OF(l, struct lockfile, on_open);

        if (file->fd >= 0)
            close(file->fd);
        file->fd = -1;
        file->is_inherited = true;
    }
    lock_drop(&fork_lock);
}

bool
lockfile_is_inherited(const struct lockfile *file)
{
    return file->is_inherited;
}

static void
fork_handlers(void)
{
    MUST(pthread_atfork(fork_prepare, fork_parent, fork_child));
}

static enum rota_error
file_open(const char *path, int flags, bool may_fail,
          struct lockfile **ret_file)
{
    struct stat st;
    struct lockfile *file = calloc(1, sizeof(*file));

    if (file == NULL)
        return no_memory();
    MUST(pthread_once(&fork_once, fork_handlers));
    file->live.fd = -1;
    file->path = strdup(path);
    if (file->path == NULL) {
        free(file);
        return no_memory();
    }
    /* a child that is forked from here on knows of it */
    lock_take(&fork_lock);
    file->fd =
        descriptor_above(open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (file->fd >= 0 || may_fail)
        list_append(&open_files, &file->on_open);
    lock_drop(&fork_lock);
    if (file->fd < 0 && !may_fail) {
        message_set("cannot open %s: %s", path, strerror(errno));
        free(file->path);
        free(file);
        return ROTA_SYSTEM;
    }
    (void)byte_lock(file->fd, F_OFD_SETLK, F_RDLCK,
                    (off_t)LOCKFILE_PIDS + getpid());
    if (fstat(file->fd, &st) == 0) {
        file->device = st.st_dev;
        file->inode = st.st_ino;
    }
    *ret_file = file;
    return ROTA_OK;
}

bool
lockfile_was_open(const char *path)
{
    struct stat st;
    bool found = false;

    if (stat(path, &st) != 0)
        return false;
    lock_take(&fork_lock);
    for (struct link *l = open_files.next; l != &open_files; l = l->next) {
        const struct lockfile *file = OWNER_OF(l, struct lockfile, on_open);

        found |= file->is_inherited && file->device == st.st_dev &&
                 file->inode == st.st_ino;
    }
    lock_drop(&fork_lock);
    return found;
}

enum rota_error
lockfile_open(const char *path, struct lockfile **ret_file)
{
    return file_open(path, O_RDWR | O_CREAT, false, ret_file);
}

enum rota_error
lockfile_open_look(const char *path, struct lockfile **ret_file)
{
    return file_open(path, O_RDONLY, true, ret_file);
}

/* The lock is the open file's, and a copy of the descriptor keeps that: who
 * stands in line has one, and so has a keeper. */
static void
locks_drop(int fd)
{
    struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

    (void)fcntl(fd, F_OFD_SETLK, &all);
}

void
lockfile_close(struct lockfile *file)
{
    if (file == NULL)
        return;
    locks_drop(file->live.fd); /* keepers have copies of it */
    held_drop(&file->live);
    lock_take(&fork_lock);
    list_remove(&file->on_open);
    if (file->fd >= 0) {
        locks_drop(file->fd);
        close(file->fd);
    }
    lock_drop(&fork_lock);
    free(file->path);
    turn_leave(file->turn);
    free(file);
}

/* Take the gate, if nobody stands in line: 0 or errno. *is_next: the turnstile
 * is held, for who waits. */
static int
enter_at_once(int fd, bool *is_next)
{
    int error = 0;

    *is_next = byte_lock(fd, F_OFD_SETLK, F_WRLCK, TURNSTILE) == 0;
    if (!*is_next || byte_lock(fd, F_OFD_SETLK, F_WRLCK, GATE) != 0)
        error = errno;
    return error;
}

enum rota_error
lockfile_enter(struct lockfile *file, int64_t deadline)
{
    bool is_next = false;
    int error = EAGAIN;

    /* who stands in line already has these locks, or will: not twice */
    if (file->turn == NULL)
        error = enter_at_once(file->fd, &is_next);
    if ((error == EAGAIN || error == EACCES) && deadline > 0)
        return turn_take(&file->turn, file->fd, deadline);
    if (is_next)
        (void)byte_lock(file->fd, F_OFD_SETLK, F_UNLCK, TURNSTILE);
    if (error == 0)
        return ROTA_OK;
    if (error == EAGAIN || error == EACCES)
        return ROTA_BUSY;
    message_set("cannot lock the queue's lock file: %s", strerror(error));
    return ROTA_SYSTEM;
}

void
lockfile_leave(struct lockfile *file)
{
    (void)byte_lock(file->fd, F_OFD_SETLK, F_UNLCK, GATE);
}

/* Open it once more: the same file, or else it is an error. -1: words by
 * message_get(). */
static int
open_again(const struct lockfile *file)
{
    int fd =
        descriptor_above(open(file->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    struct stat st;

    if (fd < 0) {
        message_set("cannot open %s: %s", file->path, strerror(errno));
        return -1;
    }
    if (fstat(fd, &st) == 0 && st.st_dev == file->device &&
        st.st_ino == file->inode)
        return fd;
    message_set("%s was replaced by another file", file->path);
    (void)close(fd);
    return -1;
}

/* Have the descriptor that says that we live; there is one, for as many
 * processes as the file is joined as. */
static enum rota_error
live_open(struct lockfile *file)
{
    int fd;

    if (file->live.fd >= 0)
        return ROTA_OK;
    fd = open_again(file);
    if (fd < 0)
        return ROTA_SYSTEM;
    held_add(&file->live, fd);
    return ROTA_OK;
}

enum rota_error
lockfile_live(struct lockfile *file, int64_t process)
{
    off_t byte = (off_t)(FIRST_PROCESS + process);

    if (live_open(file) != ROTA_OK)
        return ROTA_SYSTEM;
    if (byte_lock(file->live.fd, F_OFD_SETLK, F_WRLCK, byte) != 0) {
        message_set("cannot lock the queue's lock file: %s", strerror(errno));
        return ROTA_SYSTEM;
    }
    atomic_store_explicit(&file->own, process, memory_order_relaxed);
    return ROTA_OK;
}

void
lockfile_unlive(struct lockfile *file)
{
    atomic_store_explicit(&file->own, 0, memory_order_relaxed);
    locks_drop(file->live.fd); /* keepers have copies of it */
    held_drop(&file->live);
}

bool
lockfile_lives(struct lockfile *file, int64_t process)
{
    struct flock lock = {.l_type = F_WRLCK,
                         .l_whence = SEEK_SET,
                         .l_start = (off_t)(FIRST_PROCESS + process),
                         .l_len = 1};

    /* one's own lock is no obstacle, so the kernel would not name it */
    if (process == atomic_load_explicit(&file->own, memory_order_relaxed))
        return true;
    return fcntl(file->fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}
