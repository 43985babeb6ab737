/*
 * Starting a child process: the descriptors and the environment it is given,
 * and the keeper that starts it with them.
 *
 * child.c calls child_spawn(), once for each child. There is no lock: all of it
 * runs on the thread that is in rota_process_run(). Every descriptor is made
 * close-on-exec, so that a child which another thread starts meanwhile keeps
 * none of them beyond its exec.
 *
 * A child finds its input at 0, its output at 1 and 2, and at 3, which ROTA_FD
 * names, the channel: a socket for progress, log lines, and being told to end.
 * It leads a session of its own, with no signal blocked or ignored.
 */
#define _GNU_SOURCE
#include "interrupt/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/base.h"
#include "base/descriptor.h"
#include "interrupt/children.h"

/* How much of each output is kept unless the program says. */
#define OUTPUT_MAX 65536
/* The descriptor that is the child's end of the channel. */
#define CHANNEL_FD 3

/* So many descriptors the modest leave for others. */
#define SPARE 16

extern char **environ;

/* The child's ends of what we share with it: ours until it is started, -1 where
 * it was not opened. */
struct ends {
    int in, out, err, channel;
};

/* Say that the errno number code is why there is no child. */
static enum rota_error
fail_start(struct child *child, int code, const char *what)
{
    child->result->error = code;
    message_set("cannot start %s: %s%s%s", child->process->argv[0], what,
                what[0] != '\0' ? ": " : "", strerror(code));
    return code == ENOMEM ? ROTA_NOMEM : ROTA_SYSTEM;
}

/* -- Descriptors ----------------------------------------------------------- */

/* Where the child's output number goes: a pipe, whose other end output reads
 * without waiting, or a copy of the descriptor that the program gave. False,
 * with errno set, if that is not possible. */
static bool
open_output(const struct rota_process *process, int number,
            struct output *output, int *ret_end)
{
    size_t max = process->output_max == 0 ? OUTPUT_MAX : process->output_max;
    int given = number == STDOUT_FILENO ? process->out_fd : process->err_fd;
    int pair[2] = {-1, -1};

    output_init(output, -1, max);
    output->fn = process->output;
    output->arg = process->arg;
    output->number = number;
    if (given > 0) {
        *ret_end = fcntl(given, F_DUPFD_CLOEXEC, CHANNEL_FD + 1);
        return *ret_end >= 0;
    }
    if (pipe2(pair, O_CLOEXEC) != 0 || !descriptor_pair_above(pair))
        return false;
    output->fd = pair[0];
    *ret_end = pair[1];
    return fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0;
}

/* The child's input: a file in memory that holds all of it, so that nobody has
 * to feed a pipe. False, with errno set, if that is not possible. */
static bool
open_input(const struct rota_process *process, int *ret_end)
{
    const char *data = process->input;
    size_t left = process->input_size;
    ssize_t n;

    if (left == 0) {
        *ret_end = descriptor_above(open("/dev/null", O_RDONLY | O_CLOEXEC));
        return *ret_end >= 0;
    }
    *ret_end = descriptor_above(memfd_create("rota-input", MFD_CLOEXEC));
    if (*ret_end < 0)
        return false;
    for (; left > 0; data += n, left -= (size_t)n) {
        n = write(*ret_end, data, left);
        if (n < 0)
            return false;
    }
    return lseek(*ret_end, 0, SEEK_SET) == 0;
}

/* The channel, whose end is ours in child->channel and is never waited for.
 * False, with errno set, if that is not possible. */
static bool
open_channel(struct child *child, int *ret_end)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0 ||
        !descriptor_pair_above(pair))
        return false;
    child->channel = pair[0];
    *ret_end = pair[1];
    return fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0;
}

/* Whether there are more descriptors than we need ourselves, as seen by the
 * latest that was opened: the lowest that was free. False, with errno set. */
static bool
leaves_some(const struct child *child, const struct ends *ends)
{
    int latest =
        child->channel > ends->channel ? child->channel : ends->channel;
    struct rlimit limit;

    if (!child->is_modest || room_taken() == 0 ||
        getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
        (rlim_t)latest + SPARE < limit.rlim_cur)
        return true;
    errno = EMFILE;
    return false;
}

/* Everything the child and we share. False, with errno set, as soon as one of
 * them cannot be had; those before it are then open. */
static bool
open_all(struct child *child, struct ends *ends)
{
    const struct rota_process *process = child->process;

    if (!open_input(process, &ends->in) ||
        !open_output(process, STDOUT_FILENO, &child->out, &ends->out) ||
        !open_output(process, STDERR_FILENO, &child->err, &ends->err) ||
        !open_channel(child, &ends->channel) || !leaves_some(child, ends))
        return false;
    /* opened last: it stays open with the context, even where we fail here and
     * wait for room */
    child->end_fd = ctx_fd(child->ctx);
    return child->end_fd >= 0;
}

/* -- Environment ----------------------------------------------------------- */

/* The entry that every descendant inherits: the program's tag, or a random one.
 */
static void
make_tag(struct child *child)
{
    unsigned char bytes[16] = {0};
    int n = snprintf(child->tag, sizeof(child->tag), "ROTA_TAG=");

    if (child->process->tag != NULL) {
        (void)snprintf(child->tag + n, sizeof(child->tag) - (size_t)n, "%s",
                       child->process->tag);
        return;
    }
    (void)getrandom(bytes, sizeof(bytes), 0);
    for (size_t i = 0; i < sizeof(bytes); i++)
        n += snprintf(child->tag + n, sizeof(child->tag) - (size_t)n, "%02x",
                      bytes[i]);
}

/* True for the entries that we set, which a parent of ours may have, too. */
static bool
is_ours(const char *entry)
{
    return strncmp(entry, "ROTA_TAG=", 9) == 0 ||
           strncmp(entry, "ROTA_FD=", 8) == 0;
}

/* The child's environment. The array is allocated, and the caller frees it; its
 * entries are not. NULL: no memory. */
static const char **
make_env(struct child *child)
{
    const char *const *given = child->process->env != NULL
                                   ? child->process->env
                                   : (const char *const *)environ;
    size_t n = 0, used = 0;
    const char **env;

    while (given != NULL && given[n] != NULL)
        n++;
    env = malloc((n + 3) * sizeof(*env));
    if (env == NULL)
        return NULL;
    for (size_t i = 0; i < n; i++)
        if (!is_ours(given[i]))
            env[used++] = given[i];
    env[used++] = child->tag;
    env[used++] = "ROTA_FD=3";
    env[used] = NULL;
    return env;
}

/* -- Start ----------------------------------------------------------------- */

/* Have the child put its ends at 0 to 3 and close all others. An errno number,
 * or 0. */
static int
add_actions(posix_spawn_file_actions_t *actions, const struct child *child,
            const struct ends *ends)
{
    const char *dir = child->process->dir;
    int code = 0;

    if (dir != NULL)
        code = posix_spawn_file_actions_addchdir_np(actions, dir);
    if (code == 0)
        code = posix_spawn_file_actions_adddup2(actions, ends->in, 0);
    if (code == 0)
        code = posix_spawn_file_actions_adddup2(actions, ends->out, 1);
    if (code == 0)
        code = posix_spawn_file_actions_adddup2(actions, ends->err, 2);
    if (code == 0)
        code = posix_spawn_file_actions_adddup2(actions, ends->channel,
                                                CHANNEL_FD);
    if (code == 0)
        code =
            posix_spawn_file_actions_addclosefrom_np(actions, CHANNEL_FD + 1);
    return code;
}

/* Have the child lead a session, with all signals as they are by default. An
 * errno number, or 0. */
static int
set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t signals;
    int code;

    (void)sigfillset(&signals);
    code = posix_spawnattr_setsigdefault(attributes, &signals);
    (void)sigemptyset(&signals);
    if (code == 0)
        code = posix_spawnattr_setsigmask(attributes, &signals);
    if (code == 0)
        code = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID |
                                                        POSIX_SPAWN_SETSIGDEF |
                                                        POSIX_SPAWN_SETSIGMASK);
    return code;
}

/* Start a keeper that starts the child. 0 or an errno number. */
static int
start_keeper(struct child *child, const struct ends *ends)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    const char **env = make_env(child);
    struct order order = {.process = child->process,
                          .env = env,
                          .actions = &actions,
                          .attributes = &attributes};
    int code;

    if (env == NULL)
        return ENOMEM;
    MUST(posix_spawn_file_actions_init(&actions));
    MUST(posix_spawnattr_init(&attributes));
    code = add_actions(&actions, child, ends);
    if (code == 0)
        code = set_attributes(&attributes);
    if (code == 0)
        code = keeper_start(&child->keeper, &order);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&actions);
    free(env);
    return code;
}

enum rota_error
child_explain(struct child *child, int code)
{
    const char *dir = child->process->dir;
    struct stat st;

    if (dir != NULL && stat(dir, &st) != 0)
        return fail_start(child, errno, dir);
    if (dir != NULL && !S_ISDIR(st.st_mode))
        return fail_start(child, ENOTDIR, dir);
    return fail_start(child, code, "");
}

enum rota_error
child_spawn(struct child *child)
{
    struct ends ends = {-1, -1, -1, -1};
    enum rota_error error = ROTA_OK;
    int code;

    make_tag(child);
    if (!open_all(child, &ends))
        error = fail_start(child, errno, "a pipe to it");
    if (error == ROTA_OK && (code = start_keeper(child, &ends)) != 0)
        error = fail_start(child, code, "a process");
    close_if_open(&ends.in);
    close_if_open(&ends.out);
    close_if_open(&ends.err);
    close_if_open(&ends.channel);
    return error;
}
