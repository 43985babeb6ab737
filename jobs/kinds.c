/* All built-in kinds, in the order in which `rota help` lists them. */
#include "jobs/jobs.h"

const struct job_kind *const job_kinds[] = {&job_exec, &job_import, &job_sql,
                                            NULL};
