/*
 * Finding processes by their environment, in /proc/PID/environ, and ending
 * them.
 *
 * A number is read from /proc, and by the time it is used another process may
 * have it. So a process is signalled through a pidfd, and its environment is
 * read once more after that has been opened: then both were the same process.
 *
 * A machine has many processes, and most are strangers: whose environment may
 * not be read, or does not have the entry. Each is asked once in a search,
 * since a stray's children are strays by birth, and nobody becomes one later.
 *
 * Any thread may call. There is no lock and no state; strays_kill() sleeps.
 */
#define _GNU_SOURCE
#include "interrupt/strays.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
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
#include "interrupt/children.h"

/* A tree of processes that forks faster than we look is given up on after so
 * many looks. */
#define LOOKS_MAX 50

/* Who seems to be in the middle of exec() is looked at again so often. */
#define UNSURE_LOOKS 10

/* There is no higher number of a process: PID_MAX_LIMIT of the kernel. */
#define PID_END 4194304

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
 * nothing. NULL, with errno set: the process is gone or not ours, or there is
 * no descriptor, or no memory. */
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
    text = malloc(room); /* or errno is ENOMEM */
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
 * in the middle of exec(), or has none. It has memory then, which a zombie and
 * a thread of the kernel have not. */
static bool
has_memory(const char *pid)
{
    size_t size;
    char *text = read_about(pid, "statm", &size);
    bool has = size > 1 && text[0] != '0';

    free(text);
    return has;
}

/* UNKNOWN: we could not look, for want of a descriptor or of memory. */
enum verdict { STRANGER, STRAY, UNSURE, UNKNOWN };

static enum verdict
judge(const char *pid, const char *entry)
{
    size_t size;
    char *text = read_about(pid, "environ", &size);
    enum verdict verdict = STRANGER;

    if (size > 0 && has_entry(text, size, entry))
        verdict = STRAY;
    else if (text != NULL && size == 0 && has_memory(pid))
        verdict = UNSURE;
    else if (text == NULL && room_is_short(errno))
        verdict = UNKNOWN;
    free(text);
    return verdict;
}

/* -- A search -------------------------------------------------------------- */

struct search {
    const char *entry;
    unsigned char *strangers; /* a bit for each number; NULL: no memory */
    int looks;                /* how often all were looked at */
    int n;                    /* strays that the latest look found, */
    bool is_sure;             /* and there are no others */
};

static bool
is_stranger(const struct search *search, pid_t pid)
{
    return search->strangers != NULL && pid < PID_END &&
           (search->strangers[pid / 8] >> pid % 8 & 1) != 0;
}

/* Who is in the middle of exec() for long has no environment. */
static void
note_other(struct search *search, pid_t pid, enum verdict verdict)
{
    if (verdict == UNKNOWN ||
        (verdict == UNSURE && search->looks < UNSURE_LOOKS))
        search->is_sure = false;
    else if (search->strangers != NULL && pid < PID_END)
        search->strangers[pid / 8] |= (unsigned char)(1U << pid % 8);
}

/* Kill the process if it is a stray. */
static void
look_at(struct search *search, const char *number)
{
    pid_t pid = (pid_t)strtol(number, NULL, 10);
    enum verdict verdict;
    int pidfd;

    if (pid == getpid() || is_stranger(search, pid))
        return;
    verdict = judge(number, search->entry);
    if (verdict != STRAY) {
        note_other(search, pid, verdict);
        return;
    }
    pidfd = descriptor_above((int)syscall(SYS_pidfd_open, pid, 0));
    if (pidfd < 0) {
        search->is_sure &= errno == ESRCH;
        return;
    }
    /* asked again, as the number may have become another process's before the
     * pidfd was opened */
    if (judge(number, search->entry) == STRAY &&
        syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) == 0)
        search->n++;
    (void)close(pidfd);
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

/* Look at all that are not known to be strangers. */
static void
look(struct search *search)
{
    DIR *proc = proc_open();
    struct dirent *folder;

    search->n = 0;
    search->is_sure = proc != NULL;
    while (proc != NULL && (folder = readdir(proc)) != NULL)
        if (isdigit((unsigned char)folder->d_name[0]))
            look_at(search, folder->d_name);
    if (proc != NULL)
        (void)closedir(proc);
    search->looks++;
}

int
strays_kill(const char *entry)
{
    struct search search = {.entry = entry,
                            .strangers = calloc(PID_END / 8, 1)};
    int first, empty;

    look(&search);
    first = search.n;
    empty = first == 0 && search.is_sure;
    while (search.looks < LOOKS_MAX && empty < 2) {
        /* those that were killed are still found for a moment */
        (void)ctx_sleep(ctx_background(), ROTA_MS(1));
        look(&search);
        empty = search.n == 0 && search.is_sure ? empty + 1 : 0;
    }
    free(search.strangers);
    return first;
}
