/* KIND key=value..., made into a submission. */
#ifndef SUBMIT_H
#define SUBMIT_H

#include "cli/cli.h"
#include "jobs/jobs.h"

/* The kind called name; NULL if none is. */
const struct job_kind *submit_find_kind(const char *name);

/* Submit the job that the command line describes. CLI_OK, or a code after
 * saying why not. */
int submit(const struct cli *cli, struct rota *rota, int64_t *ret_id);

/* Check the command line, before a file is made for it. */
int submit_check(const struct cli *cli);

/* Have rota run all kinds there are. */
int submit_handle_kinds(struct rota *rota);

#endif
