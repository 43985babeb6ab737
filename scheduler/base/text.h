/*
 * Which bytes may be stored as text, and how a message is made to fit. No
 * state. Any thread.
 */
#ifndef TEXT_H
#define TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* Whether size bytes are UTF-8 without a NUL. */
bool text_is_utf8(const void *data, size_t size);

/* Cut text to max bytes, which are 16 or more, if it is longer. A name that
 * somebody gave stands at the beginning of a message or in it, the reason at
 * its end, and how to go on: so it is the middle that goes, between two
 * characters, and three dots stand for it. */
void text_cut(char *text, size_t max);

/* As snprintf(), but what does not fit is cut so. */
void text_print(char *text, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void text_vprint(char *text, size_t size, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

#endif
