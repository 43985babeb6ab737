/*
 * The command line, read into struct cli. One table says what each option is
 * called, which commands take it and what help says of it; getopt's tables are
 * made from it. Called by main.c, before there is a second thread.
 */
#define _GNU_SOURCE /* getopt_long */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/say.h"
#include "cli/value.h"
#include "jobs/excerpt.h"
#include "jobs/grow.h"

enum {
    SUBMITS = CLI_RUN | CLI_ADD,
    WORKS = CLI_WORK | CLI_RESUME | CLI_EACH,
    ANY = ~0
};

/* In the order of enum option_id. */
const struct cli_option cli_options[] = {
    {"db", 0, "FILE", (unsigned)ANY, "the queue's file (or set ROTA_DB)"},
    {"json", 0, NULL,
     SUBMITS | CLI_EACH | CLI_LS | CLI_SHOW | CLI_CANCEL | CLI_RETRY |
         CLI_ADOPT | CLI_SQL,
     "print JSON, one object a line"},
    {"queue", 'q', "NAME", SUBMITS,
     "put the job into this queue (default: default)"},
    {"batch", 'b', "NAME", SUBMITS | CLI_EACH | CLI_LS,
     "count, or list, jobs together; each: go on with it"},
    {"priority", 'p', "N", SUBMITS, "smaller is sooner (default: 0)"},
    {"timeout", 't', "TIME", SUBMITS | CLI_EACH, "end a run that takes longer"},
    {"deadline", 0, "TIME", SUBMITS, "end the job if it is not done by then"},
    {"attempts", 0, "N", SUBMITS, "runs that may fail (default: the kind's)"},
    {"retries", 0, "N", CLI_EACH, "run what failed again, N times at most"},
    {"null", '0', NULL, CLI_EACH, "items on standard input end in NUL"},
    {"keep-order", 'k', NULL, CLI_EACH, "print in the order of the items"},
    {"at", 0, "WHEN", CLI_ADD, "not before: 2026-01-31T14:00, 14:00, @UNIX"},
    {"in", 0, "TIME", CLI_ADD, "not before this time has passed"},
    {"jobs", 'j', "N", WORKS, "run N at once (default: one for each CPU)"},
    {"grace", 0, "TIME", CLI_WORK,
     "let running jobs end for so long when stopping (default: 5s)"},
    {"load", 0, "OBJECT", SUBMITS | CLI_WORK | CLI_RESUME,
     "know the kinds of this shared object, too"},
    {"limit", 'n', "N", CLI_LS, "list N jobs (default: 20)"},
    {"state", 's', "STATE", CLI_LS, "list jobs in this state"},
    {"all", 'a', NULL, CLI_LS, "list all jobs"},
    {"help", 'h', NULL, (unsigned)ANY, "explain"},
    {"version", 'V', NULL, (unsigned)ANY, "print the version"},
    {NULL, 0, NULL, 0, NULL}};

enum option_id {
    OPTION_DB,
    OPTION_JSON,
    OPTION_QUEUE,
    OPTION_BATCH,
    OPTION_PRIORITY,
    OPTION_TIMEOUT,
    OPTION_DEADLINE,
    OPTION_ATTEMPTS,
    OPTION_RETRIES,
    OPTION_NULL,
    OPTION_KEEP_ORDER,
    OPTION_AT,
    OPTION_IN,
    OPTION_JOBS,
    OPTION_GRACE,
    OPTION_LOAD,
    OPTION_LIMIT,
    OPTION_STATE,
    OPTION_ALL,
    OPTION_HELP,
    OPTION_VERSION,
    OPTION_END
};

_Static_assert(sizeof(cli_options) / sizeof(cli_options[0]) == OPTION_END + 1,
               "a row for every option");

/* -- Values -------------------------------------------------------------- */

/* How long something may take at most. */
static int
read_limit(const char *option, const char *text, int64_t *ret_duration)
{
    int code = value_duration(option, text, ret_duration);

    if (code == CLI_OK && *ret_duration == 0)
        return say_usage("--%s %s: nothing would ever run", option, text);
    return code;
}

static int
read_delay(const char *option, const char *text, int64_t *ret_unix_ms)
{
    int64_t duration;
    int code = value_duration(option, text, &duration);

    if (code == CLI_OK)
        *ret_unix_ms = value_now() + duration / ROTA_MS(1);
    return code;
}

static int
read_deadline(const char *option, const char *text, int64_t *ret_unix_ms)
{
    int64_t duration;
    int code = read_limit(option, text, &duration);

    if (code == CLI_OK)
        *ret_unix_ms = value_now() + duration / ROTA_MS(1);
    return code;
}

static int
read_state(const char *text, const char **ret_state)
{
    for (int i = ROTA_BLOCKED; i <= ROTA_CANCELLED; i++) {
        *ret_state = rota_state_name((enum rota_state)i);
        if (strcmp(*ret_state, text) == 0)
            return CLI_OK;
    }
    return say_usage("--state %s: blocked, scheduled, ready, running, "
                     "succeeded, failed or cancelled is needed",
                     text);
}

static int
add_load(struct cli *cli, const char *path)
{
    if (!GROW(cli->loads, cli->room_loads, cli->n_loads + 1))
        return say_error(NULL, ROTA_NOMEM);
    cli->loads[cli->n_loads++] = path;
    return CLI_OK;
}

static int
set(struct cli *cli, int id, const char *value)
{
    switch ((enum option_id)id) {
    case OPTION_DB:
        cli->db = value;
        return CLI_OK;
    case OPTION_JSON:
        cli->is_json = true;
        return CLI_OK;
    case OPTION_QUEUE:
        cli->queue = value;
        return CLI_OK;
    case OPTION_BATCH:
        cli->batch = value;
        return CLI_OK;
    case OPTION_PRIORITY:
        return value_number("priority", value, -1000000, 1000000,
                            &cli->priority);
    case OPTION_TIMEOUT:
        return read_limit("timeout", value, &cli->timeout);
    case OPTION_DEADLINE:
        return read_deadline("deadline", value, &cli->deadline);
    case OPTION_ATTEMPTS:
        return value_number("attempts", value, 1, 1000000, &cli->attempts);
    case OPTION_RETRIES:
        return value_number("retries", value, 0, 999999, &cli->retries);
    case OPTION_NULL:
        cli->is_null = true;
        return CLI_OK;
    case OPTION_KEEP_ORDER:
        cli->is_in_order = true;
        return CLI_OK;
    case OPTION_AT:
        return value_time(value, &cli->run_at);
    case OPTION_IN:
        return read_delay("in", value, &cli->run_at);
    case OPTION_JOBS:
        return value_number("jobs", value, 1, 1024, &cli->workers);
    case OPTION_GRACE:
        return value_duration("grace", value, &cli->grace);
    case OPTION_LOAD:
        return add_load(cli, value);
    case OPTION_LIMIT:
        return value_number("limit", value, 1, INT64_MAX, &cli->limit);
    case OPTION_STATE:
        return read_state(value, &cli->state);
    case OPTION_ALL:
        cli->is_all = true;
        return CLI_OK;
    case OPTION_HELP:
        cli->is_help = true;
        return CLI_OK;
    case OPTION_VERSION:
        cli->is_version = true;
        return CLI_OK;
    case OPTION_END:
        break;
    }
    return CLI_USAGE;
}

/* -- The command line ---------------------------------------------------- */

/* getopt's own tables, made from ours. */
static void
make_tables(struct option *longs, char *shorts)
{
    *shorts++ = ':'; /* a missing argument is told from an unknown option */
    for (int i = 0; i < OPTION_END; i++) {
        const struct cli_option *option = &cli_options[i];

        longs[i].name = option->name;
        longs[i].has_arg =
            option->argument != NULL ? required_argument : no_argument;
        longs[i].flag = NULL;
        longs[i].val = option->letter != 0 ? option->letter : UCHAR_MAX + i;
        if (option->letter == 0)
            continue;
        *shorts++ = option->letter;
        if (option->argument != NULL)
            *shorts++ = ':';
    }
    *shorts = '\0';
    memset(&longs[OPTION_END], 0, sizeof(longs[OPTION_END]));
}

static int
complain(int c, char **argv)
{
    char option[64];
    bool has_command = false;

    if (c == ':')
        return say_usage("%s needs a value", argv[optind - 1]);
    for (int i = 1; i < optind - 1 && !has_command; i++)
        has_command = strcmp(argv[i], "exec") == 0;
    if (optopt != 0 && optopt <= UCHAR_MAX &&
        strncmp(argv[optind - 1], "--", 2) != 0)
        (void)snprintf(option, sizeof(option), "-%c", optopt);
    else
        excerpt_print(option, sizeof(option), "%s", argv[optind - 1]);
    return say_usage("no option %s: %s", option,
                     has_command
                         ? "put -- before a command that has options"
                         : "`rota help COMMAND` lists what a command takes");
}

/* The word of the command line that getopt has just read. */
static const char *
last_word(char **argv)
{
    return argv[optind - 1] == optarg ? argv[optind - 2] : argv[optind - 1];
}

/* getopt takes the first letters of an option for the whole, which breaks when
 * another option begins so: scripts must not come to rely on it. */
static bool
is_whole(const struct option *option, char **argv)
{
    return strcspn(last_word(argv) + 2, "=") == strlen(option->name);
}

/* Read options from argv[1] on, wherever they stand; with up_to_word, only up
 * to the first word that is none. *ret_words is where the words begin. */
static int
read_options(struct cli *cli, int argc, char **argv, bool up_to_word,
             int *ret_words)
{
    struct option longs[OPTION_END + 1];
    char shorts[2 * OPTION_END + 3] = "+";
    int c, index = -1, code = CLI_OK;

    make_tables(longs, up_to_word ? shorts + 1 : shorts);
    opterr = 0;
    optind = 0; /* begin anew */
    while (code == CLI_OK &&
           (c = getopt_long(argc, argv, shorts, longs, &index)) != -1) {
        int id = 0;

        if (c == '?' || c == ':')
            return complain(c, argv);
        if (index >= 0 && !is_whole(&longs[index], argv))
            return say_usage("no option %s: did you mean --%s?",
                             last_word(argv), longs[index].name);
        index = -1;
        while (longs[id].val != c)
            id++;
        cli->given |= 1u << id;
        code = set(cli, id, optarg);
    }
    *ret_words = optind;
    return code;
}

/* The words of `each` are somebody's command, with options of its own: ours end
 * where it begins. */
int
cli_parse(struct cli *cli, int argc, char **argv)
{
    int at, words = 1, code;

    cli->grace = ROTA_SEC(5);
    cli->db = getenv("ROTA_DB");
    code = read_options(cli, argc, argv, true, &at);
    if (code == CLI_OK && at < argc)
        code = read_options(cli, argc - at, argv + at,
                            strcmp(argv[at], "each") == 0, &words);
    cli->words = argv + at;
    cli->n_words = argc - at;
    if (code != CLI_OK || at == argc)
        return code;
    argv[at + words - 1] = argv[at]; /* the command, before its words */
    cli->words += words - 1;
    cli->n_words -= words - 1;
    return CLI_OK;
}

int
cli_check(const struct cli *cli)
{
    const unsigned bit = cli->command->bit;

    for (int i = 0; i < OPTION_END; i++)
        if ((cli->given & 1u << i) != 0 && (cli_options[i].commands & bit) == 0)
            return say_usage("%s takes no --%s: see `rota help %s`",
                             cli->command->name, cli_options[i].name,
                             cli->command->name);
    if ((cli->given & 1u << OPTION_AT) != 0 &&
        (cli->given & 1u << OPTION_IN) != 0)
        return say_usage("--at and --in: one of them, please");
    if (bit != CLI_HELP && (cli->db == NULL || cli->db[0] == '\0'))
        return say_usage("which file? Say --db FILE, or set ROTA_DB");
    return CLI_OK;
}
