/* See terminal.h. Nothing is kept here: each call asks the system. */
#define _GNU_SOURCE
#include "cli/terminal.h"

#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool
terminal_is_live(FILE *stream)
{
    const char *term = getenv("TERM");

    return isatty(fileno(stream)) && term != NULL && strcmp(term, "dumb") != 0;
}

bool
terminal_has_colour(FILE *stream)
{
    const char *no = getenv("NO_COLOR");

    return terminal_is_live(stream) && (no == NULL || no[0] == '\0');
}

bool
terminal_has_unicode(void)
{
    return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

int
terminal_columns(FILE *stream)
{
    struct winsize size;

    if (ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 80;
}
