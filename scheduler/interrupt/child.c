/*
 * Running a child process that ends with a context (rota/process.h).
 *
 * One thread starts the child, waits on all its descriptors with poll(), and
 * reaps it. The child's life, as `stage` counts it:
 *
 *   RUNS --ctx ends--> TOLD (TERM) --grace--> KILLED
 *     '---------------- the child ends ----------'--> ENDED: what it left
 *                                                     behind is ended
 *
 * Its group is signalled only while the child is not reaped: until then the
 * number is the group's and nobody else's. waitid() leaves it a zombie, then
 * the group is swept, then it is reaped.
 *
 * Locking: none. The hook on the context writes to an eventfd.
 */
#define _GNU_SOURCE
#include <rota/process.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "interrupt/output.h"
#include "interrupt/strays.h"

#define GRACE      ROTA_SEC(10)
#define OUTPUT_MAX 65536
/* How long what a child left behind may take to end, before it is killed. */
#define SWEEP_GRACE ROTA_MS(500)
/* How often it is looked for meanwhile. */
#define STRAYS_LOOK ROTA_MS(5)
/* A child that another thread is just starting has our descriptors, too, until
 * it comes to its exec. How long that is waited for before anybody else is
 * suspected. */
#define SIBLING_TIME ROTA_MS(10)
/* Most children end soon: in the first moments only that is waited for, and
 * what they wrote is read at once. It has room in the pipes. */
#define YOUNG_TIME ROTA_MS(2)
#define CHANNEL_FD 3

extern char **environ;

enum stage { RUNS, TOLD, KILLED, ENDED };

struct child {
    struct ctx *ctx;
    const struct rota_process *process;
    struct rota_process_result *result;
    pid_t pid;
    int pidfd, channel; /* -1: none */
    int ended;          /* the context's */
    struct output out, err;
    char line[4096]; /* from the channel, not yet whole */
    size_t line_size;
    enum stage stage;
    int64_t deadline; /* of the stage; ROTA_FOREVER: none */
    int64_t grown_at; /* is young until then */
    char tag[160];    /* ROTA_TAG=... */
};

/* The child's ends of what we share with it. */
struct ends {
    int in, out, err, channel;
};

static void
close_if_open(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static enum rota_error
fail_start(struct child *child, int code, const char *what)
{
    child->result->error = code;
    message_set("cannot start %s: %s%s%s", child->process->argv[0], what,
                what[0] != '\0' ? ": " : "", strerror(code));
    return code == ENOMEM ? ROTA_NOMEM : ROTA_SYSTEM;
}

/* -- Descriptors ----------------------------------------------------------- */

/* A pipe that is not waited for at our end, or fd itself where it goes. */
static bool
open_output(const struct rota_process *process, int number,
            struct output *output, int *ret_end)
{
    size_t max = process->output_max == 0 ? OUTPUT_MAX : process->output_max;
    int given = number == STDOUT_FILENO ? process->out_fd : process->err_fd;
    int ends[2] = {-1, -1};

    output_init(output, -1, max);
    output->fn = process->output;
    output->arg = process->arg;
    output->number = number;
    if (given > 0) {
        *ret_end = fcntl(given, F_DUPFD_CLOEXEC, CHANNEL_FD + 1);
        return *ret_end >= 0;
    }
    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    output->fd = ends[0];
    *ret_end = ends[1];
    return fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0;
}

static bool
open_input(const struct rota_process *process, int *ret_end)
{
    const char *data = process->input;
    size_t left = process->input_size;
    ssize_t n;

    if (left == 0) {
        *ret_end = open("/dev/null", O_RDONLY | O_CLOEXEC);
        return *ret_end >= 0;
    }
    *ret_end = memfd_create("rota-input", MFD_CLOEXEC);
    if (*ret_end < 0)
        return false;
    for (; left > 0; data += n, left -= (size_t)n) {
        n = write(*ret_end, data, left);
        if (n < 0)
            return false;
    }
    return lseek(*ret_end, 0, SEEK_SET) == 0;
}

static bool
open_channel(struct child *child, int *ret_end)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return false;
    child->channel = ends[0];
    *ret_end = ends[1];
    return fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0;
}

static bool
open_all(struct child *child, struct ends *ends)
{
    const struct rota_process *process = child->process;

    child->ended = ctx_fd(child->ctx);
    return child->ended >= 0 && open_input(process, &ends->in) &&
           open_output(process, STDOUT_FILENO, &child->out, &ends->out) &&
           open_output(process, STDERR_FILENO, &child->err, &ends->err) &&
           open_channel(child, &ends->channel);
}

/* -- Environment ----------------------------------------------------------- */

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

static bool
is_ours(const char *entry)
{
    return strncmp(entry, "ROTA_TAG=", 9) == 0 ||
           strncmp(entry, "ROTA_FD=", 8) == 0;
}

/* What the child's environment is: allocated, its entries not. */
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

/* posix_spawnp(): its own errors are errno numbers, those of exec included. */
static int
spawn(struct child *child, const struct ends *ends)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    const char **env = make_env(child);
    int code;

    if (env == NULL)
        return ENOMEM;
    MUST(posix_spawn_file_actions_init(&actions));
    MUST(posix_spawnattr_init(&attributes));
    code = add_actions(&actions, child, ends);
    if (code == 0)
        code = set_attributes(&attributes);
    if (code == 0)
        code = posix_spawnp(
            &child->pid, child->process->argv[0], &actions, &attributes,
            (char **)(uintptr_t)child->process->argv, (char **)(uintptr_t)env);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&actions);
    free(env);
    return code;
}

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

static void
set_limits(const struct child *child)
{
    const struct rota_process *process = child->process;

    set_limit(child->pid, RLIMIT_CPU, process->max_cpu);
    set_limit(child->pid, RLIMIT_AS, process->max_memory);
    set_limit(child->pid, RLIMIT_FSIZE, process->max_file);
    set_limit(child->pid, RLIMIT_NOFILE, process->max_files);
}

/* Why it did not start: the folder may not be one. */
static enum rota_error
explain_start(struct child *child, int code)
{
    const char *dir = child->process->dir;
    struct stat st;

    if (dir != NULL && stat(dir, &st) != 0)
        return fail_start(child, errno, dir);
    if (dir != NULL && !S_ISDIR(st.st_mode))
        return fail_start(child, ENOTDIR, dir);
    return fail_start(child, code, "");
}

static enum rota_error
start(struct child *child)
{
    struct ends ends = {-1, -1, -1, -1};
    enum rota_error error = ROTA_OK;
    int code;

    make_tag(child);
    if (!open_all(child, &ends))
        error = fail_start(child, errno, "a pipe to it");
    if (error == ROTA_OK && (code = spawn(child, &ends)) != 0)
        error = explain_start(child, code);
    close_if_open(&ends.in);
    close_if_open(&ends.out);
    close_if_open(&ends.err);
    close_if_open(&ends.channel);
    if (error != ROTA_OK)
        return error;
    set_limits(child);
    child->grown_at = ctx_now() + YOUNG_TIME;
    child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
    if (child->pidfd >= 0)
        return ROTA_OK;
    error = fail_start(child, errno, "a descriptor of it");
    (void)kill(-child->pid, SIGKILL);
    (void)waitpid(child->pid, NULL, 0);
    return error;
}

/* -- The channel ----------------------------------------------------------- */

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

/* Lines that are too long are taken in pieces. */
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

static void
read_channel(struct child *child)
{
    char data[4096];
    ssize_t n;

    while (child->channel >= 0) {
        n = recv(child->channel, data, sizeof(data), 0);
        if (n > 0) {
            take_bytes(child, data, (size_t)n);
        } else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
            if (child->line_size > 0)
                take_bytes(child, "\n", 1);
            close_if_open(&child->channel);
        } else if (errno == EAGAIN) {
            break;
        }
    }
}

/* -- Ending ---------------------------------------------------------------- */

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

/* Milliseconds until the stage's deadline, rounded up; -1: for ever. */
static int
poll_timeout(const struct child *child)
{
    int64_t left;

    if (child->deadline == ROTA_FOREVER)
        return -1;
    left = (child->deadline - ctx_now() + 999999) / 1000000;
    return left < 0 ? 0 : left > 1000000 ? 1000000 : (int)left;
}

/* Wait for news, and take what the child wrote. */
static void
attend(struct child *child)
{
    bool wants_end = child->stage == RUNS;
    bool is_young = wants_end && ctx_now() < child->grown_at;
    struct pollfd fds[] = {
        {child->stage == ENDED ? -1 : child->pidfd, POLLIN, 0},
        {wants_end ? child->ended : -1, POLLIN, 0},
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

/* Until the child has ended. */
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

/* Until nobody holds them, or deadline. */
static void
attend_until(struct child *child, int64_t deadline)
{
    child->deadline = deadline;
    while (is_held(child) && ctx_now() < deadline)
        attend(child);
}

/* End what bears the child's tag: it is asked, and when the deadline has passed
 * it is killed. */
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

    (void)output_read(&child->out);
    (void)output_read(&child->err);
    read_channel(child);
    attend_until(child, ctx_now() + SIBLING_TIME);
    child->deadline = child->result->killed ? ctx_now()
                      : child->result->told ? grace_over
                                            : ctx_now() + SWEEP_GRACE;
    if (is_held(child) || child->result->told)
        end_strays(child);
    (void)kill(-child->pid, SIGKILL);
    attend_until(child, ctx_now() + SWEEP_GRACE); /* they close any moment */
}

static int64_t
nanoseconds(struct timeval time)
{
    return ROTA_SEC((int64_t)time.tv_sec) + ROTA_US((int64_t)time.tv_usec);
}

static enum rota_error
reap(struct child *child)
{
    struct rota_process_result *result = child->result;
    struct rusage usage = {.ru_maxrss = 0};
    siginfo_t info = {.si_code = 0};

    /* raw, for it has one argument more than the library's */
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

static enum rota_error
run(struct child *child)
{
    enum rota_error error = start(child);

    if (error == ROTA_OK) {
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
                          .ended = -1,
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
        error = run(&child);
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
