/*
 * KIND key=value... made into a submission; `add`. Arguments are held against
 * the kind's keys before a file is opened, so that a mistyped command leaves
 * nothing behind. Called by run.c, too; main thread; no lock.
 */
#define _GNU_SOURCE
#include "cli/submit.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/database.h"
#include "cli/kinds.h"
#include "cli/say.h"
#include "jobs/utf8.h"

/* -- Arguments ----------------------------------------------------------- */

static const struct job_key *
find_key(const struct job_kind *kind, const char *name, size_t size)
{
    const struct job_key *key = kind->keys;

    for (; key->name != NULL; key++)
        if (strlen(key->name) == size && memcmp(key->name, name, size) == 0)
            return key;
    return NULL;
}

/* "file=, into= (required), table=, ..." */
static void
list_keys(const struct job_kind *kind, char *text, size_t size)
{
    size_t at = 0;

    text[0] = '\0';
    for (const struct job_key *key = kind->keys; key->name != NULL; key++) {
        int n = snprintf(text + at, size - at, "%s%s=", at > 0 ? " " : "",
                         key->name);

        if (n < 0 || (size_t)n >= size - at)
            return;
        at += (size_t)n;
    }
}

/* The value as the job will see it: jobs run in another folder than this. */
static char *
absolute(const struct job_key *key, const char *value)
{
    char *folder, *path = NULL;

    if ((key->flags & JOB_KEY_PATH) == 0 || value[0] == '/')
        return strdup(value);
    folder = getcwd(NULL, 0);
    if (folder != NULL && asprintf(&path, "%s/%s", folder, value) < 0)
        path = NULL;
    free(folder);
    return path;
}

/* An argument of a kind that does not say which it takes. */
static int
add_text(const struct job_kind *kind, const char *word, json_t *args)
{
    const char *equals = strchr(word, '=');
    char *name;
    int code = CLI_OK;

    if (equals == NULL || equals == word)
        return say_usage("%s: %s is not key=value", kind->name, word);
    if (!utf8_is_text(word, strlen(word)))
        return say_usage("%s: %s is not UTF-8", kind->name, word);
    name = strndup(word, (size_t)(equals - word));
    if (name == NULL)
        return say_error(NULL, ROTA_NOMEM);
    if (json_object_get(args, name) != NULL)
        code = say_usage("%s: %s= is given twice", kind->name, name);
    else if (json_object_set_new(args, name, json_string(equals + 1)) != 0)
        code = say_error(NULL, ROTA_NOMEM);
    free(name);
    return code;
}

static int
add_argument(const struct cli *cli, const struct job_kind *kind,
             const char *word, json_t *args)
{
    const char *equals = strchr(word, '=');
    const struct job_key *key;
    char known[256];
    char *value;
    int code = CLI_OK;

    if (kind->keys == NULL)
        return add_text(kind, word, args);
    list_keys(kind, known, sizeof(known));
    key = equals == NULL ? NULL : find_key(kind, word, (size_t)(equals - word));
    if (equals == NULL)
        return say_usage("%s: %s is not key=value; %s takes %s", kind->name,
                         word, kind->name, known);
    if (key == NULL)
        return say_usage("%s takes no %.*s=; it takes %s", kind->name,
                         (int)(equals - word), word, known);
    if (json_object_get(args, key->name) != NULL)
        return say_usage("%s: %s= is given twice", kind->name, key->name);
    if (equals[1] == '\0' && (key->flags & JOB_KEY_EMPTY) == 0)
        return say_usage("%s: %s= has no value", kind->name, key->name);
    value = absolute(key, equals + 1);
    if (value == NULL)
        return say_error(NULL, ROTA_NOMEM);
    if (!utf8_is_text(value, strlen(value)))
        code = say_usage("%s: the value of %s= is not UTF-8", kind->name,
                         key->name);
    else if ((key->flags & JOB_KEY_PATH) != 0 &&
             rota_sqlite_owns(cli->db, value))
        code = say_usage("%s: %s=%s is the queue's own file", kind->name,
                         key->name, value);
    else if (json_object_set_new(args, key->name, json_string(value)) != 0)
        code = say_error(NULL, ROTA_NOMEM);
    free(value);
    return code;
}

static int
read_command(const struct cli *cli, const struct job_kind *kind,
             char **ret_args, size_t *ret_size)
{
    char *folder;

    if (cli->n_words < 2)
        return say_usage("%s: which command? rota %s %s -- COMMAND ARGUMENT...",
                         kind->name, cli->command->name, kind->name);
    if (cli->words[1][0] == '\0')
        return say_usage("%s: the command has no name", kind->name);
    folder = getcwd(NULL, 0);
    if (folder == NULL)
        return say_error(NULL, ROTA_SYSTEM);
    *ret_args = command_encode(folder, cli->words + 1, (size_t)cli->n_words - 1,
                               NULL, ret_size);
    free(folder);
    return *ret_args != NULL ? CLI_OK : say_error(NULL, ROTA_NOMEM);
}

/* The words after KIND as a JSON object. */
static int
read_pairs(const struct cli *cli, const struct job_kind *kind, char **ret_args,
           size_t *ret_size)
{
    json_t *args = json_object();
    int code = CLI_OK;

    for (int i = 1; i < cli->n_words && code == CLI_OK; i++)
        code = add_argument(cli, kind, cli->words[i], args);
    for (const struct job_key *key = kind->keys;
         key != NULL && key->name != NULL && code == CLI_OK; key++)
        if ((key->flags & JOB_KEY_REQUIRED) != 0 &&
            json_object_get(args, key->name) == NULL)
            code = say_usage("%s: %s= is missing: %s", kind->name, key->name,
                             key->help);
    if (code == CLI_OK) {
        *ret_args = json_dumps(args, JSON_COMPACT);
        if (*ret_args == NULL)
            code = say_error(NULL, ROTA_NOMEM);
        else
            *ret_size = strlen(*ret_args);
    }
    json_decref(args);
    return code;
}

static int
read_arguments(const struct cli *cli, const struct job_kind *kind,
               char **ret_args, size_t *ret_size)
{
    return kind->is_command ? read_command(cli, kind, ret_args, ret_size)
                            : read_pairs(cli, kind, ret_args, ret_size);
}

int
submit_check(const struct cli *cli)
{
    const char *name = cli->words[0];
    const struct job_kind *kind = kinds_find(name), other = {.name = name};
    char *args = NULL;
    size_t size;
    int code;

    if (kind == NULL && cli->n_loads == 0)
        return kinds_complain(name);
    code = read_arguments(cli, kind != NULL ? kind : &other, &args, &size);
    free(args);
    return code;
}

/* -- Submitting ---------------------------------------------------------- */

int
submit(const struct cli *cli, struct rota *rota, int64_t *ret_id)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT(cli->words[0]);
    const struct job_kind *kind = kinds_find(submission.kind),
                          other = {.name = submission.kind};
    enum rota_error error;
    char *args = NULL;
    int code;

    if (kind == NULL && !rota_handles(rota, submission.kind))
        return kinds_complain(submission.kind);
    if (kind == NULL)
        kind = &other;
    code = read_arguments(cli, kind, &args, &submission.args_size);
    if (code != CLI_OK)
        return code;
    submission.args = args;
    submission.queue = cli->queue;
    submission.batch = cli->batch;
    submission.priority = cli->priority;
    submission.run_at = cli->run_at;
    submission.deadline = cli->deadline;
    submission.timeout =
        cli->timeout != 0 ? cli->timeout : kind->defaults.timeout;
    submission.max_attempts =
        cli->attempts != 0 ? (int)cli->attempts : kind->defaults.max_attempts;
    error = rota_submit(rota, &submission, ret_id);
    free(args);
    return error == ROTA_OK ? CLI_OK : say_error(rota, error);
}

int
cli_add(struct cli *cli)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    struct rota *rota = NULL;
    int64_t id = 0;
    int code = submit_check(cli);

    if (code == CLI_OK)
        code = database_open(cli, &options, false, &rota);
    if (code != CLI_OK)
        return code;
    code = kinds_load(cli, rota);
    if (code == CLI_OK)
        code = submit(cli, rota, &id);
    if (code == CLI_OK && cli->is_json)
        (void)printf("{\"schema\":1,\"id\":%" PRId64 "}\n", id);
    else if (code == CLI_OK)
        (void)printf("%" PRId64 "\n", id);
    (void)rota_close(rota);
    return code;
}
