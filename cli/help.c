/* `help`: printed from the tables that the commands, their options and the
 * kinds are read from, so that it cannot differ from them. Main thread. */
#include <stdio.h>
#include <string.h>

#include "cli/kinds.h"
#include "cli/say.h"

static void
print_kind(const struct job_kind *kind)
{
    (void)printf("%s: %s\n\n", kind->name, kind->summary);
    for (const struct job_key *key = kind->keys; key->name != NULL; key++)
        (void)printf("  %s=%*s %s%s\n", key->name,
                     (int)(10 - strlen(key->name)), "", key->help,
                     (key->flags & JOB_KEY_REQUIRED) != 0 ? " (required)" : "");
}

static void
print_options(unsigned bit)
{
    for (const struct cli_option *option = cli_options; option->name != NULL;
         option++) {
        char text[64];

        if ((option->commands & bit) == 0)
            continue;
        if (option->letter != 0)
            (void)snprintf(text, sizeof(text), "-%c, --%s", option->letter,
                           option->name);
        else
            (void)snprintf(text, sizeof(text), "    --%s", option->name);
        if (option->argument != NULL)
            (void)snprintf(text + strlen(text), sizeof(text) - strlen(text),
                           " %s", option->argument);
        (void)printf("  %-22s %s\n", text, option->help);
    }
}

static void
print_command(const struct cli_command *command)
{
    /* options of each come before its words, which are somebody else's */
    bool is_first = command->bit == CLI_EACH;

    (void)printf("usage: rota %s%s%s%s%s\n  %s\n\n", command->name,
                 is_first ? " [OPTION]..." : "",
                 command->synopsis[0] != '\0' ? " " : "", command->synopsis,
                 is_first ? "" : " [OPTION]...", command->summary);
    print_options(command->bit);
    if ((command->bit & (CLI_RUN | CLI_ADD)) == 0)
        return;
    for (int i = 0; job_kinds[i] != NULL; i++) {
        (void)fputc('\n', stdout);
        print_kind(job_kinds[i]);
    }
}

static void
print_all(void)
{
    (void)fputs("rota runs jobs whose state is in one SQLite file.\n\n"
                "  rota run import file=a.csv into=b.db --db queue.db\n"
                "  rota ls --db queue.db\n\n"
                "commands\n",
                stdout);
    for (const struct cli_command *command = cli_commands;
         command->name != NULL; command++)
        (void)printf("  %-8s%-20s %s\n", command->name, command->synopsis,
                     command->summary);
    (void)fputs("\nkinds\n", stdout);
    for (int i = 0; job_kinds[i] != NULL; i++)
        (void)printf("  %-28s %s\n", job_kinds[i]->name, job_kinds[i]->summary);
    (void)fputs(
        "\nexit codes\n"
        "  0    it succeeded             5    no such job, no such file\n"
        "  1    the job failed           75   busy or locked: try again\n"
        "  2    wrong usage              124  its deadline or timeout passed\n"
        "  4    the job was cancelled    125  the file, the disk or the "
        "system\n"
        "  130, 143, 129  stopped by SIGINT, SIGTERM, SIGHUP\n\n"
        "`rota help COMMAND` says more, and rota(1) everything.\n",
        stdout);
}

int
cli_help(struct cli *cli)
{
    const char *word = cli->n_words > 0 ? cli->words[0] : NULL;
    const struct cli_command *command = cli_commands;

    if (word == NULL || strcmp(word, "help") == 0) {
        print_all();
        return CLI_OK;
    }
    while (command->name != NULL && strcmp(command->name, word) != 0)
        command++;
    if (command->name != NULL)
        print_command(command);
    else if (kinds_find(word) != NULL)
        print_kind(kinds_find(word));
    else
        return say_usage("no help for %s: `rota help` lists what there is",
                         word);
    return CLI_OK;
}
