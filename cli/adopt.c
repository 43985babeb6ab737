/*
 * `adopt`: a copy of a queue becomes a queue of its own before anybody works on
 * it, and what had not ended when it was made runs here too, or does not. Main
 * thread; no lock.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/database.h"
#include "cli/say.h"

struct adoption {
    struct rota *rota;
    int64_t waiting, cancelled;
};

static void
say_line(void *arg, int64_t job, const char *line)
{
    (void)arg;
    (void)job;
    say("%s", line);
}

static bool
keep_number(void *arg, int n, const char *const *names,
            const struct rota_value *values)
{
    (void)n;
    (void)names;
    if (values != NULL && values[0].type == ROTA_INTEGER)
        *(int64_t *)arg = values[0].integer;
    return true;
}

/* What was cancelled is counted by what is left: the cancel of one job may have
 * cancelled others, which wait for it. */
static enum rota_error
adopt(struct adoption *adoption, const char *reason)
{
    static const char waiting[] =
        "SELECT count(*) FROM jobs WHERE finished_at IS NULL";
    int64_t before = 0;
    enum rota_error error = rota_rescue(adoption->rota);

    if (error == ROTA_OK)
        error = rota_query(NULL, adoption->rota, waiting, NULL, 0, keep_number,
                           &before);
    if (error == ROTA_OK && reason != NULL)
        error = rota_cancel_where(NULL, adoption->rota, NULL, NULL, 0, reason,
                                  NULL);
    if (error == ROTA_OK)
        error = rota_query(NULL, adoption->rota, waiting, NULL, 0, keep_number,
                           &adoption->waiting);
    adoption->cancelled = before - adoption->waiting;
    return error;
}

static void
say_adoption(const struct cli *cli, const struct adoption *adoption)
{
    if (cli->is_json)
        (void)printf("{\"schema\":1,\"waiting\":%" PRId64
                     ",\"cancelled\":%" PRId64 "}\n",
                     adoption->waiting, adoption->cancelled);
    else
        (void)printf("%s: jobs that will run here: %" PRId64
                     "; cancelled: %" PRId64 "\n",
                     cli->db, adoption->waiting, adoption->cancelled);
}

/* Open it, and have it become a queue of its own, which shows by its instance:
 * who only looks at a copy sees the original's. */
static int
adopt_open(struct cli *cli, struct adoption *adoption, bool *ret_is_copy)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    char before[64];
    int code;

    options.flags = ROTA_READONLY;
    code = database_open(cli, &options, true, &adoption->rota);
    if (code != CLI_OK)
        return code;
    (void)snprintf(before, sizeof(before), "%s", rota_instance(adoption->rota));
    (void)rota_close(adoption->rota);
    adoption->rota = NULL;
    options.flags = 0;
    options.log = say_line;
    code = database_open(cli, &options, true, &adoption->rota);
    if (code == CLI_OK)
        *ret_is_copy = strcmp(before, rota_instance(adoption->rota)) != 0;
    return code;
}

int
cli_adopt(struct cli *cli)
{
    struct adoption adoption = {.rota = NULL};
    bool cancels = strcmp(cli->words[0], "cancel") == 0, is_copy = false;
    const char *reason = cli->n_words > 1 ? cli->words[1] : "a copy";
    enum rota_error error;
    int code;

    if (!cancels && strcmp(cli->words[0], "keep") != 0)
        return say_usage("adopt: keep or cancel, and not %s", cli->words[0]);
    if (!cancels && cli->n_words > 1)
        return say_usage("adopt: only cancel takes a reason");
    code = adopt_open(cli, &adoption, &is_copy);
    if (code != CLI_OK)
        return code;
    if (is_copy) {
        error = adopt(&adoption, cancels ? reason : NULL);
        if (error == ROTA_OK)
            say_adoption(cli, &adoption);
        else
            code = say_error(adoption.rota, error);
    } else {
        code =
            say_usage("%s is no copy, or has been adopted: nothing was done; "
                      "`rota cancel` cancels jobs",
                      cli->db);
    }
    (void)rota_close(adoption.rota);
    return code;
}
