/* What all commands share: opening the queue, saying what went wrong. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/terminal.h"

/* One line, made safe whatever words of others are in it. */
static void
say(const char *format, va_list args)
{
    char line[2048];
    FILE *out;
    char *text = NULL;
    size_t size = 0;

    (void)vsnprintf(line, sizeof(line), format, args);
    out = open_memstream(&text, &size);
    if (out == NULL)
        return;
    (void)fputs("rota: ", out);
    text_put(out, line, strlen(line), TEXT_SCREEN);
    (void)fputc('\n', out);
    if (fclose(out) == 0)
        (void)fwrite(text, 1, size, stderr);
    free(text);
}

void
cli_say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
}

int
cli_usage(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
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
cli_fail(struct rota *rota, enum rota_error error)
{
    const char *message = rota_errmsg(rota);

    cli_say("%s", message[0] != '\0' ? message : rota_strerror(error));
    return code_of(error);
}

int
cli_close(struct rota *rota, int code)
{
    if (rota_close(rota) == ROTA_OK)
        return code;
    cli_say("quitting all the same; what did not stop will be run again");
    (void)fflush(stdout);
    _exit(code != CLI_OK ? code : CLI_BUSY);
}

int
cli_open(const struct cli *cli, struct rota_options *options, bool must_exist,
         struct rota **ret_rota)
{
    enum rota_error error;
    struct stat file;

    /* stat() and no more: to open and close the file by ourselves would drop
     * SQLite's locks on it */
    if ((must_exist || (options->flags & ROTA_READONLY) != 0) &&
        stat(cli->db, &file) != 0 && errno == ENOENT) {
        cli_say("no queue at %s: `rota add` or `rota run` makes one", cli->db);
        return CLI_NOTFOUND;
    }
    error = rota_open(cli->db, options, ret_rota);
    if (error == ROTA_OK)
        return CLI_OK;
    return cli_fail(NULL, error);
}

/* -- Words that are nearly right ----------------------------------------- */

/* How many letters must be changed, added, dropped or swapped. */
static size_t
distance(const char *a, const char *b)
{
    enum { MAX = 32 };
    size_t d[MAX + 1][MAX + 1];
    size_t n = strlen(a), m = strlen(b);

    if (n > MAX || m > MAX)
        return MAX;
    for (size_t i = 0; i <= n; i++)
        d[i][0] = i;
    for (size_t j = 0; j <= m; j++)
        d[0][j] = j;
    for (size_t i = 1; i <= n; i++)
        for (size_t j = 1; j <= m; j++) {
            size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

            best = d[i - 1][j] + 1 < best ? d[i - 1][j] + 1 : best;
            best = d[i][j - 1] + 1 < best ? d[i][j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
                a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

const char *
cli_nearest(const char *word, const char *(*next)(int i))
{
    size_t limit = strlen(word) < 4 ? 1 : 2, best = limit + 1;
    const char *nearest = NULL, *name;

    for (int i = 0; (name = next(i)) != NULL; i++) {
        size_t d = distance(word, name);

        if (d < best) {
            best = d;
            nearest = name;
        }
    }
    return nearest;
}

/* -- Time and signals ---------------------------------------------------- */

int64_t
cli_unix_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct ctx *
cli_signals(void)
{
    sigset_t signals;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGHUP);
    return ctx_with_signals(ctx_background(), &signals);
}

int
cli_signal_code(const struct ctx *ctx)
{
    const char *cause = ctx_cause(ctx);

    if (cause != NULL && strcmp(cause, "SIGTERM") == 0)
        return 128 + SIGTERM;
    if (cause != NULL && strcmp(cause, "SIGHUP") == 0)
        return 128 + SIGHUP;
    if (cause != NULL && strcmp(cause, "SIGINT") == 0)
        return 128 + SIGINT;
    return CLI_BROKEN; /* the context could not be made */
}
