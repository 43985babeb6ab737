/*
 * A child process while rota_process_run() sees it through: what child.c, which
 * watches and reaps it, and spawn.c, which starts it, share.
 *
 * Nobody else includes this. There is no lock: a struct child is on the stack
 * of the thread that called rota_process_run(), and only that thread uses it.
 */
#ifndef CHILD_H
#define CHILD_H

#include <sys/types.h>
#include <unistd.h>

#include <rota/process.h>

#include "interrupt/output.h"

/* How far a child's life has come; child.c draws the moves. */
enum stage { RUNS, TOLD, KILLED, ENDED };

struct child {
    struct ctx *ctx; /* when this has ended, the child has to */
    const struct rota_process *process;
    struct rota_process_result *result;
    pid_t pid;   /* also the number of its process group; 0: not started */
    int pidfd;   /* readable once it has ended; -1: not started */
    int channel; /* our end of the socket that is its descriptor 3; -1: none */
    int end_fd;  /* the context's own, readable once that has ended */
    struct output out, err;
    char line[4096]; /* what came through the channel of a line not yet whole */
    size_t line_size;
    enum stage stage;
    int64_t deadline; /* attend() waits no longer; ROTA_FOREVER: none */
    int64_t grown_at; /* until then the child is young: see YOUNG_TIME */
    char tag[160];    /* "ROTA_TAG=...", by which what it leaves is found */
};

/* Start the child: fills in pid, pidfd, channel, end_fd, out, err and tag. On
 * an error no child is left, result->error has the errno number, and what was
 * opened at our end is still open: child_run() closes it either way. Errors:
 * ROTA_NOMEM, ROTA_SYSTEM. */
ROTA_MUST_USE enum rota_error child_spawn(struct child *child);

static inline void
close_if_open(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

#endif
