/* `cancel`: one job, whether it waits or runs. Main thread; no lock. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/database.h"
#include "cli/say.h"
#include "cli/value.h"

static const struct {
    const char *name; /* in JSON */
    const char *text;
} answers[] = {
    [ROTA_CANCEL_DONE] = {"cancelled", "is cancelled"},
    [ROTA_CANCEL_REQUESTED] = {"requested", "runs, and is told to stop"},
    [ROTA_CANCEL_AGAIN] = {"requested_before",
                           "runs, and was told to stop before"},
    [ROTA_CANCEL_TOO_LATE] = {"too_late", "had ended: too late to cancel"},
};

static void
say_answer(const struct cli *cli, int64_t id, enum rota_cancel_answer answer)
{
    if (cli->is_json)
        (void)printf("{\"schema\":1,\"id\":%" PRId64 ",\"answer\":\"%s\"}\n",
                     id, answers[answer].name);
    else
        (void)printf("job %" PRId64 " %s\n", id, answers[answer].text);
}

/* It had ended, and how. */
static void
say_end(const struct cli *cli, int64_t id, const char *state)
{
    if (cli->is_json)
        (void)printf("{\"schema\":1,\"id\":%" PRId64
                     ",\"answer\":\"too_late\",\"state\":\"%s\"}\n",
                     id, state);
    else
        (void)printf("job %" PRId64 " had ended, %s: too late to cancel\n", id,
                     state);
}

int
cli_cancel(struct cli *cli)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    enum rota_cancel_answer answer = ROTA_CANCEL_DONE;
    struct rota_outcome outcome = ROTA_OUTCOME_INIT;
    struct rota *rota = NULL;
    enum rota_error error;
    int64_t id = 0;
    int code = value_id(cli->words[0], &id);

    if (code == CLI_OK)
        code = database_open(cli, &options, true, &rota);
    if (code != CLI_OK)
        return code;
    (void)!rota_rescue(rota); /* what nobody runs is cancelled at once */
    error =
        rota_cancel(rota, id, cli->n_words > 1 ? cli->words[1] : NULL, &answer);
    if (error == ROTA_NOTFOUND) {
        say("no job %" PRId64 " in %s", id, cli->db);
        code = CLI_NOTFOUND;
    } else if (error != ROTA_OK) {
        code = say_error(rota, error);
    } else if (answer == ROTA_CANCEL_TOO_LATE &&
               rota_wait(ctx_background(), rota, id, &outcome) == ROTA_OK) {
        say_end(cli, id, rota_state_name(outcome.state));
    } else {
        say_answer(cli, id, answer);
    }
    (void)rota_close(rota);
    return code;
}
