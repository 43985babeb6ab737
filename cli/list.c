/*
 * The commands that only look: `ls`, `show`, `sql`. They open the queue for
 * reading, and write one thing only: what a dead process ran is taken back, so
 * that it is not listed as running. Main thread; no lock.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/database.h"
#include "cli/out.h"
#include "cli/say.h"
#include "cli/value.h"

/* A process that died while no other worked on the queue left its jobs behind
 * as running: have this set right first. Where it cannot be at once, because
 * somebody writes, it is he who will; what is in the file is shown all the
 * same. */
static void
take_back(const struct cli *cli, struct rota *rota)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    struct rota *writer = NULL;

    options.flags = ROTA_NOWAIT;
    if (rota_rescue(rota) != ROTA_INVALID ||
        rota_open(cli->db, &options, &writer) != ROTA_OK)
        return; /* nobody has died, or it cannot be helped */
    (void)!rota_rescue(writer);
    (void)rota_close(writer);
}

static int
open_to_look(const struct cli *cli, struct rota **ret_rota)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    int code;

    options.flags = ROTA_READONLY;
    code = database_open(cli, &options, true, ret_rota);
    if (code == CLI_OK)
        take_back(cli, *ret_rota);
    return code;
}

static struct rota_value
value_of_text(const char *text)
{
    struct rota_value value = {.type = ROTA_NULL};

    if (text != NULL)
        value = (struct rota_value){
            .type = ROTA_TEXT, .data = text, .size = strlen(text)};
    return value;
}

static struct rota_value
value_of_integer(int64_t integer)
{
    return (struct rota_value){.type = ROTA_INTEGER, .integer = integer};
}

/* Print the rows of text as out says, and end out. */
static int
print_rows(struct rota *rota, const char *text, const struct rota_value *params,
           int n, struct out *out)
{
    enum rota_error error =
        rota_query(ctx_background(), rota, text, params, n, out_row, out);

    out_end(out);
    if (error == ROTA_OK && out->has_failed)
        return say_error(NULL, ROTA_NOMEM);
    return error == ROTA_OK ? CLI_OK : say_error(rota, error);
}

/* -- ls ------------------------------------------------------------------ */

/* For eyes, for cut(1), for programs. ?1 state, ?2 batch, ?3 limit, ?4 the
 * time. */
#define LS_FROM                                   \
    " FROM jobs WHERE (?1 IS NULL OR state = ?1)" \
    " AND (?2 IS NULL OR batch = ?2) ORDER BY id DESC LIMIT ?3"

static const char ls_table[] =
    "SELECT id, kind, state, CASE status WHEN state THEN NULL ELSE status END"
    " AS status, CASE WHEN total IS NULL THEN nullif(done, 0)"
    " ELSE done || '/' || total END AS done, CASE WHEN percent IS NOT NULL"
    " THEN CAST(percent AS INTEGER) || '%' END AS \"%\", queue, batch,"
    " CASE WHEN age < 60 THEN age || 's' WHEN age < 3600 THEN age / 60 || 'm'"
    " WHEN age < 86400 THEN age / 3600 || 'h' ELSE age / 86400 || 'd' END"
    " AS age, CASE WHEN error IS NOT NULL THEN coalesce(cause, error) END"
    " AS error FROM (SELECT *, max(?4 - created_at, 0) / 1000 AS age" LS_FROM
    ")";
static const char ls_plain[] =
    "SELECT id, kind, state, status, done, total, percent, queue, batch,"
    " created_at_iso, max(?4 - created_at, 0) / 1000, error, cause" LS_FROM;
static const char ls_json[] =
    "SELECT 1 AS schema, id, kind, state, status, why, done, total, percent,"
    " rate, eta, queue, batch, priority, attempt, max_attempts, error, cause,"
    " created_at, run_at, started_at, finished_at, created_at_iso, run_at_iso,"
    " started_at_iso, finished_at_iso, worker, ?4 AS listed_at" LS_FROM;

int
cli_ls(struct cli *cli)
{
    struct rota_value params[4];
    struct rota *rota = NULL;
    struct out out;
    int code = open_to_look(cli, &rota);

    if (code != CLI_OK)
        return code;
    out_init(&out, cli);
    out.drops_empty = true;
    params[0] = value_of_text(cli->state);
    params[1] = value_of_text(cli->batch);
    params[2] = value_of_integer(cli->is_all       ? -1
                                 : cli->limit != 0 ? cli->limit
                                                   : 20);
    params[3] = value_of_integer(value_now());
    code = print_rows(rota,
                      out.layout == OUT_TABLE   ? ls_table
                      : out.layout == OUT_PLAIN ? ls_plain
                                                : ls_json,
                      params, 4, &out);
    if (code == CLI_OK && out.n_rows == 0 && out.layout == OUT_TABLE)
        say("no jobs%s",
            cli->state != NULL || cli->batch != NULL ? " like that" : "");
    (void)rota_close(rota);
    return code;
}

/* -- show ---------------------------------------------------------------- */

struct show {
    const struct cli *cli;
    bool is_found;
    bool is_screen;
    json_t *job;      /* with --json */
    json_t *attempts; /* likewise */
};

/* Whether name is a time in numbers that is also there in words, as name_iso:
 * on a terminal one form of it is enough. */
static bool
has_twin(int n, const char *const *names, const char *name)
{
    for (int i = 0; i < n; i++) {
        size_t size = strlen(names[i]);

        if (size > 4 && strcmp(names[i] + size - 4, "_iso") == 0 &&
            strlen(name) == size - 4 && memcmp(names[i], name, size - 4) == 0)
            return true;
    }
    return false;
}

static bool
show_job(void *arg, int n, const char *const *names,
         const struct rota_value *values)
{
    struct show *show = arg;
    struct out plain = {.layout = OUT_PLAIN};

    if (values == NULL)
        return true;
    show->is_found = true;
    if (show->cli->is_json) {
        show->job = json_row(n, names, values);
        return show->job != NULL;
    }
    for (int i = 0; i < n; i++) {
        if (values[i].type == ROTA_NULL ||
            (show->is_screen && (has_twin(n, names, names[i]) ||
                                 strcmp(names[i], "args_text") == 0)))
            continue;
        (void)printf(show->is_screen ? "%-19s " : "%s\t", names[i]);
        (void)out_row(&plain, 1, names + i, values + i);
    }
    return !ferror(stdout);
}

static bool
show_attempt(void *arg, int n, const char *const *names,
             const struct rota_value *values)
{
    struct show *show = arg;

    if (values == NULL)
        return true;
    return json_array_append_new(show->attempts, json_row(n, names, values)) ==
           0;
}

static enum rota_error
show_attempts(struct show *show, struct rota *rota, const struct rota_value *id)
{
    enum rota_error error;
    struct out out;

    if (show->cli->is_json) {
        show->attempts = json_array();
        return rota_query(ctx_background(), rota,
                          "SELECT * FROM attempts WHERE job = ?1"
                          " ORDER BY lease",
                          id, 1, show_attempt, show);
    }
    out_init(&out, show->cli);
    if (show->is_screen)
        (void)fputc('\n', stdout);
    error = rota_query(ctx_background(), rota,
                       show->is_screen
                           ? "SELECT lease AS run, worker, outcome, error,"
                             " started_at_iso AS started,"
                             " round((ended_at - started_at) / 1000.0, 1)"
                             " AS seconds, message"
                             " FROM attempts WHERE job = ?1 ORDER BY lease"
                           : "SELECT 'attempt', lease, worker, outcome, error,"
                             " started_at, ended_at, message"
                             " FROM attempts WHERE job = ?1 ORDER BY lease",
                       id, 1, out_row, &out);
    out_end(&out);
    return error;
}

int
cli_show(struct cli *cli)
{
    struct show show = {.cli = cli, .is_screen = isatty(STDOUT_FILENO)};
    struct rota_value id = {.type = ROTA_INTEGER};
    struct rota *rota = NULL;
    enum rota_error error;
    int code = value_id(cli->words[0], &id.integer);

    if (code == CLI_OK)
        code = open_to_look(cli, &rota);
    if (code != CLI_OK)
        return code;
    error =
        rota_query(ctx_background(), rota, "SELECT * FROM jobs WHERE id = ?1",
                   &id, 1, show_job, &show);
    if (error == ROTA_OK && show.is_found)
        error = show_attempts(&show, rota, &id);
    if (error != ROTA_OK) {
        code = say_error(rota, error);
    } else if (!show.is_found) {
        say("no job %" PRId64 " in %s", id.integer, cli->db);
        code = CLI_NOTFOUND;
    } else if (cli->is_json) {
        json_t *all = json_pack("{sI sO sO}", "schema", (json_int_t)1, "job",
                                show.job, "attempts", show.attempts);

        if (all == NULL || !out_json(all))
            code = say_error(NULL, ROTA_NOMEM);
        json_decref(all);
    }
    json_decref(show.job);
    json_decref(show.attempts);
    (void)rota_close(rota);
    return code;
}

/* -- sql ----------------------------------------------------------------- */

int
cli_sql(struct cli *cli)
{
    struct rota *rota = NULL;
    struct out out;
    int code = open_to_look(cli, &rota);

    if (code != CLI_OK)
        return code;
    out_init(&out, cli);
    code = print_rows(rota, cli->words[0], NULL, 0, &out);
    (void)rota_close(rota);
    return code;
}
