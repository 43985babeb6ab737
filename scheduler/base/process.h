/*
 * Who a process of this machine is, beyond its number, which another one has
 * after its death. No state but a text that is read once. Any thread.
 */
#ifndef PROCESS_H
#define PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* When it was started, in the kernel's ticks since boot: with the boot and the
 * number this names one process for ever. -1: there is no such process. */
int64_t process_start_ticks(int64_t pid);

/* Whether it is stopped, by Ctrl-Z or a debugger, and does nothing until
 * somebody lets it go on. */
bool process_is_stopped(int64_t pid);

/* This boot of this machine: the kernel's random text, "" if it gives none. */
const char *process_boot(void);

#endif
