/* What `run` and `each` share with `work` and `resume`. Main thread. */
#ifndef WORK_H
#define WORK_H

#include "cli/cli.h"

/* Say how to go on with what was stopped. */
void work_say_resume(const struct cli *cli);

#endif
