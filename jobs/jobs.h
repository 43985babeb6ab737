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
    JOB_KEY_PATH = 1 << 1 /* made absolute by whoever submits */
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

extern const struct job_kind job_exec;
extern const struct job_kind job_import;
extern const struct job_kind job_sql;

/* All of them; ends in NULL. */
extern const struct job_kind *const job_kinds[];

#endif
