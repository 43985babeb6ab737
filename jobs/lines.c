/*
 * See lines.h. The file is read in large pieces into one buffer, in which the
 * next LF and the next CR are remembered: a file that has but one of the two
 * would else be searched to its end for the other at each line. The context is
 * polled before each read, so that no file is so odd that it is read for long
 * without it.
 */
#define _GNU_SOURCE
#include "jobs/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rota/ctx.h>

#include "jobs/grow.h"

enum { PIECE = 256 << 10 };

void
lines_init(struct lines *lines, struct ctx *ctx, int fd, const char *encoding)
{
    *lines = (struct lines){.ctx = ctx, .number = 1};
    decoder_init(&lines->decoder, fd, encoding);
}

void
lines_fini(struct lines *lines)
{
    decoder_fini(&lines->decoder);
    free(lines->data);
}

void
lines_keep(struct lines *lines)
{
    lines->begin = lines->at;
}

const char *
lines_kept(const struct lines *lines, size_t *ret_size)
{
    *ret_size = lines->at - lines->begin;
    return lines->data + lines->begin;
}

bool
lines_seek(struct lines *lines, int64_t offset, int64_t number)
{
    lines->begin = lines->at = lines->used = lines->lf = lines->cr = 0;
    lines->at_end = false;
    lines->offset = offset;
    lines->number = number;
    return decoder_seek(&lines->decoder, offset, &lines->ahead);
}

void
lines_return(struct lines *lines, size_t size, int64_t number)
{
    size_t at = lines->begin + size;

    lines->offset -= (int64_t)(lines->at - at);
    lines->number = number;
    lines->at = lines->lf = lines->cr = at;
}

/* -- Reading --------------------------------------------------------------- */

/* Drop what is not kept, and have room for a piece. */
static bool
make_room(struct lines *lines)
{
    size_t gone = lines->begin;

    if (gone > 0) {
        memmove(lines->data, lines->data + gone, lines->used - gone);
        lines->begin = 0;
        lines->at -= gone;
        lines->used -= gone;
        lines->lf = lines->lf > gone ? lines->lf - gone : 0;
        lines->cr = lines->cr > gone ? lines->cr - gone : 0;
    }
    return GROW(lines->data, lines->room, lines->used + PIECE);
}

/* Read a piece. LINES_END: there is none. */
static enum lines_answer
fill(struct lines *lines)
{
    size_t gone;
    ssize_t n;

    if (!make_room(lines))
        return LINES_NO_MEMORY;
    do {
        char *data = lines->data + lines->used;

        if (ctx_done(lines->ctx))
            return LINES_STOPPED;
        n = decoder_read(&lines->decoder, data, PIECE);
        if (n < 0)
            return errno == ENOMEM ? LINES_NO_MEMORY : LINES_IO;
        gone = n < lines->ahead ? (size_t)n : (size_t)lines->ahead;
        if (gone > 0)
            memmove(data, data + gone, (size_t)n - gone);
        lines->ahead -= (int64_t)gone;
        lines->used += (size_t)n - gone;
    } while (n > 0 && (size_t)n == gone);
    lines->at_end = n == 0;
    return n > 0 ? LINES_LINE : LINES_END;
}

/* Where the next c is; used if it is not there yet. *at_c remembers. */
static size_t
find(const struct lines *lines, size_t *at_c, char c)
{
    const char *found;

    if (*at_c < lines->at)
        *at_c = lines->at;
    if (*at_c < lines->used && lines->data[*at_c] != c) {
        found = memchr(lines->data + *at_c, c, lines->used - *at_c);
        *at_c = found != NULL ? (size_t)(found - lines->data) : lines->used;
    }
    return *at_c;
}

/* Whether the next line is there with its end, or without one at the end of
 * the file. Then *ret_end is behind it. */
static bool
is_whole(struct lines *lines, size_t *ret_end)
{
    size_t lf = find(lines, &lines->lf, '\n');
    size_t cr = find(lines, &lines->cr, '\r');

    if (lf < cr)
        *ret_end = lf + 1;
    else if (cr + 1 < lines->used)
        *ret_end = cr + (lf == cr + 1 ? 2 : 1);
    else
        *ret_end = lines->used; /* a CR there may be half of a CRLF */
    return *ret_end < lines->used || lf + 1 == lines->used || lines->at_end;
}

/* A byte order mark is no part of the first line. */
static enum lines_answer
skip_mark(struct lines *lines)
{
    enum lines_answer answer = LINES_LINE;

    while (answer == LINES_LINE && lines->used - lines->at < 3)
        answer = fill(lines);
    if (lines->used - lines->at >= 3 &&
        memcmp(lines->data + lines->at, "\xef\xbb\xbf", 3) == 0) {
        lines->at += 3;
        lines->offset += 3;
        lines_keep(lines);
    }
    return answer == LINES_END ? LINES_LINE : answer;
}

static void
take(struct lines *lines, size_t end)
{
    lines->offset += (int64_t)(end - lines->at);
    lines->at = end;
    lines->number++;
}

enum lines_answer
lines_next(struct lines *lines, const char **ret_line, size_t *ret_size)
{
    enum lines_answer answer = LINES_LINE;
    size_t end;

    if (lines->offset == 0)
        answer = skip_mark(lines);
    while (answer == LINES_LINE && !is_whole(lines, &end)) {
        if (lines->used - lines->begin > LINES_KEPT_MAX)
            return LINES_LONG;
        answer = fill(lines);
    }
    if (answer == LINES_END)
        end = lines->used;
    else if (answer != LINES_LINE)
        return answer;
    if (end == lines->at)
        return LINES_END;
    if (end - lines->begin > LINES_KEPT_MAX)
        return LINES_LONG;
    *ret_line = lines->data + lines->at;
    *ret_size = end - lines->at;
    take(lines, end);
    return LINES_LINE;
}

enum lines_answer
lines_skip(struct lines *lines)
{
    enum lines_answer answer = LINES_LINE;
    size_t end;

    while (!is_whole(lines, &end)) {
        /* the last byte may be a CR, whose LF is still to come */
        size_t last = lines->used > lines->at ? lines->used - 1 : lines->at;

        lines->offset += (int64_t)(last - lines->at);
        lines->at = last;
        lines_keep(lines);
        answer = fill(lines);
        if (answer != LINES_LINE && answer != LINES_END)
            return answer;
    }
    if (end == lines->at)
        return LINES_END;
    take(lines, end);
    lines_keep(lines);
    return LINES_LINE;
}
