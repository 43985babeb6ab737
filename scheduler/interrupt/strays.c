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

/* A tree that forks faster than we look is given up on after so many looks. */
#define LOOKS_MAX 50

/* Whether the size bytes at text, entries that end in NUL, have the entry.
 */
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

/* All that the file name of the process pid says, allocated. *ret_size is 0 if
 * it says nothing, or the process is gone or not ours. */
static char *
read_about(const char *pid, const char *name, size_t *ret_size)
{
    char path[64], *text = NULL, *grown;
    size_t size = 0, room = 0;
    ssize_t n = 1;
    int fd;

    *ret_size = 0;
    (void)snprintf(path, sizeof(path), "/proc/%.20s/%s", pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    while (n > 0) {
        if (size == room) {
            grown = realloc(text, room = room == 0 ? 8192 : 2 * room);
            if (grown == NULL)
                break;
            text = grown;
        }
        n = read(fd, text + size, room - size);
        if (n > 0)
            size += (size_t)n;
    }
    (void)close(fd);
    *ret_size = size;
    return text;
}

/* In the middle of exec() a process has memory, which tells it from a zombie
 * and from a thread of the kernel, and no environment. */
static bool
is_in_exec(const char *pid)
{
    size_t size;
    char *text = read_about(pid, "statm", &size);
    bool has_memory = size > 1 && text[0] != '0';

    free(text);
    return has_memory;
}

static bool
process_has_entry(const char *pid, const char *entry)
{
    bool found = false;
    char *text;
    size_t size;

    for (int tries = 0; tries < 100; tries++) {
        text = read_about(pid, "environ", &size);
        found = size > 0 && has_entry(text, size, entry);
        free(text);
        if (size > 0 || !is_in_exec(pid))
            break;
        (void)sched_yield();
    }
    return found;
}

/* True if it is there, and was sent signal. */
static bool
signal_if_it_has(const char *name, const char *entry, int signal)
{
    pid_t pid = (pid_t)strtol(name, NULL, 10);
    bool sent = false;
    int pidfd;

    if (pid == getpid() || !process_has_entry(name, entry))
        return false;
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return false;
    /* looked at again: the number may have become somebody else's */
    if (process_has_entry(name, entry))
        sent = syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) == 0;
    (void)close(pidfd);
    return sent;
}

int
strays_signal(const char *entry, int signal)
{
    DIR *proc = opendir("/proc");
    struct dirent *process;
    int n = 0;

    if (proc == NULL)
        return 0;
    while ((process = readdir(proc)) != NULL)
        if (isdigit((unsigned char)process->d_name[0]))
            n += signal_if_it_has(process->d_name, entry, signal);
    (void)closedir(proc);
    return n;
}

int
strays_kill(const char *entry)
{
    int first = strays_signal(entry, SIGKILL), empty = first == 0;

    for (int look = 1; look < LOOKS_MAX && empty < 2; look++) {
        /* those that were killed need a moment to be gone */
        (void)ctx_sleep(ctx_background(), ROTA_MS(1));
        empty = strays_signal(entry, SIGKILL) == 0 ? empty + 1 : 0;
    }
    return first;
}
