/* What `run` and `each` share with `work` and `resume`. Main thread. */
#ifndef WORK_H
#define WORK_H

#include <rota.h>

#include "cli/cli.h"

/* An error if the file is no longer the one that was opened: it was moved away
 * or removed, and nobody would ever put a job into what is left. */
enum rota_error work_look(struct rota *rota);

/* Say how to go on with what was stopped. */
void work_say_resume(const struct cli *cli);

#endif
