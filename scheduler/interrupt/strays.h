/*
 * Finding processes by what their environment says, and ending them: the last
 * resort, for what was left by a keeper that somebody has killed (keeper.h).
 *
 * Any thread may call, and no lock is wanted. It reads all of /proc and sleeps:
 * hold no lock that others wait for, and do not call it where others wait.
 */
#ifndef STRAYS_H
#define STRAYS_H

/* Kill every process whose environment has an entry that begins with entry, but
 * never ourselves, until twice in a row none is found: a process forked by one
 * of them may have been missed once. Returns how many there were at first. */
int strays_kill(const char *entry);

#endif
