/*
 * See say.h. A line is put together in memory and written by one call, so that
 * lines of several threads, or of several processes, do not mix.
 */
#define _GNU_SOURCE /* open_memstream */
#include "cli/say.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/format.h"
#include "jobs/excerpt.h"

/* One line, made safe whatever words of others are in it. */
static void
say_list(const char *format, va_list args)
{
    char line[2048];
    FILE *out;
    char *text = NULL;
    size_t size = 0;

    excerpt_vprint(line, sizeof(line), format, args);
    out = open_memstream(&text, &size);
    if (out == NULL)
        return;
    (void)fputs("rota: ", out);
    format_text(out, line, strlen(line), FORMAT_SCREEN);
    (void)fputc('\n', out);
    if (fclose(out) == 0)
        (void)fwrite(text, 1, size, stderr);
    free(text);
}

void
say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say_list(format, args);
    va_end(args);
}

int
say_usage(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say_list(format, args);
    va_end(args);
    return CLI_USAGE;
}

static int
code_of(enum rota_error error)
{
    switch ((int)error) {
    case ROTA_OK:
        return CLI_OK;
    case ROTA_INVALID:
        return CLI_USAGE;
    case ROTA_NOTFOUND:
        return CLI_NOTFOUND;
    case ROTA_EXISTS: /* somebody else is at it */
    case ROTA_BUSY:
        return CLI_BUSY;
    default:
        return CLI_BROKEN;
    }
}

int
say_error(struct rota *rota, enum rota_error error)
{
    const char *message = rota_errmsg(rota);

    say("%s", message[0] != '\0' ? message : rota_strerror(error));
    return code_of(error);
}
