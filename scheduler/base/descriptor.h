/*
 * Descriptors of ours never are 0, 1 or 2. A program that was started with one
 * of these closed would have a queue, a watch or a pipe of ours for its
 * standard input or output, which it and whoever it starts read and write as
 * they please. So what opens a descriptor in the library goes through here;
 * scripts/check-descriptors looks for what does not, and SQLite does the same
 * by itself. Any thread; no state.
 */
#ifndef DESCRIPTOR_H
#define DESCRIPTOR_H

#include <stdbool.h>
#include <stdio.h>

/* The lowest that is ours. */
#define DESCRIPTOR_FIRST 3

/* fd, or a duplicate that is above 2, close-on-exec, in place of one that is
 * not. -1, with errno set, if fd is -1 or there is none to be had; fd is closed
 * then. */
int descriptor_above(int fd);

/* The same for both of a pair. False, with errno set: both are closed, and -1.
 */
bool descriptor_pair_above(int pair[2]);

/* The file to be read; NULL, with errno set, if it cannot be. */
FILE *descriptor_file(const char *path);

#endif
