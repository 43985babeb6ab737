/*
 * The built-in kinds of job: what each is called, which arguments it takes and
 * the function that runs it. They are written against the public headers only,
 * as anybody's own kinds would be.
 *
 * A kind's arguments are a JSON object of texts: {"file":"/tmp/a.csv"}; for
 * one that runs a command, see exec.c.
 */
#ifndef JOBS_H
#define JOBS_H

#include <rota.h>

enum job_key_flags {
    JOB_KEY_REQUIRED = 1 << 0,
    JOB_KEY_PATH = 1 << 1, /* made absolute by whoever submits */
    JOB_KEY_EMPTY = 1 << 2 /* an empty value means something */
};

struct job_key {
    const char *name; /* NULL after the last one */
    unsigned flags;   /* enum job_key_flags */
    const char *help;
};

struct job_kind {
    const char *name;
    rota_job_fn *fn;
    struct rota_defaults defaults;
    const char *summary;
    const struct job_key *keys;
    bool is_command; /* takes a command and its arguments instead (exec.c) */
};

/* What a command has just written, to its stdout (fd 1) or stderr (fd 2). On
 * the thread that runs the job. */
typedef void job_output_fn(void *arg, int fd, const char *data, size_t size);

/* Run exec with somebody who listens to its command: the rota_job_fn of who
 * wants to print it. */
enum rota_error job_exec_run(struct ctx *ctx, struct rota_job *job,
                             job_output_fn *output, void *arg);

/* How many open files commands have until they raise that themselves; 0: as
 * many as we. For who has raised his own; set before any job runs. */
extern int64_t job_exec_soft_files;

extern const struct job_kind job_exec;
extern const struct job_kind job_import;
extern const struct job_kind job_sql;

/* All of them; ends in NULL. */
extern const struct job_kind *const job_kinds[];

#endif
