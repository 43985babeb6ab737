/*
 * What a child writes, as much as is kept of it: the first bytes and the last.
 *
 * child.c and spawn.c use it. There is no lock: an output belongs to the one
 * thread that sees its child through.
 */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <rota/process.h>

#include "base/base.h"

struct output {
    struct rota_process_output kept; /* the tail is a ring until output_end() */
    size_t head_max, tail_max;       /* no more bytes than these are kept */
    size_t head_room;                /* bytes allocated at kept.head */
    size_t tail_at;                  /* where the ring's next byte goes */
    int fd;                          /* our end, which is read; -1: closed */
    /* called with what is read, kept or not, as it is read; NULL: nothing is */
    rota_process_output_fn *fn;
    void *arg;  /* fn's */
    int number; /* what the descriptor is to the child: 1 or 2 */
};

/* Read from fd, which is the output's from now on, and keep max bytes of it,
 * half of them the first. -1: there is nothing to read yet, or ever. */
void output_init(struct output *output, int fd, size_t max);

/* Take what can be read without waiting, but no more than a pipe holds, so that
 * who writes without pause does not keep the caller here. At the end of it, or
 * on an error, fd is closed. False: no memory; the bytes are counted but not
 * kept. */
bool output_read(struct output *output);

/* Close fd, put the tail in order, and give what was kept to the caller, who
 * frees it. */
struct rota_process_output output_end(struct output *output);

#endif
