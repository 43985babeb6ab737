/*
 * The built-in kinds of job: what each is called, which arguments it takes and
 * the function that runs it. They are written against the public headers only,
 * as anybody's own kinds would be.
 *
 * A kind's arguments are a JSON object of texts: {"file":"/tmp/a.csv"}.
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
};

extern const struct job_kind job_import;

/* All of them; ends in NULL. */
extern const struct job_kind *const job_kinds[];

#endif
