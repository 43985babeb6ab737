/* See failures.h. */
#include "cli/failures.h"

#include <inttypes.h>

#include "cli/say.h"
#include "jobs/excerpt.h"

enum { LISTED = sizeof(((struct failures *)0)->ids) / sizeof(int64_t) };

/* So much of an item says which it is; the reason is what is looked for. */
enum { ITEM_SHOWN = 160 };

void
failures_add(struct failures *failures, int64_t job)
{
    if (failures->n < LISTED)
        failures->ids[failures->n] = job;
    failures->n++;
}

void
failures_append(struct failures *failures, const struct failures *more)
{
    for (int64_t i = 0; i < more->n && i < LISTED; i++)
        failures_add(failures, more->ids[i]);
    if (more->n > LISTED)
        failures->n += more->n - LISTED;
}

static const char *
text_or(const struct rota_value *value, const char *fallback)
{
    return value->type == ROTA_TEXT ? value->data : fallback;
}

static bool
say_failure(void *arg, int n, const char *const *names,
            const struct rota_value *values)
{
    char item[ITEM_SHOWN];

    (void)arg, (void)n, (void)names;
    if (values == NULL)
        return true;
    excerpt_print(item, sizeof(item), "%s", text_or(&values[0], "?"));
    say("failed: %s: %s", item, text_or(&values[1], "?"));
    return true;
}

void
failures_say(const struct failures *failures, struct rota *rota,
             const char *batch)
{
    for (int64_t i = 0; i < failures->n && i < LISTED; i++) {
        struct rota_value id = {.type = ROTA_INTEGER,
                                .integer = failures->ids[i]};

        if (rota_query(ctx_background(), rota,
                       "SELECT coalesce(CASE WHEN json_valid(args_text)"
                       " THEN json_extract(args_text, '$.item') END,"
                       " 'job ' || id || ' (' || kind || ')'),"
                       " coalesce(cause, error) FROM jobs WHERE id = ?1",
                       &id, 1, say_failure, NULL) != ROTA_OK)
            (void)say_error(rota, ROTA_STORE);
    }
    if (failures->n > LISTED)
        say("and %" PRId64 " more: rota ls --state failed%s%s",
            failures->n - LISTED, batch != NULL ? " --batch " : "",
            batch != NULL ? batch : "");
}
