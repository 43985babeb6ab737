/*
 * The command's beginning and end: which command the words name, and what the
 * process ends with. It has one thread until the command starts workers.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "cli/cli.h"
#include "cli/nearest.h"
#include "cli/say.h"
#include "jobs/jobs.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unreleased"
#endif

const struct cli_command cli_commands[] = {
    {"run", CLI_RUN, "KIND key=value...", 1, -1,
     "submit a job, run it here and wait for it", cli_run},
    {"each", CLI_EACH, "COMMAND {}... [::: ITEM...]", 0, -1,
     "run a command for each item", cli_each},
    {"add", CLI_ADD, "KIND key=value...", 1, -1,
     "submit a job and print its id", cli_add},
    {"work", CLI_WORK, "", 0, 0, "run jobs until told to stop", cli_work},
    {"resume", CLI_RESUME, "", 0, 0, "run what is left, and end", cli_resume},
    {"ls", CLI_LS, "", 0, 0, "list jobs, newest first", cli_ls},
    {"show", CLI_SHOW, "ID", 1, 1, "everything about a job", cli_show},
    {"cancel", CLI_CANCEL, "ID [REASON]", 1, 2, "cancel a job", cli_cancel},
    {"retry", CLI_RETRY, "ID...", 1, -1, "run jobs again that have ended",
     cli_retry},
    {"adopt", CLI_ADOPT, "keep | cancel [REASON]", 1, 2,
     "make a copy of a queue a queue of its own", cli_adopt},
    {"sql", CLI_SQL, "QUERY", 1, 1, "read the queue with one SQL statement",
     cli_sql},
    {"help", CLI_HELP, "[COMMAND|KIND]", 0, 1, "explain", cli_help},
    {NULL, 0, NULL, 0, 0, NULL, NULL}};

static const char *
command_name(int i)
{
    return cli_commands[i].name;
}

static int
find_command(struct cli *cli)
{
    const char *word = cli->n_words > 0 ? cli->words[0] : NULL;
    const struct cli_command *command = cli_commands;
    const char *nearest;

    if (word == NULL)
        return say_usage("which command? `rota help` lists them");
    while (command->name != NULL && strcmp(command->name, word) != 0)
        command++;
    if (command->name == NULL) {
        nearest = nearest_name(word, command_name);
        if (nearest != NULL)
            return say_usage("no command %s: did you mean %s?", word, nearest);
        return say_usage("no command %s: `rota help` lists them", word);
    }
    cli->command = command;
    cli->words++;
    cli->n_words--;
    return CLI_OK;
}

static int
check_words(const struct cli *cli)
{
    const struct cli_command *command = cli->command;

    if (cli->n_words < command->min_words)
        return say_usage("usage: rota %s %s", command->name, command->synopsis);
    if (command->max_words >= 0 && cli->n_words > command->max_words)
        return say_usage("%s: one word too many: %s (usage: rota %s%s%s)",
                         command->name, cli->words[command->max_words],
                         command->name, command->synopsis[0] ? " " : "",
                         command->synopsis);
    return CLI_OK;
}

static int
dispatch(struct cli *cli, int argc, char **argv)
{
    int code = cli_parse(cli, argc, argv);

    if (code != CLI_OK)
        return code;
    if (cli->is_version) {
        (void)printf("rota %s\n", PACKAGE_VERSION);
        return CLI_OK;
    }
    if (cli->is_help)
        return cli_help(cli);
    code = find_command(cli);
    if (code == CLI_OK)
        code = cli_check(cli);
    if (code == CLI_OK)
        code = check_words(cli);
    return code == CLI_OK ? cli->command->fn(cli) : code;
}

/* Whether nobody reads stdout any more. Not asked of errno: the write that
 * failed is long past. */
static bool
is_reader_gone(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};

    return poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
}

/* What was printed must have arrived: a full disk is a failure, a reader that
 * left (head) is one without words, as SIGPIPE would be. */
static int
close_stdout(int code)
{
    bool has_failed = ferror(stdout) != 0;

    if (fflush(stdout) == 0 && !has_failed && fclose(stdout) == 0)
        return code;
    if (is_reader_gone())
        return 128 + SIGPIPE;
    say("cannot write the output%s%s", has_failed ? "" : ": ",
        has_failed ? "" : strerror(errno));
    return CLI_BROKEN;
}

/* A write to a reader that left fails, and so does one beyond the largest file
 * there may be (ulimit -f); that a child ended wakes nobody but who waits for
 * it. */
static void
set_signals(void)
{
    sigset_t child;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    (void)sigemptyset(&child);
    (void)sigaddset(&child, SIGCHLD);
    (void)pthread_sigmask(SIG_BLOCK, &child, NULL);
}

/* A standard descriptor that is closed would be given to the next file that is
 * opened, which then is read for items, or has messages written into it. So
 * /dev/null takes its place, opened the wrong way round: to read from it, or to
 * write to it, fails as if it were closed. */
static bool
fill_standard(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            return false;
    return true;
}

/* Many commands at once want many descriptors. Few are given as a rule, for
 * programs that use select(), and more may be had for the asking. The commands
 * find what we found. */
static void
raise_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
        limit.rlim_cur == limit.rlim_max)
        return;
    job_exec_soft_files = (int64_t)limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        job_exec_soft_files = 0;
}

int
main(int argc, char **argv)
{
    struct cli cli;
    int code;

    if (!fill_standard())
        return CLI_BROKEN; /* and no way to say so */
    (void)setlocale(LC_CTYPE, "");
    set_signals();
    raise_files();
    memset(&cli, 0, sizeof(cli));
    code = dispatch(&cli, argc, argv);
    free(cli.loads);
    return close_stdout(code);
}
