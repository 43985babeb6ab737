/*
 * A child process while rota_process_run() sees it through: what child.c, which
 * watches it, and spawn.c, which starts it, share.
 *
 * Nobody else includes this. There is no lock: a struct child is on the stack
 * of the thread that called rota_process_run(), and only that thread uses it.
 */
#ifndef CHILD_H
#define CHILD_H

#include <sys/types.h>
#include <unistd.h>

#include <rota/process.h>

#include "interrupt/keeper.h"
#include "interrupt/output.h"

/* How far a child's life has come; child.c draws the moves. */
enum stage { RUNS, TOLD, ENDED };

struct child {
    struct ctx *ctx; /* when this has ended, the child has to */
    const struct rota_process *process;
    bool is_modest; /* as children.h says */
    struct rota_process_result *result;
    struct keeper keeper;
    int channel; /* our end of the socket that is its descriptor 3; -1: none */
    int end_fd;  /* the context's own, readable once that has ended */
    struct output out, err;
    char line[4096]; /* what came through the channel of a line not yet whole */
    size_t line_size;
    enum stage stage;
    int64_t grown_at; /* until then the child is young: see YOUNG_TIME */
    char tag[160]; /* "ROTA_TAG=...", by which it is found if all else fails */
};

/* Start the child's keeper: fills in keeper, channel, end_fd, out, err and tag.
 * On an error no child is left, result->error has the errno number, and what
 * was opened at our end is still open: child_run() closes it either way.
 * Errors: ROTA_NOMEM, ROTA_SYSTEM. */
ROTA_MUST_USE enum rota_error child_spawn(struct child *child);

/* Say that errno number code is why the keeper could not start the child. It
 * does not tell whether the program or the folder is missing, so the folder is
 * looked at here. Errors: ROTA_NOMEM, ROTA_SYSTEM. */
ROTA_MUST_USE enum rota_error child_explain(struct child *child, int code);

static inline void
close_if_open(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

#endif
