/*
 * Descriptors that outlive this process in its keepers (interrupt/keeper.h).
 *
 * A lock that says "this process lives" is held by a descriptor, and the kernel
 * drops it with the last copy of that. A keeper inherits one, so that a process
 * counts as living until all that it had started has ended. No other forked
 * child has it, lest that keep its dead parent alive.
 *
 * Any thread. A lock of its own, under which no other is taken.
 */
#ifndef HELD_H
#define HELD_H

#include <sys/types.h>

#include "base/list.h"

struct held {
    int fd; /* -1: none */
    struct link on_held;
};

/* Give fd, which is not -1, to every keeper that is forked from now on. */
void held_add(struct held *held, int fd);

/* Close it here, and give it to nobody any more. Nothing if it is -1. */
void held_drop(struct held *held);

/* fork(), in whose child all of them stay open. */
pid_t held_fork(void);

/* In such a child: close all descriptors but these. It calls nothing that is
 * not async-signal-safe, and none of this file may be called afterwards. */
void held_close_others(void);

#endif
