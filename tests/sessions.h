/*
 * Sessions: stores of their own on one file, as processes have them, whose
 * steps are taken one after the other, and each step in the model too. The
 * answer must be the same, and after it every job of the file, as the public
 * views show it on another connection.
 *
 * A step is a word, "a.cancel:A": the session (a, b or c), what it does, and to
 * what. A step is one transaction. "!" behind it rolls it back; "~" lets the
 * session die in the middle of it, and go on as another process that remembers
 * what the dead one knew. Between steps a session remembers the runs that it
 * claimed, the processes that it found dead, and the jobs that it found old.
 * The list of what can be done is in deeds.c.
 */
#ifndef SESSIONS_H
#define SESSIONS_H

#include <stdbool.h>

#define SESSIONS 3

/* Open a file in the scratch folder, and the sessions on it. */
void sessions_open(void);
void sessions_close(void);

/* Forget every job and process; the sessions remember nothing. */
void sessions_reset(void);

/* Take a step, and look at every job of the file unless told not to. NULL, or
 * how the store and the model differ. */
const char *sessions_step(const char *word, bool looks);

/* What can be done, the n-th; NULL behind the last. */
const char *sessions_deed(int n);

#endif
