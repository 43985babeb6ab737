/*
 * The two clocks. ctx_now() (rota/ctx.h) is the monotonic one, for waiting;
 * this is the machine's time of day, for what is stored. Any thread.
 */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

/* Unix milliseconds. Within this process it never goes back by less than a
 * second, as time servers do it; a step back of more is somebody's who sets the
 * clock right, and is followed. arg is not looked at. */
int64_t machine_clock(void *arg);

#endif
