/* KIND key=value..., made into a submission. For run.c; main thread. */
#ifndef SUBMIT_H
#define SUBMIT_H

#include "cli/cli.h"

/* Submit the job that the command line describes. CLI_OK, or a code after
 * saying why not. */
int submit(const struct cli *cli, struct rota *rota, int64_t *ret_id);

/* Check the command line, before a file is made for it. */
int submit_check(const struct cli *cli);

#endif
