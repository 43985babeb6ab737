/*
 * Finding processes by what their environment says, and ending them.
 *
 * For what a child left behind, and for what a worker process left behind that
 * is dead. Any thread may call, and no lock is wanted. The calls read all of
 * /proc, and strays_kill() sleeps: hold no lock that others wait for.
 */
#ifndef STRAYS_H
#define STRAYS_H

/* Send signal (0: none) to every process whose environment has an entry that
 * begins with entry, but never to ourselves. Returns how many there are. A
 * process that was forked during the call may be missed. */
int strays_signal(const char *entry, int signal);

/* Kill these processes until twice in a row none is found: a process forked by
 * one of them may have been missed once. Returns how many there were at first.
 */
int strays_kill(const char *entry);

#endif
