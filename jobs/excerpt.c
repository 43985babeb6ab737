/* See excerpt.h. The library has the same for its own messages, base/text.c. */
#define _GNU_SOURCE /* vasprintf */
#include "jobs/excerpt.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether c is a byte of a character that is not its first. */
static bool
is_inside(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

void
excerpt_cut(char *text, size_t max)
{
    static const char dots[] = "\u2026";
    size_t size = strlen(text), head = max / 3, tail;

    if (size <= max)
        return;
    while (head > 0 && is_inside(text[head]))
        head--;
    tail = size - (max - head - strlen(dots));
    while (is_inside(text[tail]))
        tail++;
    memcpy(text + head, dots, strlen(dots));
    memmove(text + head + strlen(dots), text + tail, size - tail + 1);
}

void
excerpt_vprint(char *text, size_t size, const char *format, va_list args)
{
    char *whole;
    va_list again;
    int n;

    va_copy(again, args);
    n = vsnprintf(text, size, format, args);
    /* without memory the end is cut */
    if (n >= 0 && (size_t)n >= size && vasprintf(&whole, format, again) >= 0) {
        excerpt_cut(whole, size - 1);
        memcpy(text, whole, strlen(whole) + 1);
        free(whole);
    }
    va_end(again);
}

void
excerpt_print(char *text, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    excerpt_vprint(text, size, format, args);
    va_end(args);
}
