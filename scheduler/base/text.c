/*
 * What is UTF-8, and messages that fit (text.h). Any thread; no state.
 */
#define _GNU_SOURCE /* vasprintf */
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The length of the UTF-8 sequence at s, of n bytes at most; 0 if there is
 * none: overlong forms, surrogates and what is past U+10FFFF are not UTF-8. */
static size_t
utf8_sequence(const unsigned char *s, size_t n)
{
    unsigned low = 0x80, high = 0xbf; /* of the second byte */
    size_t length = s[0] < 0x80                    ? 1
                    : s[0] >= 0xc2 && s[0] <= 0xdf ? 2
                    : s[0] >= 0xe0 && s[0] <= 0xef ? 3
                    : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                                   : 0;

    if (length == 0 || length > n)
        return 0;
    if (s[0] == 0xe0)
        low = 0xa0;
    else if (s[0] == 0xed)
        high = 0x9f;
    else if (s[0] == 0xf0)
        low = 0x90;
    else if (s[0] == 0xf4)
        high = 0x8f;
    for (size_t i = 1; i < length; i++) {
        if (s[i] < low || s[i] > high)
            return 0;
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

bool
text_is_utf8(const void *data, size_t size)
{
    const unsigned char *s = data;
    size_t at = 0, length;

    while (at < size) {
        length = s[at] == '\0' ? 0 : utf8_sequence(s + at, size - at);
        if (length == 0)
            return false;
        at += length;
    }
    return true;
}

/* Whether c is a byte of a character that is not its first. */
static bool
is_inside(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

void
text_cut(char *text, size_t max)
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
text_vprint(char *text, size_t size, const char *format, va_list args)
{
    char *whole;
    va_list again;
    int n;

    va_copy(again, args);
    n = vsnprintf(text, size, format, args);
    /* without memory the end is cut */
    if (n >= 0 && (size_t)n >= size && vasprintf(&whole, format, again) >= 0) {
        text_cut(whole, size - 1);
        memcpy(text, whole, strlen(whole) + 1);
        free(whole);
    }
    va_end(again);
}

void
text_print(char *text, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    text_vprint(text, size, format, args);
    va_end(args);
}
