/*
 * The files beside a queue's own that SQLite and rota take for a part of it,
 * because of their names alone. Whoever may put one there, in a folder that
 * many may write to, has his pages read as the queue's, and so his commands run
 * by whoever works on it. So they must be as well guarded as the file itself.
 *
 * Nor is any of them, of whatever database, for others to open: what is written
 * there is taken for pages, and to close it drops the locks that SQLite has on
 * it in this process. Nothing is opened here, therefore. No state.
 */
#ifndef COMPANIONS_H
#define COMPANIONS_H

#include <stdbool.h>

#include <rota/error.h>

/* ROTA_INVALID, after saying which and why: one of those that are there is not
 * of whom the file at path is, or others may do more with it than with that, or
 * it is no file of one name. If there is no such file yet they are held against
 * the one that would be made. */
ROTA_MUST_USE enum rota_error companions_check(const char *path);

/* Whether path is the database, or one of its companions, under whatever name;
 * what is not there is told by where it would be. Any thread. */
bool companions_have(const char *database, const char *path);

/* Make the lock file, if it is not there, for those who may use the file at
 * path. Without success that is for who opens it to say. */
void companions_make_lock(const char *path, const char *lock);

#endif
