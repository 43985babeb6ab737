/*
 * Running a child process that ends with a context (rota/process.h): seeing it
 * through once spawn.c has started it.
 *
 * The child has a keeper (keeper.h), which ends it and what it leaves behind,
 * and tells how it ended. Here one thread waits with poll() for the end of the
 * keeper and of the context, and takes what the child writes meanwhile:
 *
 *   RUNS --ctx ends--> TOLD
 *     '------------------'--the keeper ends--> ENDED: nothing is left
 *
 * Any thread may call, many at a time. Locking: none, as each call has its own
 * struct child. The hook on the context writes to an eventfd.
 */
#define _GNU_SOURCE
#include "interrupt/child.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/abi.h"
#include "base/base.h"
#include "interrupt/children.h"
#include "interrupt/strays.h"

/* How long what strangers write is taken once the child has ended. */
#define STRANGER_TIME ROTA_MS(500)
/* Most children end soon. So for this long only the end of the child or of the
 * context is waited for, and what the child has written by then is read in one
 * go: the pipes have room for it. */
#define YOUNG_TIME ROTA_MS(2)

/* Sizes of struct rota_process that were released and are not the present one:
 * 0.1's. */
static const size_t process_sizes[] = {SIZE_UP_TO(struct rota_process, tag), 0};

/* -- The channel ----------------------------------------------------------- */

/* Whether the line is "progress DONE" or "progress DONE TOTAL". What is below
 * 0, or too large, counts nothing. */
static bool
is_progress(const char *line, int64_t *ret_done, int64_t *ret_total)
{
    static const char word[] = "progress";
    const char *at = line + strlen(word);
    char *end;

    if (strncmp(line, word, strlen(word)) != 0 || strchr(" \t", *at) == NULL)
        return false;
    errno = 0;
    *ret_done = strtoll(at, &end, 10);
    if (end == at || errno != 0 || *ret_done < 0)
        return false;
    at = end;
    *ret_total = strtoll(at, &end, 10);
    if (end == at || errno != 0 || *ret_total < 0)
        *ret_total = -1; /* it was not said */
    return true;
}

/* One line of the child's, which is progress or else for the log. */
static void
take_line(struct child *child, const char *line)
{
    const struct rota_process *process = child->process;
    int64_t done, total;

    if (is_progress(line, &done, &total)) {
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

/* The context has ended: say so to the child, and have its keeper end it. */
static void
tell(struct child *child)
{
    char text[512];
    int n =
        snprintf(text, sizeof(text), "cancel %.480s\n", ctx_cause(child->ctx));

    keeper_announce(&child->keeper);
    if (child->channel >= 0)
        (void)send(child->channel, text, (size_t)n, MSG_NOSIGNAL);
    keeper_tell(&child->keeper);
    child->stage = TOLD;
}

/* Wait until something happens, or until timeout (milliseconds; -1: for ever)
 * is over, and take what the child wrote. What is not to be waited for has -1
 * as its descriptor. False if nothing happened. */
static bool
attend(struct child *child, int timeout)
{
    bool wants_end = child->stage == RUNS;
    bool is_young = wants_end && ctx_now() < child->grown_at;
    struct pollfd fds[] = {
        {child->stage == ENDED ? -1 : child->keeper.pidfd, POLLIN, 0},
        {wants_end ? child->end_fd : -1, POLLIN, 0},
        {is_young ? -1 : child->out.fd, POLLIN, 0},
        {is_young ? -1 : child->err.fd, POLLIN, 0},
        {is_young ? -1 : child->channel, POLLIN, 0}};

    if (poll(fds, sizeof(fds) / sizeof(fds[0]),
             is_young ? (int)(YOUNG_TIME / 1000000) : timeout) <= 0)
        return false;
    if (fds[2].revents != 0)
        (void)output_read(&child->out);
    if (fds[3].revents != 0)
        (void)output_read(&child->err);
    if (fds[4].revents != 0)
        read_channel(child);
    if (fds[0].revents != 0)
        child->stage = ENDED;
    return true;
}

/* Returns when the keeper has ended, and the child with all that it started.
 * What they wrote is taken to its end then. It has one, unless a stranger was
 * given a descriptor of theirs, and writes without pause. */
static void
see_it_through(struct child *child)
{
    int64_t enough;

    while (child->stage != ENDED) {
        if (child->stage == RUNS && ctx_done(child->ctx))
            tell(child);
        (void)attend(child, -1);
    }
    enough = ctx_now() + STRANGER_TIME;
    while (ctx_now() < enough && attend(child, 0))
        continue;
}

/* -- The result ------------------------------------------------------------ */

static int64_t
nanoseconds(struct timeval time)
{
    return ROTA_SEC((int64_t)time.tv_sec) + ROTA_US((int64_t)time.tv_usec);
}

/* How the child ended, and what it used. */
static void
take_result(struct rota_process_result *result, const struct kept *kept)
{
    if (WIFEXITED(kept->status))
        result->exit_code = WEXITSTATUS(kept->status);
    else
        result->signal = WTERMSIG(kept->status);
    result->core_dumped = WIFSIGNALED(kept->status) && WCOREDUMP(kept->status);
    result->told = kept->told;
    result->killed = kept->killed;
    result->strays = kept->strays;
    result->max_rss = (int64_t)kept->usage.ru_maxrss * 1024;
    result->user_time = nanoseconds(kept->usage.ru_utime);
    result->system_time = nanoseconds(kept->usage.ru_stime);
}

/* Somebody has killed the keeper. What it kept is nobody's any more, but most
 * of it can be found by its environment. */
static enum rota_error
lose(struct child *child)
{
    child->result->strays = strays_kill(child->tag);
    message_set("cannot learn how %s ended: the process that kept it was "
                "killed",
                child->process->argv[0]);
    return ROTA_SYSTEM;
}

/* -- All of it ------------------------------------------------------------- */

/* From the start to the end. */
static enum rota_error
child_run(struct child *child)
{
    enum rota_error error = child_spawn(child);
    bool has_room = error == ROTA_OK;
    struct kept kept;

    if (has_room) {
        room_take();
        child->grown_at = ctx_now() + YOUNG_TIME;
        see_it_through(child);
        kept = keeper_end(&child->keeper);
        if (!kept.is_over)
            error = lose(child);
        else if (kept.error != 0)
            error = child_explain(child, kept.error);
        else
            take_result(child->result, &kept);
    }
    close_if_open(&child->channel);
    child->result->out = output_end(&child->out);
    child->result->err = output_end(&child->err);
    if (has_room)
        room_give();
    return error;
}

bool
process_take(struct rota_process *ours, const struct rota_process *given)
{
    if (abi_take(ours, sizeof(*ours), given, process_sizes) &&
        ours->argv != NULL && ours->argv[0] != NULL &&
        ours->argv[0][0] != '\0' && ours->grace >= 0 && ours->soft_files >= 0)
        return true;
    message_set("a process starts as ROTA_PROCESS_INIT, has an argv, and "
                "its grace and its limits are not negative");
    return false;
}

enum rota_error
process_run(struct ctx *ctx, const struct rota_process *process, bool is_modest,
            struct rota_process_result *result)
{
    struct child child = {.ctx = ctx == NULL ? ctx_background() : ctx,
                          .process = process,
                          .is_modest = is_modest,
                          .result = result,
                          .keeper = KEEPER_NONE,
                          .channel = -1,
                          .end_fd = -1};
    bool is_late = ctx_done(child.ctx);
    enum rota_error error = ROTA_OK;

    *result = (struct rota_process_result)ROTA_PROCESS_RESULT_INIT;
    output_init(&child.out, -1, 0);
    output_init(&child.err, -1, 0);
    if (!is_late)
        error = child_run(&child);
    if (error == ROTA_OK && (result->told || is_late)) {
        message_set("%s", ctx_cause(child.ctx));
        return ctx_err(child.ctx);
    }
    return error;
}

enum rota_error
rota_process_run(struct ctx *ctx, const struct rota_process *process,
                 struct rota_process_result *ret_result)
{
    struct rota_process own;

    *ret_result = (struct rota_process_result)ROTA_PROCESS_RESULT_INIT;
    if (!process_take(&own, process))
        return ROTA_INVALID;
    return process_run(ctx, &own, false, ret_result);
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
