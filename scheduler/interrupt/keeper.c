/*
 * Keepers as we see them (keeper.h): starting one, telling it to end its
 * command, and burying it. There is no lock: a keeper belongs to the thread that
 * is in rota_process_run(), and shares with it a page, whose two flags are
 * atomics, and whose rest is read once the keeper has ended.
 */
#define _GNU_SOURCE
#include "interrupt/keeper.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "base/descriptor.h"
#include "base/held.h"

/* fork(), with no signal of the program's to be handled in the child. */
static pid_t
fork_quietly(void)
{
    sigset_t all, before;
    pid_t pid;

    (void)sigfillset(&all);
    MUST(pthread_sigmask(SIG_SETMASK, &all, &before));
    pid = held_fork();
    if (pid != 0)
        MUST(pthread_sigmask(SIG_SETMASK, &before, NULL));
    return pid;
}

static void
keeper_signal(const struct keeper *keeper, int signal)
{
    (void)syscall(SYS_pidfd_send_signal, keeper->pidfd, signal, NULL, 0);
}

/* The keeper starts nothing before it is told to, since without a descriptor
 * of it we could not see it through. */
int
keeper_start(struct keeper *keeper, const struct order *order)
{
    pid_t host = getpid();
    int code;

    keeper->kept = mmap(NULL, sizeof(*keeper->kept), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (keeper->kept == MAP_FAILED) {
        keeper->kept = NULL;
        return errno;
    }
    keeper->pid = fork_quietly();
    if (keeper->pid == 0)
        keep(keeper->kept, host, order);
    if (keeper->pid > 0)
        keeper->pidfd =
            descriptor_above((int)syscall(SYS_pidfd_open, keeper->pid, 0));
    if (keeper->pidfd >= 0) {
        atomic_store_explicit(&keeper->kept->may_start, true,
                              memory_order_release);
        keeper_signal(keeper, KEEPER_START);
        return 0;
    }
    code = errno;
    if (keeper->pid > 0)
        (void)kill(keeper->pid, SIGKILL);
    (void)keeper_end(keeper);
    keeper->pid = 0;
    return code;
}

void
keeper_announce(const struct keeper *keeper)
{
    atomic_store_explicit(&keeper->kept->shall_end, true, memory_order_release);
}

void
keeper_tell(const struct keeper *keeper)
{
    keeper_signal(keeper, KEEPER_TELL);
}

/* Where the program ignores SIGCHLD, or waits for every child that it finds,
 * waiting fails: that the keeper has ended is known by its descriptor, and the
 * page has said everything. */
struct kept
keeper_end(struct keeper *keeper)
{
    struct kept kept = {.is_over = false};
    siginfo_t info;

    while (keeper->pidfd >= 0 &&
           waitid(P_PIDFD, (id_t)keeper->pidfd, &info, WEXITED) != 0 &&
           errno == EINTR)
        continue;
    while (keeper->pidfd < 0 && keeper->pid > 0 &&
           waitpid(keeper->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    if (keeper->kept != NULL) {
        kept = *keeper->kept;
        MUST(munmap(keeper->kept, sizeof(*keeper->kept)));
    }
    if (keeper->pidfd >= 0)
        (void)close(keeper->pidfd);
    *keeper = (struct keeper)KEEPER_NONE;
    return kept;
}
