/*
 * The kind "exec": a command, an argv that no shell ever sees.
 *
 * Its arguments are JSON, {"argv":["convert","a b.png","c.jpg"],"dir":"/tmp"},
 * or where something in it is not UTF-8 a blob: the folder and then each
 * argument, every one ended by a NUL. dir is optional; an empty folder in a
 * blob is none.
 *
 * The job succeeds if the command exits with 0. Whatever it came to, the job's
 * result says how it ended and holds what it wrote, the first and the last 32
 * KiB of each stream. A run is the item: one that was interrupted begins anew.
 * The command finds its job in ROTA_JOB and ROTA_LEASE, and may report progress
 * as rota/process.h says.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jobs/excerpt.h"
#include "jobs/jobs.h"
#include "jobs/json.h"

extern char **environ;

int64_t job_exec_soft_files;

struct exec {
    struct rota_job *job;
    job_output_fn *output; /* NULL: nobody listens */
    void *arg;             /* its */
    json_t *object;        /* what argv points into; NULL: the arguments */
    const char **argv;     /* ends in NULL */
    const char *dir;       /* NULL: where the worker is */
    char id[48], lease[48];
    const char **env;
};

/* -- Arguments ----------------------------------------------------------- */

static enum rota_error
fail_args(struct exec *exec)
{
    return rota_job_fail(exec->job, ROTA_FATAL,
                         "exec wants {\"argv\":[\"command\",\"argument\",...]}"
                         " and may have \"dir\"");
}

/* Whether value is a text without a NUL, as an argument must be. */
static bool
is_argument(const json_t *value)
{
    return json_is_string(value) &&
           strlen(json_string_value(value)) == json_string_length(value);
}

static enum rota_error
read_json(struct exec *exec, const char *args, size_t size)
{
    json_t *argv, *dir;
    size_t n;

    exec->object = json_loadb(args, size, JSON_ALLOW_NUL, NULL);
    argv = json_is_array(exec->object) ? exec->object
                                       : json_object_get(exec->object, "argv");
    dir = json_object_get(exec->object, "dir");
    n = json_array_size(argv);
    if (n == 0 || (dir != NULL && !is_argument(dir)))
        return fail_args(exec);
    exec->argv = calloc(n + 1, sizeof(*exec->argv));
    if (exec->argv == NULL)
        return ROTA_NOMEM;
    for (size_t i = 0; i < n; i++) {
        if (!is_argument(json_array_get(argv, i)))
            return fail_args(exec);
        exec->argv[i] = json_string_value(json_array_get(argv, i));
    }
    exec->dir = json_string_value(dir);
    return ROTA_OK;
}

/* The folder and the arguments, each with its NUL. */
static enum rota_error
read_blob(struct exec *exec, const char *args, size_t size)
{
    const char *end = args + size;
    size_t n = 0;

    for (const char *at = args; at < end; at += strlen(at) + 1)
        n++;
    if (n < 2 || end[-1] != '\0')
        return fail_args(exec);
    exec->argv = calloc(n, sizeof(*exec->argv));
    if (exec->argv == NULL)
        return ROTA_NOMEM;
    exec->dir = args[0] == '\0' ? NULL : args;
    args += strlen(args) + 1;
    for (size_t i = 0; args < end; args += strlen(args) + 1)
        exec->argv[i++] = args;
    return ROTA_OK;
}

/* Ours, and which job it is. */
static enum rota_error
make_env(struct exec *exec)
{
    size_t n = 0, used = 0;

    while (environ[n] != NULL)
        n++;
    exec->env = malloc((n + 3) * sizeof(*exec->env));
    if (exec->env == NULL)
        return ROTA_NOMEM;
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], "ROTA_JOB=", 9) != 0 &&
            strncmp(environ[i], "ROTA_LEASE=", 11) != 0)
            exec->env[used++] = environ[i];
    (void)snprintf(exec->id, sizeof(exec->id), "ROTA_JOB=%" PRId64,
                   rota_job_id(exec->job));
    (void)snprintf(exec->lease, sizeof(exec->lease), "ROTA_LEASE=%" PRId64,
                   rota_job_lease(exec->job));
    exec->env[used++] = exec->id;
    exec->env[used++] = exec->lease;
    exec->env[used] = NULL;
    return ROTA_OK;
}

static enum rota_error
read_args(struct exec *exec)
{
    size_t size;
    const char *args = rota_job_args(exec->job, &size);
    enum rota_error error;

    if (size == 0)
        return fail_args(exec);
    error = args[0] == '{' || args[0] == '[' ? read_json(exec, args, size)
                                             : read_blob(exec, args, size);
    if (error == ROTA_OK && exec->argv[0][0] == '\0')
        error = fail_args(exec);
    return error == ROTA_OK ? make_env(exec) : error;
}

/* -- The result ---------------------------------------------------------- */

static int
put_bytes(json_t *object, const char *name, const char *data, size_t size)
{
    return size == 0 ? 0 : json_put_bytes(object, name, data, size);
}

/* A character that the cut between head and tail went through, or that they
 * share if nothing was dropped, must not make bytes of all: then they are put
 * together. */
static int
put_output(json_t *object, const char *name, const char *tail_name,
           const char *dropped_name, const struct rota_process_output *output)
{
    size_t both = output->head_size + output->tail_size;
    int failed;
    char *whole;

    if (output->size > (int64_t)both) {
        failed = put_bytes(object, name, output->head, output->head_size);
        failed |= put_bytes(object, tail_name, output->tail, output->tail_size);
        return failed |
               json_object_set_new(
                   object, dropped_name,
                   json_integer((json_int_t)(output->size - (int64_t)both)));
    }
    if (output->tail_size == 0)
        return put_bytes(object, name, output->head, output->head_size);
    whole = malloc(both);
    if (whole == NULL)
        return -1;
    memcpy(whole, output->head, output->head_size);
    memcpy(whole + output->head_size, output->tail, output->tail_size);
    failed = put_bytes(object, name, whole, both);
    free(whole);
    return failed;
}

static enum rota_error
say_result(struct exec *exec, const struct rota_process_result *r)
{
    json_t *object = json_object();
    int failed = object == NULL;

    if (r->exit_code >= 0)
        failed |= json_object_set_new(object, "exit_code",
                                      json_integer(r->exit_code));
    if (r->signal != 0)
        failed |=
            json_object_set_new(object, "signal", json_integer(r->signal));
    if (r->core_dumped)
        failed |= json_object_set_new(object, "core_dumped", json_true());
    if (r->told)
        failed |=
            json_object_set_new(object, "ended_by",
                                json_string(r->killed ? "rota, with SIGKILL"
                                                      : "rota, with SIGTERM"));
    if (r->strays > 0)
        failed |=
            json_object_set_new(object, "strays", json_integer(r->strays));
    failed |= put_output(object, "out", "out_tail", "out_dropped", &r->out);
    failed |= put_output(object, "err", "err_tail", "err_dropped", &r->err);
    failed |= json_object_set_new(
        object, "cpu_ms",
        json_integer((r->user_time + r->system_time) / 1000000));
    failed |= json_object_set_new(object, "max_rss", json_integer(r->max_rss));
    if (!failed)
        return json_result(exec->job, object);
    json_decref(object);
    return ROTA_NOMEM;
}

/* The last line that is not empty, cut to size - 1 bytes. */
static void
last_line(const struct rota_process_output *output, char *line, size_t size)
{
    bool has_tail = output->tail_size > 0;
    const char *data = has_tail ? output->tail : output->head;
    size_t end = has_tail ? output->tail_size : output->head_size, begin;

    while (end > 0 && strchr("\r\n \t", data[end - 1]) != NULL)
        end--;
    for (begin = end; begin > 0 && data[begin - 1] != '\n'; begin--)
        continue;
    excerpt_print(line, size, "%.*s", (int)(end - begin),
                  end > begin ? data + begin : "");
}

static enum rota_error
say_failure(struct exec *exec, const struct rota_process_result *r)
{
    char line[256];

    last_line(&r->err, line, sizeof(line));
    if (r->signal != 0)
        return rota_job_fail(
            exec->job, ROTA_FAILED, "killed by signal %d, %s%s", r->signal,
            strsignal(r->signal), r->core_dumped ? " (core dumped)" : "");
    return rota_job_fail(exec->job, ROTA_FAILED, "exit code %d%s%s",
                         r->exit_code, line[0] != '\0' ? ": " : "", line);
}

/* -- The job ------------------------------------------------------------- */

static void
on_progress(void *arg, int64_t done, int64_t total)
{
    const struct exec *exec = arg;

    if (total >= 0)
        rota_job_total(exec->job, total);
    rota_job_advance(exec->job, done);
}

static void
on_line(void *arg, const char *line)
{
    const struct exec *exec = arg;

    rota_job_log(exec->job, "%s", line);
}

static void
on_output(void *arg, int fd, const char *data, size_t size)
{
    const struct exec *exec = arg;

    exec->output(exec->arg, fd, data, size);
}

static enum rota_error
run(struct ctx *ctx, struct exec *exec)
{
    struct rota_process process = ROTA_PROCESS_INIT(exec->argv);
    struct rota_process_result result = ROTA_PROCESS_RESULT_INIT;
    enum rota_error error, said;

    process.env = exec->env;
    process.dir = exec->dir;
    process.progress = on_progress;
    process.log = on_line;
    process.output = exec->output != NULL ? on_output : NULL;
    process.arg = exec;
    process.soft_files = job_exec_soft_files;
    error = rota_job_process(exec->job, &process, &result);
    if (error == ROTA_SYSTEM) {
        /* whom nobody could start, nobody can the next time either */
        error = rota_job_fail(exec->job,
                              result.error != 0 ? ROTA_FATAL : ROTA_FAILED,
                              "%s", rota_errmsg(rota_job_rota(exec->job)));
    } else if (error == ROTA_OK || ctx_done(ctx)) {
        said = say_result(exec, &result);
        if (said != ROTA_OK)
            error = said;
        else if (error == ROTA_OK && result.exit_code != 0)
            error = say_failure(exec, &result);
    }
    rota_process_result_fini(&result);
    return error;
}

enum rota_error
job_exec_run(struct ctx *ctx, struct rota_job *job, job_output_fn *output,
             void *arg)
{
    struct exec exec = {.job = job, .output = output, .arg = arg};
    enum rota_error error = read_args(&exec);

    if (error == ROTA_OK)
        error = run(ctx, &exec);
    free(exec.env);
    free(exec.argv);
    json_decref(exec.object);
    return error;
}

static enum rota_error
exec_run(struct ctx *ctx, struct rota_job *job)
{
    return job_exec_run(ctx, job, NULL, NULL);
}

static const struct job_key keys[] = {{NULL, 0, NULL}};

const struct job_kind job_exec = {
    .name = "exec",
    .fn = exec_run,
    /* a command has 10 seconds to end by itself, and is killed then */
    .defaults = {.size = sizeof(struct rota_defaults),
                 .grace = ROTA_SEC(20),
                 .is_isolated = true},
    .summary = "run a command: exec -- COMMAND ARGUMENT...",
    .keys = keys,
    .is_command = true,
};
