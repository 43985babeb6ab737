/* `retry`: jobs that have ended, run again. Main thread; no lock. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/database.h"
#include "cli/say.h"
#include "cli/value.h"
#include "jobs/excerpt.h"

/* All ids are read before the first job is touched. */
static int
parse_all(const struct cli *cli)
{
    int64_t id;
    int code = CLI_OK;

    for (int i = 0; code == CLI_OK && i < cli->n_words; i++)
        code = value_id(cli->words[i], &id);
    return code;
}

static bool
keep_cause(void *arg, int n, const char *const *names,
           const struct rota_value *values)
{
    (void)n;
    (void)names;
    if (values != NULL && values[0].type == ROTA_TEXT)
        excerpt_print(arg, 256, "%s", values[0].data);
    return true;
}

/* A job that waits for another, which has failed, is cancelled again at once:
 * why, or "". */
static enum rota_error
why_not(struct rota *rota, int64_t id, char cause[256])
{
    struct rota_value value = {.type = ROTA_INTEGER, .integer = id};

    cause[0] = '\0';
    return rota_query(NULL, rota,
                      "SELECT cause FROM jobs"
                      " WHERE id = ?1 AND state = 'cancelled'",
                      &value, 1, keep_cause, cause);
}

static int
retry(struct cli *cli, struct rota *rota, const char *word)
{
    char cause[256];
    int64_t id = 0;
    enum rota_error error;

    (void)value_id(word, &id);
    error = rota_retry(rota, id, false);
    if (error == ROTA_NOTFOUND) {
        say("no job %" PRId64 " in %s", id, cli->db);
        return CLI_NOTFOUND;
    }
    if (error == ROTA_INVALID)
        return say_usage("job %" PRId64 " has not ended: nothing to retry", id);
    if (error == ROTA_OK)
        error = why_not(rota, id, cause);
    if (error != ROTA_OK)
        return say_error(rota, error);
    if (cli->is_json)
        (void)printf("{\"schema\":1,\"id\":%" PRId64 ",\"answer\":\"%s\"}\n",
                     id, cause[0] != '\0' ? "cancelled" : "ready");
    else if (cause[0] != '\0')
        say("job %" PRId64 " is cancelled again: %s", id, cause);
    else
        (void)printf("job %" PRId64 " will run again\n", id);
    return cause[0] != '\0' ? CLI_CANCELLED : CLI_OK;
}

int
cli_retry(struct cli *cli)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    struct rota *rota = NULL;
    int code = parse_all(cli), one;

    if (code == CLI_OK)
        code = database_open(cli, &options, true, &rota);
    if (code != CLI_OK)
        return code;
    (void)!rota_rescue(rota); /* what nobody runs may have ended */
    for (int i = 0; i < cli->n_words; i++) {
        one = retry(cli, rota, cli->words[i]);
        if (code == CLI_OK)
            code = one;
    }
    (void)rota_close(rota);
    return code;
}
