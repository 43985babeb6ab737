/*
 * How a message is made to fit, for jobs/ and cli/, which see nothing of
 * scheduler/. No state. Any thread.
 */
#ifndef EXCERPT_H
#define EXCERPT_H

#include <stdarg.h>
#include <stddef.h>

/* Cut text to max bytes, which are 16 or more, if it is longer. A name or an
 * item that somebody gave stands at the beginning of a message or in it, the
 * reason at its end, and how to go on: so it is the middle that goes, between
 * two characters, and three dots stand for it. */
void excerpt_cut(char *text, size_t max);

/* As snprintf(), but what does not fit is cut so. */
void excerpt_print(char *text, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void excerpt_vprint(char *text, size_t size, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

#endif
