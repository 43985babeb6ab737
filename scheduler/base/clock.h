/*
 * The two clocks. ctx_now() (rota/ctx.h) is the monotonic one, for waiting;
 * this is the machine's time of day, for what is stored. Any thread.
 */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

/* Unix milliseconds. Small steps back, of up to a second, are what time servers
 * do, and are not seen in this process: the clock stands still until it has
 * caught up. A larger one is made by somebody who sets the clock right, and is
 * followed. arg is not looked at. */
int64_t machine_clock(void *arg);

#endif
