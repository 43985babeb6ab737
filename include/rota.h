/*
 * rota: background jobs in C, with contexts that can say "stop" to whatever is
 * running, and every job's state in one SQLite file.
 *
 *   rota/error.h      what every call answers
 *   rota/ctx.h        contexts: cancellation, deadlines, values
 *   rota/group.h      threads, and tasks that stand or fall together
 *   rota/interrupt.h  SQL statements that a context can stop
 *   rota/io.h         poll, read, connect and so on, under a context; to be
 *                     included by itself
 *   rota/job.h        what a job can say and ask while it runs
 *   rota/process.h    child processes that a context can end
 *   rota/scheduler.h  opening a file, registering kinds, submitting, waiting
 *
 * Link with -lrota (pkg-config: rota). Everything here starts with ctx_, CTX_,
 * rota_ or ROTA_; names ending in an underscore are not for callers.
 */
#ifndef ROTA_H
#define ROTA_H

#include <rota/ctx.h>
#include <rota/error.h>
#include <rota/group.h>
#include <rota/interrupt.h>
#include <rota/job.h>
#include <rota/process.h>
#include <rota/scheduler.h>

#endif
