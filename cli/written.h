/*
 * What one run of a command has written: both of its streams, byte for byte, in
 * memory, or where it is much, in a file.
 *
 *   worker   written_new() before its command runs, written_add() meanwhile
 *   spool    keeps it until it is to be printed (spool.h)
 *   main     written_print(), written_free()
 *
 * It has one owner at a time, who calls from any thread, and no lock.
 */
#ifndef WRITTEN_H
#define WRITTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rota/scheduler.h>

struct stream {
    char *data;
    size_t size, room;
    int fd;         /* where it is instead; -1: all of it is in data */
    bool is_shared; /* others have their streams in fd, too: it is not closed */
    int64_t at;     /* where in fd it begins */
    int64_t all;    /* bytes written so far */
};

struct written {
    struct written *next; /* in the spool's list */
    int64_t job;
    enum rota_state state; /* where the run led */
    struct stream out, err;
    int error; /* errno of what kept some of it from being kept */
};

struct written *written_new(int64_t job); /* NULL: no memory */
void written_free(struct written *written);

/* Take size bytes of descriptor fd, 1 or 2. */
void written_add(struct written *written, int fd, const char *data,
                 size_t size);

/* Drop all that was written. */
void written_forget(struct written *written);

/* Move all of it out of memory, to the end of a file that many share: *fd, made
 * if it is -1, which has *end bytes so far. False: some of it could not be. */
bool written_move(struct written *written, int *fd, int64_t *end);

/* Print it on stdout and stderr. 0, or errno. */
int written_print(struct written *written);

#endif
