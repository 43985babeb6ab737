/*
 * Finding processes by what their environment says, and ending them.
 *
 * Any thread; no lock.
 */
#ifndef STRAYS_H
#define STRAYS_H

/* Send signal (0: none) to every process whose environment has an entry that
 * begins with entry, but never to ourselves. How many there are. Who has just
 * been forked may be missed. */
int strays_signal(const char *entry, int signal);

/* Kill them until none is found, twice. How many there were at first. */
int strays_kill(const char *entry);

#endif
