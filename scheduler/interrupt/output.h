/* What a child writes, as much as is kept of it: the first bytes and the last.
 * One thread. */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <rota/process.h>

#include "base/base.h"

struct output {
    struct rota_process_output kept; /* the tail is a ring until output_end() */
    size_t head_max, head_room, tail_max;
    size_t tail_at; /* where the ring's next byte goes */
    int fd;         /* -1: closed */
    /* who is told of what is read; NULL: nobody */
    rota_process_output_fn *fn;
    void *arg;
    int number; /* what the descriptor is to the child */
};

void output_init(struct output *output, int fd, size_t max);

/* Take what can be read without waiting. At the end of it, or on an error, fd
 * is closed. False: no memory; the bytes are counted but not kept. */
bool output_read(struct output *output);

/* Close, and put the tail in order. */
struct rota_process_output output_end(struct output *output);

#endif
