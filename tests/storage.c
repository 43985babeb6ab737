/*
 * A store for tests: its life, cycles of one wish each, and looks. One thread,
 * no lock.
 */
#define _GNU_SOURCE
#include "storage.h"

#include <check.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "scratch.h"
#include "support.h"

#define MAX_CLAIMS 128

struct storage storage;

static const struct storage_kind *kind_of_store = &storage_sqlite;
static const struct storage_kind *const storage_kinds[] = {
    &storage_sqlite, &(struct storage_kind){.name = "postgres"}};
static struct reader *reader; /* opened when it is first needed */
static char queue[160];
static int renewed;

/* -- Kinds ---------------------------------------------------------------- */

void
storage_use(const struct storage_kind *kind)
{
    kind_of_store = kind;
}

int
storage_suite_run(Suite *suite)
{
    const char *name = getenv("ROTA_TEST_STORE");

    if (name == NULL)
        return suite_run(suite);
    for (size_t i = 0; i < sizeof(storage_kinds) / sizeof(*storage_kinds); i++)
        if (strcmp(storage_kinds[i]->name, name) == 0) {
            storage_use(storage_kinds[i]);
            if (kind_of_store->queue != NULL)
                return suite_run(suite);
            printf("skipped: this rota has no %s built in\n", name);
            return 77; /* as make check has it */
        }
    printf("ROTA_TEST_STORE=%s: nobody knows such a kind of store\n", name);
    return EXIT_FAILURE;
}

/* -- Life ----------------------------------------------------------------- */

static int64_t
clock_of_test(void *arg)
{
    (void)arg;
    return (storage.time != 0 ? storage.time : machine_clock(NULL)) +
           storage.skipped;
}

static struct store *
open_store(void)
{
    const struct store_options options = {.clock = clock_of_test};
    struct store *store;

    ck_assert_msg(store_open(queue, &options, &store) == ROTA_OK, "%s: %s",
                  queue, message_get());
    return store;
}

static void
begin(void)
{
    storage.queue = queue;
    storage.store = open_store();
    kind_of_store->begin(queue);
}

static void
end(void)
{
    kind_of_store->end();
    reader_close(reader);
    reader = NULL;
    store_close(storage.store);
    storage.store = NULL;
}

static void
begin_fresh(void)
{
    char name[16];
    enum rota_error error;

    (void)snprintf(name, sizeof(name), "q%d", renewed++);
    (void)snprintf(queue, sizeof(queue), "%s", kind_of_store->queue(name));
    begin();
    storage.process = storage_join(NULL, &error);
    ck_assert_int_eq(error, ROTA_OK);
}

void
storage_make(void)
{
    scratch_make();
    storage.time = storage.skipped = 0;
    begin_fresh();
}

void
storage_remove(void)
{
    end();
    scratch_remove();
}

void
storage_renew(void)
{
    end();
    begin_fresh();
}

void
storage_reopen(void)
{
    end();
    begin();
}

/* -- Cycles --------------------------------------------------------------- */

void
work_init(struct work *work)
{
    *work = (struct work){.scope = {.process = storage.process,
                                    .kinds = &storage.kind,
                                    .n_kinds = 1},
                          .may_be_ready = true,
                          .is_unsettled = true};
    list_init(&work->wishes);
}

void
work_wish(struct work *work, struct wish *wish)
{
    list_append(&work->wishes, &wish->on_wishes);
}

void
work_submit(struct work *work, struct submitting *submitting,
            const struct rota_submission *submission)
{
    submitting->submission = *submission;
    submitting->wish =
        (struct wish){.kind = WISH_SUBMIT,
                      .submit = {.submissions = &submitting->submission,
                                 .n = 1,
                                 .ids = &submitting->id}};
    work_wish(work, &submitting->wish);
}

/* The arguments of what is claimed are the asker's. */
static void
carry_out(struct store *store, struct work *work, struct claim *claims,
          size_t limit)
{
    work->claims = claims;
    work->claim_limit = limit;
    ck_assert_msg(store_cycle(store, work) == ROTA_OK, "%s", message_get());
    ck_assert(work->has_begun);
    ck_assert(!work->is_gone);
    ck_assert_uint_le(work->n_claims, limit);
    if (work->has_looked)
        storage.rest = work->rest;
}

const char *
storage_cycle(struct work *work, size_t limit)
{
    static char ids[MAX_CLAIMS * 8];
    struct claim claims[MAX_CLAIMS];
    size_t used = 0;

    ck_assert_uint_le(limit, MAX_CLAIMS);
    carry_out(storage.store, work, claims, limit);
    ids[0] = '\0';
    for (size_t i = 0; i < work->n_claims; i++) {
        used += (size_t)snprintf(ids + used, sizeof(ids) - used, " %" PRId64,
                                 claims[i].id);
        ck_assert_uint_lt(used, sizeof(ids));
        free(claims[i].args);
    }
    return ids;
}

static enum rota_error
grant_in(struct store *store, struct wish *wish)
{
    struct work work;

    work_init(&work);
    work_wish(&work, wish);
    carry_out(store, &work, NULL, 0);
    return wish->error;
}

enum rota_error
storage_grant(struct wish *wish)
{
    return grant_in(storage.store, wish);
}

int64_t
storage_submit(const struct rota_submission *submission)
{
    struct submitting submitting;
    struct work work;

    work_init(&work);
    work_submit(&work, &submitting, submission);
    (void)storage_cycle(&work, 0);
    ck_assert_msg(submitting.wish.error == ROTA_OK, "%s",
                  submitting.wish.message);
    return submitting.id;
}

int64_t
storage_submit_plain(void)
{
    const struct rota_submission plain = ROTA_SUBMISSION_INIT("k");

    return storage_submit(&plain);
}

struct claim
storage_claim(int64_t process)
{
    struct claim claim = {0};
    struct work work;

    work_init(&work);
    work.scope.process = process;
    carry_out(storage.store, &work, &claim, 1);
    ck_assert(work.has_looked);
    free(claim.args);
    claim.args = NULL;
    return claim;
}

const char *
storage_claims(size_t limit)
{
    struct work work;

    work_init(&work);
    return storage_cycle(&work, limit);
}

enum rota_error
storage_end(const struct claim *claim, enum rota_error error,
            enum rota_stop_reason stop, bool never_started,
            enum rota_state *ret_state)
{
    struct ending ending = {.id = claim->id,
                            .lease = claim->lease,
                            .process = storage.process,
                            .started_at = store_now(storage.store),
                            .error = error,
                            .stop = stop,
                            .never_started = never_started,
                            .failures = claim->failures,
                            .max_attempts = claim->max_attempts > 0
                                                ? claim->max_attempts
                                                : STORAGE_ATTEMPTS,
                            .snooze_ms = 60000};
    struct work work;

    work_init(&work);
    work.endings = &ending;
    (void)storage_cycle(&work, 0);
    if (ending.is_lost)
        return ROTA_LOST;
    *ret_state = ending.state;
    return ROTA_OK;
}

void
storage_succeed(const struct claim *claim)
{
    enum rota_state state;

    ck_assert_int_eq(storage_end(claim, ROTA_OK, ROTA_STOP_NONE, false, &state),
                     ROTA_OK);
    ck_assert_int_eq(state, ROTA_SUCCEEDED);
}

enum rota_error
storage_progress(const struct claim *claim, int64_t cursor, int64_t total)
{
    struct progress progress = {.id = claim->id,
                                .lease = claim->lease,
                                .started_at = store_now(storage.store),
                                .cursor = cursor,
                                .total = total};
    struct work work;

    work_init(&work);
    work.progress = &progress;
    work.n_progress = 1;
    (void)storage_cycle(&work, 0);
    return progress.is_lost ? ROTA_LOST : ROTA_OK;
}

enum rota_error
storage_cancel(int64_t job, const char *reason,
               enum rota_cancel_answer *ret_answer)
{
    struct wish wish = {.kind = WISH_CANCEL,
                        .cancel = {.job = job, .reason = reason}};
    enum rota_error error = storage_grant(&wish);

    *ret_answer = wish.cancel.answer;
    return error;
}

enum rota_error
storage_retry(int64_t job)
{
    struct wish wish = {.kind = WISH_RETRY, .retry = {.job = job}};

    return storage_grant(&wish);
}

enum rota_error
storage_pause(const char *name, bool pauses)
{
    struct wish wish = {.kind = WISH_PAUSE,
                        .pause = {.queue = name, .pauses = pauses}};

    return storage_grant(&wish);
}

int64_t
storage_chores(void)
{
    struct wish wish = {.kind = WISH_CHORES};

    ck_assert_int_eq(storage_grant(&wish), ROTA_OK);
    return wish.chores.next;
}

/* -- Processes ------------------------------------------------------------ */

static int64_t
join_in(struct store *store, const char *name, enum rota_error *ret_error)
{
    struct joined_kind joined = {.name = "k", .max_attempts = STORAGE_ATTEMPTS};
    struct wish wish = {
        .kind = WISH_JOIN,
        .join = {.kinds = &joined, .n_kinds = 1, .queue = name, .threads = 1}};

    *ret_error = grant_in(store, &wish);
    if (*ret_error == ROTA_OK)
        storage.kind = joined.number;
    return wish.join.process;
}

int64_t
storage_join(const char *name, enum rota_error *ret_error)
{
    return join_in(storage.store, name, ret_error);
}

int64_t
storage_dead_process(void)
{
    struct store *store = open_store();
    enum rota_error error;
    int64_t process = join_in(store, NULL, &error);

    ck_assert_int_eq(error, ROTA_OK);
    store_close(store); /* nobody knows that it lives any more */
    return process;
}

int64_t
storage_rescue(int64_t process)
{
    struct wish wish = {.kind = WISH_RESCUE,
                        .rescue = {.process = process, .jobs = -1}};

    ck_assert_int_eq(storage_grant(&wish), ROTA_OK);
    return wish.rescue.jobs;
}

/* -- Looking -------------------------------------------------------------- */

struct text {
    char *data;
    size_t size, used;
    int64_t rows, first;
};

static void
value_add(struct text *text, const struct rota_value *value)
{
    char *to = text->data + text->used;
    size_t room = text->size - text->used;
    int n = 0;

    switch (value->type) {
    case ROTA_NULL:
        n = snprintf(to, room, "NULL");
        break;
    case ROTA_INTEGER:
        n = snprintf(to, room, "%" PRId64, value->integer);
        break;
    case ROTA_REAL:
        n = snprintf(to, room, "%g", value->real);
        break;
    case ROTA_TEXT:
    case ROTA_BLOB:
        n = snprintf(to, room, "%.*s", (int)value->size, value->data);
        break;
    }
    text->used += (size_t)n;
    ck_assert_uint_lt(text->used, text->size);
}

static bool
row_add(void *arg, int n, const char *const *names,
        const struct rota_value *values)
{
    struct text *text = arg;

    (void)names;
    if (values == NULL)
        return true;
    if (text->rows++ == 0)
        text->first = values[0].type == ROTA_INTEGER ? values[0].integer : 0;
    for (int i = 0; i < n; i++) {
        if (i > 0 || text->rows > 1)
            text->data[text->used++] = i > 0 ? '|' : '\n';
        value_add(text, &values[i]);
    }
    return true;
}

static enum rota_error
look(const char *sql, struct text *text)
{
    if (reader == NULL)
        ck_assert_int_eq(reader_open(storage.store, &reader), ROTA_OK);
    text->data[0] = '\0';
    return reader_query(ctx_background(), reader, sql, NULL, 0, row_add, text);
}

static struct text
look_of(const char *format, va_list args)
{
    static char texts[2][8192];
    static int turn;
    struct text text = {.data = texts[turn = !turn], .size = sizeof(texts[0])};
    char *sql;

    ck_assert_int_ge(vasprintf(&sql, format, args), 0);
    ck_assert_msg(look(sql, &text) == ROTA_OK, "%s: %s", sql, message_get());
    free(sql);
    return text;
}

const char *
storage_text(const char *sql, ...)
{
    struct text text;
    va_list args;

    va_start(args, sql);
    text = look_of(sql, args);
    va_end(args);
    return text.data;
}

int64_t
storage_int(const char *sql, ...)
{
    struct text text;
    va_list args;

    va_start(args, sql);
    text = look_of(sql, args);
    va_end(args);
    ck_assert_msg(text.rows > 0, "%s: no row", sql);
    return text.first;
}

enum rota_error
storage_look(const char *sql)
{
    char data[8192];
    struct text text = {.data = data, .size = sizeof(data)};

    return look(sql, &text);
}

const char *
storage_everything(void)
{
    static char all[2][16384];
    static int turn;
    char *text = all[turn = !turn];

    text[0] = '\0';
    kind_of_store->keeps(queue, text, sizeof(all[0]));
    return text;
}

/* -- The shell ------------------------------------------------------------ */

static const char *
shell(const char *format, va_list args)
{
    const char *message;
    char *sql;

    ck_assert_int_ge(vasprintf(&sql, format, args), 0);
    message = kind_of_store->run(queue, sql);
    free(sql);
    return message;
}

const char *
storage_try(const char *sql, ...)
{
    const char *message;
    va_list args;

    va_start(args, sql);
    message = shell(sql, args);
    va_end(args);
    return message;
}

void
storage_run(const char *sql, ...)
{
    const char *message;
    va_list args;

    va_start(args, sql);
    message = shell(sql, args);
    va_end(args);
    ck_assert_msg(message == NULL, "%s: %s", sql, message);
}
