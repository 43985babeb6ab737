/*
 * Bugs, threads and the words of the last failure (base.h). Any thread; no
 * lock: the words are the thread's own.
 */
#define _GNU_SOURCE
#include "base/base.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"

void
bug(const char *what, const char *file, int line)
{
    fprintf(stderr, "rota: bug at %s:%d: %s\n", file, line, what);
    abort();
}

int
thread_start(pthread_t *ret_thread, const char *name, void *(*body)(void *arg),
             void *arg)
{
    sigset_t all, before;
    int error;

    sigfillset(&all);
    MUST(pthread_sigmask(SIG_SETMASK, &all, &before));
    error = pthread_create(ret_thread, NULL, body, arg);
    MUST(pthread_sigmask(SIG_SETMASK, &before, NULL));
    if (error == 0)
        (void)pthread_setname_np(*ret_thread, name); /* a name is a nicety */
    return error;
}

static _Thread_local char message[512];

void
message_set(const char *format, ...)
{
    /* written apart first: an argument may be message_get()'s answer */
    char text[sizeof(message)];
    va_list args;

    va_start(args, format);
    text_vprint(text, sizeof(text), format, args);
    va_end(args);
    (void)snprintf(message, sizeof(message), "%s", text);
}

const char *
message_get(void)
{
    return message;
}
