/*
 * Finding processes by their environment, in /proc/PID/environ, and ending
 * them.
 *
 * A number is read from /proc, and by the time it is used another process may
 * have it. So a process is signalled through a pidfd, and its environment is
 * read once more after that has been opened: then both were the same process.
 *
 * Any thread may call. There is no lock and no state; strays_kill() sleeps.
 */
#define _GNU_SOURCE
#include "interrupt/strays.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <rota/ctx.h>

#include "base/descriptor.h"
#include "base/grow.h"

/* A tree of processes that forks faster than we look is given up on after so
 * many looks. */
#define LOOKS_MAX 50

/* How often the environment of a process in the middle of exec() is read. */
#define TRIES_MAX 100

/* With how much room a file in /proc is read at first: most fit. */
#define ROOM 8192

/* True if one of the entries in the size bytes at text, which end in NUL each,
 * begins with entry. */
static bool
has_entry(const char *text, size_t size, const char *entry)
{
    size_t length = strlen(entry);

    while (size >= length) {
        size_t own = strnlen(text, size);

        if (own >= length && memcmp(text, entry, length) == 0)
            return true;
        if (own == size)
            return false;
        text += own + 1;
        size -= own + 1;
    }
    return false;
}

/* All that /proc/PID/NAME says; the caller frees it. *ret_size is 0 if it says
 * nothing, or the process is gone or not ours, or there is no memory. */
static char *
read_about(const char *pid, const char *name, size_t *ret_size)
{
    char path[64], *text;
    size_t size = 0, room = ROOM;
    ssize_t n = 1;
    int fd;

    *ret_size = 0;
    (void)snprintf(path, sizeof(path), "/proc/%.20s/%s", pid, name);
    fd = descriptor_above(open(path, O_RDONLY | O_CLOEXEC));
    if (fd < 0)
        return NULL;
    text = malloc(room);
    while (text != NULL && n > 0 && grow(text, size, room)) {
        n = read(fd, text + size, room - size);
        if (n > 0)
            size += (size_t)n;
    }
    (void)close(fd);
    *ret_size = size;
    return text;
}

/* True for a process of whose environment nothing could be read because it is
 * in the middle of exec(). It has memory then, which a zombie and a thread of
 * the kernel have not. */
static bool
is_in_exec(const char *pid)
{
    size_t size;
    char *text = read_about(pid, "statm", &size);
    bool has_memory = size > 1 && text[0] != '0';

    free(text);
    return has_memory;
}

/* True if pid's environment has an entry that begins with entry. Who is in the
 * middle of exec() is asked again. */
static bool
process_has_entry(const char *pid, const char *entry)
{
    bool found = false;
    char *text;
    size_t size;

    for (int tries = 0; tries < TRIES_MAX; tries++) {
        text = read_about(pid, "environ", &size);
        found = size > 0 && has_entry(text, size, entry);
        free(text);
        if (size > 0 || !is_in_exec(pid))
            break;
        (void)sched_yield();
    }
    return found;
}

/* Send signal to the process if its environment has the entry. True if it was
 * sent. */
static bool
signal_if_it_has(const char *number, const char *entry, int signal)
{
    pid_t pid = (pid_t)strtol(number, NULL, 10);
    bool sent = false;
    int pidfd;

    if (pid == getpid() || !process_has_entry(number, entry))
        return false;
    pidfd = descriptor_above((int)syscall(SYS_pidfd_open, pid, 0));
    if (pidfd < 0)
        return false;
    /* asked again, as the number may have become another process's before the
     * pidfd was opened */
    if (process_has_entry(number, entry))
        sent = syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) == 0;
    (void)close(pidfd);
    return sent;
}

static DIR *
proc_open(void)
{
    int fd =
        descriptor_above(open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    DIR *proc = fd < 0 ? NULL : fdopendir(fd);

    if (proc == NULL && fd >= 0)
        (void)close(fd);
    return proc;
}

int
strays_signal(const char *entry, int signal)
{
    DIR *proc = proc_open();
    struct dirent *folder;
    int n = 0;

    if (proc == NULL)
        return 0;
    while ((folder = readdir(proc)) != NULL)
        if (isdigit((unsigned char)folder->d_name[0]))
            n += signal_if_it_has(folder->d_name, entry, signal);
    (void)closedir(proc);
    return n;
}

int
strays_kill(const char *entry)
{
    int first = strays_signal(entry, SIGKILL), empty = first == 0;

    for (int look = 1; look < LOOKS_MAX && empty < 2; look++) {
        /* those that were killed are still found for a moment */
        (void)ctx_sleep(ctx_background(), ROTA_MS(1));
        empty = strays_signal(entry, SIGKILL) == 0 ? empty + 1 : 0;
    }
    return first;
}
