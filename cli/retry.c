#include <inttypes.h>
#include <stdio.h>

#include "cli/cli.h"

/* All ids are read before the first job is touched. */
static int
parse_all(const struct cli *cli)
{
    int64_t id;
    int code = CLI_OK;

    for (int i = 0; code == CLI_OK && i < cli->n_words; i++)
        code = cli_parse_id(cli->words[i], &id);
    return code;
}

static int
retry(struct cli *cli, struct rota *rota, const char *word)
{
    int64_t id = 0;
    enum rota_error error;

    (void)cli_parse_id(word, &id);
    error = rota_retry(rota, id, false);
    if (error == ROTA_NOTFOUND) {
        cli_say("no job %" PRId64 " in %s", id, cli->db);
        return CLI_NOTFOUND;
    }
    if (error == ROTA_INVALID)
        return cli_usage("job %" PRId64 " has not ended: nothing to retry", id);
    if (error != ROTA_OK)
        return cli_fail(rota, error);
    if (cli->is_json)
        (void)printf("{\"schema\":1,\"id\":%" PRId64 ",\"answer\":\"ready\"}\n",
                     id);
    else
        (void)printf("job %" PRId64 " will run again\n", id);
    return CLI_OK;
}

int
cli_retry(struct cli *cli)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    struct rota *rota = NULL;
    int code = parse_all(cli), one;

    if (code == CLI_OK)
        code = cli_open(cli, &options, true, &rota);
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
