/*
 * Running a child process that ends with a context (rota/process.h): seeing it
 * through once spawn.c has started it, and reaping it.
 *
 * One thread starts the child, waits on all its descriptors with poll(), and
 * reaps it. The child's life, as `stage` counts it:
 *
 *   RUNS --ctx ends--> TOLD (TERM) --grace--> KILLED
 *     '---------------- the child ends ----------'--> ENDED: what it left
 *                                                     behind is ended
 *
 * Its group is signalled only while the child is not reaped: until then the
 * number is the group's and nobody else's. The poll() on its pidfd leaves it a
 * zombie, then the group is swept, then it is reaped.
 *
 * Any thread may call, many at a time. Locking: none, as each call has its own
 * struct child. The hook on the context writes to an eventfd.
 */
#define _GNU_SOURCE
#include "interrupt/child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/base.h"
#include "interrupt/strays.h"

/* How long a child that was told to end may take, unless the program says. */
#define GRACE ROTA_SEC(10)
/* How long what a child left behind may take to end, before it is killed. */
#define SWEEP_GRACE ROTA_MS(500)
/* How often what is left behind is looked for meanwhile. */
#define STRAYS_LOOK ROTA_MS(5)
/* A child that another thread is just starting has our descriptors, too, until
 * it comes to its exec. How long that is waited for before anybody else is
 * suspected of holding them. */
#define SIBLING_TIME ROTA_MS(10)
/* Most children end soon. So for this long only the end of the child or of the
 * context is waited for, and what the child has written by then is read in one
 * go: the pipes have room for it. */
#define YOUNG_TIME ROTA_MS(2)

/* -- The channel ----------------------------------------------------------- */

/* One line of the child's, which is progress or else for the log. */
static void
take_line(struct child *child, const char *line)
{
    const struct rota_process *process = child->process;
    long long done, total = -1;

    if (sscanf(line, "progress %lld %lld", &done, &total) >= 1) {
        if (process->progress != NULL)
            process->progress(process->arg, done, total);
    } else if (process->log != NULL) {
        process->log(process->arg, line);
    }
}

/* Put the bytes together to lines. A line that is too long is taken in pieces.
 */
static void
take_bytes(struct child *child, const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (data[i] != '\n' && data[i] != '\0')
            child->line[child->line_size++] = data[i];
        if (data[i] == '\n' || child->line_size == sizeof(child->line) - 1) {
            child->line[child->line_size] = '\0';
            child->line_size = 0;
            take_line(child, child->line);
        }
    }
}

/* Take what has come through the channel, without waiting, but no more than
 * fits here at a time: who writes without pause must not keep us from looking
 * at the context. Close it when the other end is closed. */
static void
read_channel(struct child *child)
{
    char data[4096];
    ssize_t n;

    if (child->channel < 0)
        return;
    n = recv(child->channel, data, sizeof(data), 0);
    if (n > 0) {
        take_bytes(child, data, (size_t)n);
    } else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
        if (child->line_size > 0)
            take_bytes(child, "\n", 1);
        close_if_open(&child->channel);
    }
}

/* -- Ending ---------------------------------------------------------------- */

/* The context has ended: say so to the child, and begin its time of grace. A
 * process that was stopped acts on TERM only when it is continued. */
static void
tell(struct child *child)
{
    char text[512];
    int n =
        snprintf(text, sizeof(text), "cancel %.480s\n", ctx_cause(child->ctx));
    int64_t grace = child->process->grace;

    if (child->channel >= 0)
        (void)send(child->channel, text, (size_t)n, MSG_NOSIGNAL);
    (void)kill(-child->pid, SIGTERM);
    (void)kill(-child->pid, SIGCONT);
    child->result->told = true;
    child->stage = TOLD;
    child->deadline = saturating_add(ctx_now(), grace == 0 ? GRACE : grace);
}

/* The time of grace is over. */
static void
kill_group(struct child *child)
{
    (void)kill(-child->pid, SIGKILL);
    child->result->killed = true;
    child->stage = KILLED;
    child->deadline = ROTA_FOREVER;
}

/* Whether somebody still holds a descriptor that the child was given. */
static bool
is_held(const struct child *child)
{
    return child->out.fd >= 0 || child->err.fd >= 0 || child->channel >= 0;
}

/* Milliseconds until child->deadline, rounded up; -1: for ever. */
static int
poll_timeout(const struct child *child)
{
    int64_t left;

    if (child->deadline == ROTA_FOREVER)
        return -1;
    left = (child->deadline - ctx_now() + 999999) / 1000000;
    return left < 0 ? 0 : left > 1000000 ? 1000000 : (int)left;
}

/* Wait until something happens or the deadline has come, and take what the
 * child wrote. What is not to be waited for has -1 as its descriptor. */
static void
attend(struct child *child)
{
    bool wants_end = child->stage == RUNS;
    bool is_young = wants_end && ctx_now() < child->grown_at;
    struct pollfd fds[] = {
        {child->stage == ENDED ? -1 : child->pidfd, POLLIN, 0},
        {wants_end ? child->end_fd : -1, POLLIN, 0},
        {is_young ? -1 : child->out.fd, POLLIN, 0},
        {is_young ? -1 : child->err.fd, POLLIN, 0},
        {is_young ? -1 : child->channel, POLLIN, 0}};

    if (poll(fds, sizeof(fds) / sizeof(fds[0]),
             is_young ? (int)(YOUNG_TIME / 1000000) : poll_timeout(child)) <= 0)
        return;
    if (fds[2].revents != 0)
        (void)output_read(&child->out);
    if (fds[3].revents != 0)
        (void)output_read(&child->err);
    if (fds[4].revents != 0)
        read_channel(child);
    if (fds[0].revents != 0)
        child->stage = ENDED;
}

/* Returns when the child has ended. It is a zombie then. */
static void
see_it_through(struct child *child)
{
    while (child->stage != ENDED) {
        if (child->stage == RUNS && ctx_done(child->ctx))
            tell(child);
        if (child->stage == TOLD && ctx_now() >= child->deadline)
            kill_group(child);
        attend(child);
    }
}

/* Take what is written until nobody holds the descriptors that the child was
 * given, or until deadline. */
static void
attend_until(struct child *child, int64_t deadline)
{
    child->deadline = deadline;
    while (is_held(child) && ctx_now() < deadline)
        attend(child);
}

/* End what bears the child's tag: it gets TERM, and what is left of it when
 * child->deadline has come is killed. */
static void
end_strays(struct child *child)
{
    int64_t deadline = child->deadline;
    int n = strays_signal(child->tag, SIGTERM);

    child->result->strays = n;
    if (n > 0)
        (void)strays_signal(child->tag, SIGCONT);
    while (n > 0 && ctx_now() < deadline) {
        child->deadline = ctx_now() + STRAYS_LOOK;
        attend(child);
        n = strays_signal(child->tag, 0);
    }
    (void)strays_kill(child->tag);
}

/* The child is a zombie. End what it left: its group, which has its number as
 * long as it is not reaped, and what bears its tag. */
static void
sweep(struct child *child)
{
    int64_t grace_over = child->deadline;

    attend_until(child, ctx_now() + SIBLING_TIME);
    child->deadline = child->result->killed ? ctx_now()
                      : child->result->told ? grace_over
                                            : ctx_now() + SWEEP_GRACE;
    if (is_held(child) || child->result->told)
        end_strays(child);
    (void)kill(-child->pid, SIGKILL);
    /* the dead close their descriptors any moment */
    attend_until(child, ctx_now() + SWEEP_GRACE);
}

static int64_t
nanoseconds(struct timeval time)
{
    return ROTA_SEC((int64_t)time.tv_sec) + ROTA_US((int64_t)time.tv_usec);
}

/* Take the zombie away, and note how it ended and what it used. */
static enum rota_error
reap(struct child *child)
{
    struct rota_process_result *result = child->result;
    struct rusage usage = {.ru_maxrss = 0};
    siginfo_t info = {.si_code = 0};

    /* the system call itself: it has an argument, for what the child used, that
     * the C library's waitid() lacks */
    while (syscall(SYS_waitid, P_PIDFD, child->pidfd, &info, WEXITED, &usage) !=
           0) {
        if (errno == EINTR)
            continue;
        message_set("cannot learn how %s ended: %s. This program ignores "
                    "SIGCHLD, or waits for children that are not its own",
                    child->process->argv[0], strerror(errno));
        return ROTA_SYSTEM;
    }
    if (info.si_code == CLD_EXITED)
        result->exit_code = info.si_status;
    else
        result->signal = info.si_status;
    result->core_dumped = info.si_code == CLD_DUMPED;
    result->max_rss = (int64_t)usage.ru_maxrss * 1024;
    result->user_time = nanoseconds(usage.ru_utime);
    result->system_time = nanoseconds(usage.ru_stime);
    return ROTA_OK;
}

/* -- All of it ------------------------------------------------------------- */

/* From the start to the reaping. */
static enum rota_error
child_run(struct child *child)
{
    enum rota_error error = child_spawn(child);

    if (error == ROTA_OK) {
        child->grown_at = ctx_now() + YOUNG_TIME;
        see_it_through(child);
        sweep(child);
        error = reap(child);
    }
    close_if_open(&child->pidfd);
    close_if_open(&child->channel);
    child->result->out = output_end(&child->out);
    child->result->err = output_end(&child->err);
    return error;
}

enum rota_error
rota_process_run(struct ctx *ctx, const struct rota_process *process,
                 struct rota_process_result *ret_result)
{
    struct child child = {.ctx = ctx == NULL ? ctx_background() : ctx,
                          .process = process,
                          .result = ret_result,
                          .pidfd = -1,
                          .channel = -1,
                          .end_fd = -1,
                          .deadline = ROTA_FOREVER};
    enum rota_error error;

    *ret_result = (struct rota_process_result)ROTA_PROCESS_RESULT_INIT;
    if (process->size != sizeof(*process) || process->argv == NULL ||
        process->argv[0] == NULL || process->argv[0][0] == '\0' ||
        process->grace < 0) {
        message_set("a process starts as ROTA_PROCESS_INIT, has an argv, and "
                    "its grace is not negative");
        return ROTA_INVALID;
    }
    output_init(&child.out, -1, 0);
    output_init(&child.err, -1, 0);
    if (!ctx_done(child.ctx))
        error = child_run(&child);
    else
        error = ROTA_OK;
    if (error == ROTA_OK &&
        (ret_result->told || (ctx_done(child.ctx) && child.pid == 0))) {
        message_set("%s", ctx_cause(child.ctx));
        return ctx_err(child.ctx);
    }
    return error;
}

void
rota_process_result_fini(struct rota_process_result *result)
{
    free(result->out.head);
    free(result->out.tail);
    free(result->err.head);
    free(result->err.tail);
    *result = (struct rota_process_result)ROTA_PROCESS_RESULT_INIT;
}
