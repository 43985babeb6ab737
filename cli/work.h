#ifndef WORK_H
#define WORK_H

#include "cli/cli.h"

/* Say that a job was stopped with so many items done, and how to go on. */
void work_say_resume(const struct cli *cli, int64_t id, const char *items);

#endif
