/*
 * The life of a keeper (keeper.h), in its own process:
 *
 *   waits --KEEPER_START--> the command runs --it ends--> its descendants get
 *     |                      |          |                 TERM, a while, KILL
 *   we are gone         we are gone   KEEPER_TELL           |
 *     v                      v          v                   v
 *    end               all get KILL   TERM, grace, KILL    end, once none is
 *                                     to its group         left
 *
 * It was forked by one thread of a program that may have many, so it calls
 * nothing but what is async-signal-safe: system calls, and posix_spawnp(),
 * which in the C library that this is for takes no lock and no memory. Every
 * signal is blocked in it, and those that mean something are waited for.
 *
 * The hard case is whom to signal. Processes come and go while one looks, and a
 * number that was read somewhere may be a stranger's by the time it is used. So
 * only children are signalled, which keep their numbers until they are reaped
 * here, and the groups that they are in, which keep theirs as long. A group
 * that holds a descendant holds nobody else: the command leads a session of its
 * own, and groups do not reach out of sessions, nor does one come into a
 * session but by being born in it. Who is deeper down becomes a child when its
 * parent ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <rota/ctx.h>

#include "base/base.h"
#include "base/descriptor.h"
#include "base/held.h"
#include "interrupt/keeper.h"

/* How long a command that was told to end may take, unless the program says. */
#define GRACE ROTA_SEC(10)
/* How long what it left behind may take, before it is killed. */
#define SWEEP_GRACE ROTA_MS(500)
/* While others are killed, what was missed is looked for again so soon. */
#define LOOK_AGAIN ROTA_MS(10)
/* There is no higher number of a process: PID_MAX_LIMIT of the kernel. */
#define PID_END 4194304
/* So many are remembered to have been told to end. Who is forgotten is told
 * once more. */
#define TOLD_MAX 1024

struct keeping {
    struct kept *kept;
    pid_t host;       /* our parent, as long as that lives */
    bool is_gone;     /* the thread there that started us has ended */
    pid_t command;    /* 0: not started, or reaped */
    int64_t deadline; /* when the time of grace is over; ROTA_FOREVER: none */
    /* processes that got TERM, and groups, which are negative; n_told counts
     * those that were written over, too */
    size_t n_told;
    pid_t told[TOLD_MAX];
};

/* -- Children -------------------------------------------------------------- */

enum standing { NO_CHILD, ALIVE, ZOMBIE };

static enum standing
standing_of(pid_t pid)
{
    siginfo_t info = {.si_pid = 0};

    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0)
        return NO_CHILD;
    return info.si_pid == 0 ? ALIVE : ZOMBIE;
}

/* Where it is remembered that who, a process or the negative of a group, was
 * told; NULL: nowhere. */
static pid_t *
told_find(struct keeping *keeping, pid_t who)
{
    for (size_t i = 0; i < keeping->n_told && i < TOLD_MAX; i++)
        if (keeping->told[i] == who)
            return &keeping->told[i];
    return NULL;
}

/* Remember that. False: it was told before. */
static bool
told_note(struct keeping *keeping, pid_t who)
{
    if (told_find(keeping, who) != NULL)
        return false;
    keeping->told[keeping->n_told++ % TOLD_MAX] = who;
    return true;
}

/* Reap who has ended. False: no child is left. */
static bool
bury(struct keeping *keeping)
{
    struct rusage usage;
    int status;
    pid_t pid, *told;

    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
        if (pid == keeping->command) {
            keeping->kept->status = status;
            keeping->kept->usage = usage;
            keeping->command = 0;
        }
        if ((told = told_find(keeping, pid)) != NULL)
            *told = 0; /* the number may come again */
    }
    return pid == 0 || errno != ECHILD;
}

/* Send signal, TERM or KILL, to the group that a child is in; TERM once. A
 * group of another PID namespace has no number, and then it gets it alone.
 * True if it could be sent, or is not needed. */
static bool
end_child(struct keeping *keeping, pid_t pid, int signal)
{
    enum standing standing = standing_of(pid);
    bool is_new;
    pid_t group, who;

    if (standing != ALIVE)
        return standing == ZOMBIE;
    is_new = told_note(keeping, pid);
    keeping->kept->strays += is_new;
    group = getpgid(pid);
    who = group > 1 && group != getpgrp() ? -group : pid;
    if (signal == SIGKILL && who != pid)
        (void)kill(who, SIGKILL);
    if (signal == SIGKILL)
        return kill(pid, SIGKILL) == 0;
    if (who == pid ? is_new : told_note(keeping, who)) {
        (void)kill(who, SIGTERM);
        (void)kill(who, SIGCONT);
    }
    return true;
}

/* Where the kernel does not list children, or /proc shows another namespace's,
 * every number is tried. */
static int
end_any(struct keeping *keeping, int signal)
{
    int n = 0;

    for (pid_t pid = 2; pid < PID_END; pid++)
        n += end_child(keeping, pid, signal);
    return n;
}

/* Send signal to all children. Returns how many there were to whom it could be
 * sent; one that has just become ours may be missed. */
static int
end_children(struct keeping *keeping, int signal)
{
    int fd = descriptor_above(
        open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC));
    int n = 0;
    char text[4096];
    pid_t pid = 0;
    ssize_t size;

    while (fd >= 0 && (size = read(fd, text, sizeof(text))) > 0)
        for (ssize_t i = 0; i < size; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                pid = pid * 10 + (text[i] - '0');
            } else if (pid > 0) {
                n += end_child(keeping, pid, signal);
                pid = 0;
            }
        }
    if (fd >= 0)
        (void)close(fd);
    return n > 0 ? n : end_any(keeping, signal);
}

/* -- Waiting --------------------------------------------------------------- */

static bool
is_orphan(const struct keeping *keeping)
{
    return keeping->is_gone || getppid() != keeping->host;
}

static sigset_t
heard(void)
{
    sigset_t signals;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGCHLD);
    (void)sigaddset(&signals, KEEPER_START);
    (void)sigaddset(&signals, KEEPER_TELL);
    (void)sigaddset(&signals, KEEPER_GONE);
    return signals;
}

/* Wait for a signal until deadline. What is wanted is not said by it, but by
 * the page; only that our thread in the host has ended, with others left there,
 * is told by the signal alone, which the kernel then sends in the host's name.
 */
static void
await(struct keeping *keeping, int64_t deadline)
{
    sigset_t signals = heard();
    int64_t left = deadline - ctx_now();
    struct timespec time = {.tv_sec = left < 0 ? 0 : left / 1000000000,
                            .tv_nsec = left < 0 ? 0 : left % 1000000000};
    siginfo_t info = {.si_pid = 0};
    int signal =
        sigtimedwait(&signals, &info, deadline == ROTA_FOREVER ? NULL : &time);

    if (signal == KEEPER_GONE && info.si_pid == keeping->host)
        keeping->is_gone = true;
}

/* -- Life ------------------------------------------------------------------ */

/* Apart from our parent, which tells us when it dies, and with nothing to hear
 * from anybody else. */
static void
settle(struct keeping *keeping)
{
    (void)prctl(PR_SET_NAME, "rota-keeper");
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    (void)prctl(PR_SET_PDEATHSIG, KEEPER_GONE);
    (void)signal(SIGCHLD, SIG_DFL); /* ignored, children would vanish */
    (void)setsid();
    /* the host may have died before the kernel was asked to tell us: so we look
     * first, and wait then */
    while (!atomic_load_explicit(&keeping->kept->may_start,
                                 memory_order_acquire)) {
        if (is_orphan(keeping))
            _exit(0);
        await(keeping, ROTA_FOREVER);
    }
}

/* Limit what the command may use to max, or to what is our own limit if that is
 * less; max <= 0: leave it. A limit that cannot be set is done without. */
static void
set_limit(pid_t pid, int which, int64_t max)
{
    struct rlimit limit = {(rlim_t)max, (rlim_t)max}, ours;

    if (max <= 0)
        return;
    if (prlimit(pid, (enum __rlimit_resource)which, NULL, &ours) == 0 &&
        ours.rlim_max < limit.rlim_max)
        limit.rlim_cur = limit.rlim_max = ours.rlim_max;
    (void)prlimit(pid, (enum __rlimit_resource)which, &limit, NULL);
}

/* How many files the command may have open until it raises that itself: it has
 * the limit from us, at its birth. */
static void
lower_files(int64_t soft_files)
{
    struct rlimit limit;

    if (soft_files <= 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
        (rlim_t)soft_files > limit.rlim_max)
        return;
    limit.rlim_cur = (rlim_t)soft_files;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* 0, or an errno number. */
static int
start(struct keeping *keeping, const struct order *order)
{
    const struct rota_process *process = order->process;
    int code;

    lower_files(process->soft_files);
    code = posix_spawnp(&keeping->command, process->argv[0], order->actions,
                        order->attributes, (char **)(uintptr_t)process->argv,
                        (char **)(uintptr_t)order->env);
    if (code != 0) {
        keeping->command = 0;
        return code;
    }
    set_limit(keeping->command, RLIMIT_CPU, process->max_cpu);
    set_limit(keeping->command, RLIMIT_AS, process->max_memory);
    set_limit(keeping->command, RLIMIT_FSIZE, process->max_file);
    set_limit(keeping->command, RLIMIT_NOFILE, process->max_files);
    return 0;
}

/* Kill until nobody is left, or nobody that we may kill. */
static void
kill_all(struct keeping *keeping)
{
    while (bury(keeping) && end_children(keeping, SIGKILL) > 0)
        await(keeping, ctx_now() + LOOK_AGAIN);
}

static bool
shall_end(const struct keeping *keeping)
{
    return atomic_load_explicit(&keeping->kept->shall_end,
                                memory_order_acquire);
}

/* Have it end: who was stopped acts on TERM only when continued. It is not
 * reaped, so that its number is its group's. If it has ended already, it had
 * heard of it in another way. */
static void
tell(struct keeping *keeping, int64_t grace)
{
    if (keeping->command != 0) {
        (void)kill(-keeping->command, SIGTERM);
        (void)kill(-keeping->command, SIGCONT);
    }
    keeping->kept->told = true;
    keeping->deadline = saturating_add(ctx_now(), grace == 0 ? GRACE : grace);
}

/* See the command through to its end. */
static void
attend(struct keeping *keeping, int64_t grace)
{
    while (bury(keeping) && keeping->command != 0 && !is_orphan(keeping)) {
        if (!keeping->kept->told && shall_end(keeping))
            tell(keeping, grace);
        await(keeping, keeping->deadline);
        if (ctx_now() >= keeping->deadline) {
            (void)kill(-keeping->command, SIGKILL);
            keeping->kept->killed = true;
            keeping->deadline = ROTA_FOREVER;
        }
    }
    if (!keeping->kept->told && shall_end(keeping))
        tell(keeping, grace);
}

/* End what it left, within what is left of its time of grace, or a while. */
static void
sweep(struct keeping *keeping)
{
    int64_t deadline = keeping->kept->killed ? ctx_now()
                       : keeping->kept->told ? keeping->deadline
                                             : ctx_now() + SWEEP_GRACE;

    while (bury(keeping) && !is_orphan(keeping) && ctx_now() < deadline) {
        (void)end_children(keeping, SIGTERM);
        await(keeping, deadline);
    }
    kill_all(keeping);
}

void
keep(struct kept *kept, pid_t host, const struct order *order)
{
    struct keeping keeping; /* not zeroed: that would copy pages */

    keeping.kept = kept;
    keeping.host = host;
    keeping.is_gone = false;
    keeping.command = 0;
    keeping.deadline = ROTA_FOREVER;
    keeping.n_told = 0;
    settle(&keeping);
    kept->error = start(&keeping, order);
    held_close_others();
    if (kept->error == 0) {
        attend(&keeping, order->process->grace);
        sweep(&keeping);
    }
    kept->is_over = true;
    _exit(0);
}
