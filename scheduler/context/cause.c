/*
 * Causes: why contexts ended, in words. Small, counted, never changed once
 * made. For the files of this folder; any thread, no locks.
 *
 * A sweep over a million nodes shares one cause and adds to its count once.
 * The usual causes are static, and their count stays 0, so that unrelated
 * trees that end in the usual way do not meet in one cache line.
 */
#include "context/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define USUAL(name, number, words) [number] = {.code = (name), .text = (words)},
static struct cause usual[] = {ROTA_ERRORS(USUAL)};
#undef USUAL

struct cause *
cause_usual(enum rota_error code)
{
    size_t i = (size_t)code;

    if (i >= sizeof(usual) / sizeof(usual[0]) || usual[i].text == NULL)
        i = ROTA_CANCELED; /* a number that is no error of ours */
    return &usual[i];
}

/* A cause with room for size bytes of text at *ret_text, which the caller is to
 * fill. NULL without memory. */
static struct cause *
cause_new(enum rota_error code, size_t size, char **ret_text)
{
    struct cause *cause = malloc(sizeof(*cause) + size);

    if (cause == NULL)
        return NULL;
    atomic_init(&cause->refs, 1);
    cause->code = code;
    *ret_text = (char *)(cause + 1);
    cause->text = *ret_text;
    return cause;
}

struct cause *
cause_copy(enum rota_error code, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy;
    struct cause *cause = cause_new(code, size, &copy);

    if (cause != NULL)
        memcpy(copy, text, size);
    return cause;
}

struct cause *
cause_format(enum rota_error code, const char *format, va_list args)
{
    struct cause *cause = NULL;
    va_list again;
    char *text;
    int length;

    if (format == NULL)
        return cause_usual(code);
    va_copy(again, args); /* once to measure, once to write */
    length = vsnprintf(NULL, 0, format, args);
    if (length >= 0)
        cause = cause_new(code, (size_t)length + 1, &text);
    if (cause != NULL)
        (void)vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    /* without memory the words are lost, and the code is kept */
    return cause != NULL ? cause : cause_usual(code);
}

struct cause *
cause_ref(struct cause *cause, uint32_t n)
{
    /* the caller holds a reference, so 0 means that it is static */
    if (atomic_load_explicit(&cause->refs, memory_order_relaxed) != 0)
        atomic_fetch_add_explicit(&cause->refs, n, memory_order_relaxed);
    return cause;
}

void
cause_unref(struct cause *cause)
{
    if (cause == NULL ||
        atomic_load_explicit(&cause->refs, memory_order_relaxed) == 0)
        return;
    /* acq_rel: what all other holders have read was read before it is freed */
    if (atomic_fetch_sub_explicit(&cause->refs, 1, memory_order_acq_rel) == 1)
        free(cause);
}
