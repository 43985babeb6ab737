#define _GNU_SOURCE
#include "sessions.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "deeds.h"
#include "scratch.h"
#include "statelook.h"
#include "store/sqlite/reader.h"

#define START INT64_C(1700000000000) /* when the clock begins */

struct model model;
struct reader *ended_reader;
struct connection look;
int64_t kind, queue;

static struct session sessions[SESSIONS];
static char file[128];

static int64_t
model_clock(void *arg)
{
    (void)arg;
    return model.now;
}

/* -- Sessions ------------------------------------------------------------- */

/* A process begins. */
static void
process_begin(struct session *session)
{
    const struct store_options options = {.clock = model_clock};
    struct joined_kind joined = {.name = "k", .max_attempts = 2};
    struct wish join = {.kind = WISH_JOIN,
                        .join = {.kinds = &joined, .n_kinds = 1, .threads = 1}};
    struct store *store;
    struct name *found;

    ck_assert_int_eq(store_open(file, &options, &store), ROTA_OK);
    session->store = sqlite_store_of(store);
    ck_assert_int_eq(transaction_begin(session->store, false), ROTA_OK);
    ck_assert_int_eq(queue_find(session->store, "default", &found), ROTA_OK);
    queue = found->number;
    ck_assert_int_eq(worker_join(session->store, &join), ROTA_OK);
    ck_assert_int_eq(transaction_commit(session->store), ROTA_OK);
    kind = joined.number;
    session->process = join.join.process;
    ck_assert_int_lt(model.n_processes, MODEL_PROCESSES);
    model.processes[model.n_processes++] =
        (struct model_process){session->process, true, true};
}

void
session_die(struct session *session)
{
    store_close(&session->store->base);
    model_process(&model, session->process)->lives = false;
    process_begin(session);
}

void
sessions_open(void)
{
    (void)snprintf(file, sizeof(file), "%s", in_scratch("q.db"));
    model = (struct model){.now = START, .key_limit = 1};
    for (int i = 0; i < SESSIONS; i++)
        process_begin(&sessions[i]);
    ck_assert_int_eq(reader_open(&sessions[0].store->base, &ended_reader),
                     ROTA_OK);
    ck_assert_int_eq(connection_to(sessions[0].store, &look), ROTA_OK);
    statelook_open(file);
}

void
sessions_close(void)
{
    statelook_close();
    reader_close(ended_reader);
    connection_close(&look);
    for (int i = 0; i < SESSIONS; i++)
        store_close(&sessions[i].store->base);
}

void
sessions_reset(void)
{
    int64_t alive[SESSIONS];
    int64_t now = model.now;

    model = (struct model){.now = now, .key_limit = 1};
    for (int i = 0; i < SESSIONS; i++) {
        sessions[i] = (struct session){.store = sessions[i].store,
                                       .process = sessions[i].process};
        alive[i] = sessions[i].process;
        model.processes[model.n_processes++] =
            (struct model_process){alive[i], true, true};
    }
    statelook_empty(alive, SESSIONS);
}

/* -- Steps ---------------------------------------------------------------- */

const char *
sessions_deed(int n)
{
    return deeds[n].name;
}

static const struct deed *
deed_named(const char *name, size_t length)
{
    for (const struct deed *deed = deeds; deed->name != NULL; deed++)
        if (strlen(deed->name) == length &&
            strncmp(deed->name, name, length) == 0)
            return deed;
    ck_abort_msg("nobody can do this: %s", name);
}

/* In a transaction, which ends as how says: '!' rolled back, '~' by death. */
static void
write_step(struct session *session, const struct deed *deed, const char *about,
           char how)
{
    struct model before = model;
    struct session was = *session;

    same("begin", transaction_begin(session->store, false), ROTA_OK);
    deed->fn(session, deed, about);
    if (how == '\0') {
        same("commit", transaction_commit(session->store), ROTA_OK);
        return;
    }
    model = before;
    *session = was;
    if (how == '!')
        transaction_rollback(session->store);
    else
        session_die(session);
}

const char *
sessions_step(const char *word, bool looks)
{
    struct session *session = &sessions[word[0] - 'a'];
    const char *colon = strchr(word, ':');
    char about[16] = "", how = word[strcspn(word, "!~")];
    const struct deed *deed;

    if (word[0] < 'a' || word[0] >= 'a' + SESSIONS || word[1] != '.')
        ck_abort_msg("%s: who is that?", word);
    deed = deed_named(word + 2, strcspn(word + 2, ":!~"));
    if (colon != NULL)
        (void)snprintf(about, sizeof(about), "%.*s",
                       (int)strcspn(colon + 1, "!~"), colon + 1);
    model.now++;
    if (deed->writes)
        write_step(session, deed, about, how);
    else
        deed->fn(session, deed, about);
    if (looks)
        statelook_compare(&model);
    return difference();
}
