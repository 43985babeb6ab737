/*
 * The lines of a file, one after the other, from any line's offset, as UTF-8.
 * On the thread that runs the job; no lock.
 *
 * A line ends in LF, CRLF or CR. Lines are kept together from where the caller
 * says, so that one who finds at the hundredth that he should have stopped at
 * the first can go back to it without reading the file again.
 */
#ifndef LINES_H
#define LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "jobs/decoder.h"

struct ctx;

/* Bytes that are kept, at most. */
#define LINES_KEPT_MAX ((size_t)16 << 20)

struct lines {
    struct ctx *ctx;
    struct decoder decoder;
    int64_t ahead; /* bytes to leave out of what is read next */
    char *data; /* what was read: from begin to at it is kept, from at to used
                 * it is to come */
    size_t begin, at, used, room;
    size_t lf, cr;  /* where the next of each is, from at on, or where it has to
                     * be looked for */
    bool at_end;    /* there is nothing behind used */
    int64_t offset; /* in what was decoded, and */
    int64_t number; /* the number, of the line that comes next */
};

enum lines_answer {
    LINES_LINE,
    LINES_END,
    LINES_LONG, /* with the next line it is more than LINES_KEPT_MAX */
    LINES_STOPPED,
    LINES_NO_MEMORY,
    LINES_IO /* errno says what */
};

/* Read from fd, which stays the caller's, at its beginning. encoding as in
 * struct decoder. */
void lines_init(struct lines *lines, struct ctx *ctx, int fd,
                const char *encoding);
void lines_fini(struct lines *lines);

/* Keep what comes from here on, and nothing before. */
void lines_keep(struct lines *lines);

/* The next line with its end; it stands behind what is kept already. */
enum lines_answer lines_next(struct lines *lines, const char **ret_line,
                             size_t *ret_size);

/* What is kept. */
const char *lines_kept(const struct lines *lines, size_t *ret_size);

/* Go past the next line, however long it is, and keep nothing of it. */
enum lines_answer lines_skip(struct lines *lines);

/* Go back to the line with this number, which begins size bytes into what is
 * kept. */
void lines_return(struct lines *lines, size_t size, int64_t number);

/* Go on at offset, where the line with this number begins. */
bool lines_seek(struct lines *lines, int64_t offset, int64_t number);

#endif
