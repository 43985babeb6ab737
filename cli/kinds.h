/*
 * The kinds of job: those built in, and those of shared objects that the
 * command line loads. For submit.c, run.c, work.c and help.c; main thread; no
 * lock.
 */
#ifndef KINDS_H
#define KINDS_H

#include "cli/cli.h"
#include "jobs/jobs.h"

/* The built-in kind called name; NULL if none is. */
const struct job_kind *kinds_find(const char *name);

/* Say that no kind is called name; CLI_USAGE. */
int kinds_complain(const char *name);

/* Have rota run the kinds of what --load names. CLI_OK, or a code after saying
 * why not. */
int kinds_load(const struct cli *cli, struct rota *rota);

/* These, and all that are built in. */
int kinds_handle(const struct cli *cli, struct rota *rota);

#endif
