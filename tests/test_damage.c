/*
 * A file that is damaged, or that somebody has written to who means harm: what
 * is read from it is checked where it is read, so that no walk goes by what is
 * not what it seems to be; it is said to be damaged, and left: nothing more is
 * written, workers stop, who waits is told.
 *
 * The damage is done by another connection, which may write what it likes. One
 * thread, but for the workers of the second half.
 */
#define _GNU_SOURCE
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scratch.h"
#include "stage.h"
#include "storage.h"
#include "support.h"

/* -- What is read --------------------------------------------------------- */

#define HOUR 3600000

/* One job in each place: 1 is running, 2 held behind it, 3 due, 4 past its
 * deadline, 5 waits for 1, 6 was running in a process that died, 7 and 8 are
 * ready. */
static struct claim running;
static int64_t dead;

static int64_t
submit_where(int64_t run_at, int64_t deadline, const char *limit_key,
             int64_t after)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");

    s.run_at = run_at;
    s.deadline = deadline;
    s.limit_key = limit_key;
    s.after = &after;
    s.n_after = after != 0;
    return storage_submit(&s);
}

static void
fill(void)
{
    int64_t now = store_now(storage.store), key = 0, died;

    key = submit_where(0, 0, "key", 0);
    running = storage_claim(storage.process);
    ck_assert_int_eq(running.id, key);
    (void)submit_where(0, 0, "key", 0);
    ck_assert_int_eq(storage_claim(storage.process).id, 0);
    (void)submit_where(now + HOUR / 4, 0, NULL, 0);
    (void)submit_where(now + 2 * HOUR, now + HOUR / 2, NULL, 0);
    (void)submit_where(0, 0, NULL, running.id);
    died = storage_submit_plain();
    dead = storage_dead_process();
    ck_assert_int_eq(storage_claim(dead).id, died);
    (void)storage_submit_plain();
    (void)storage_submit_plain();
    storage.skipped = HOUR;
}

/* What has ended, what time brings, what a dead process ran, a submission and a
 * claim, all of it at once. */
static enum rota_error
do_everything(bool *ret_gone)
{
    struct ending ending = {.id = running.id,
                            .lease = running.lease,
                            .process = storage.process,
                            .started_at = 1,
                            .error = ROTA_OK};
    struct wish chores = {.kind = WISH_CHORES};
    struct wish rescue = {.kind = WISH_RESCUE, .rescue = {.process = dead}};
    const struct rota_submission plain = ROTA_SUBMISSION_INIT("k");
    struct submitting submitting;
    struct claim claims[16];
    struct work work;
    enum rota_error error;

    work_init(&work);
    work.endings = &ending;
    work_wish(&work, &chores);
    work_wish(&work, &rescue);
    work_submit(&work, &submitting, &plain);
    work.claims = claims;
    work.claim_limit = 16;
    error = store_cycle(storage.store, &work);
    for (size_t i = 0; error == ROTA_OK && i < work.n_claims; i++)
        free(claims[i].args);
    *ret_gone = work.is_gone;
    return error;
}

/* How a look at what waits comes out; that it comes out is the point. */
static enum rota_error
look_at_what_waits(void)
{
    const struct scope scope = {
        .process = storage.process, .kinds = &storage.kind, .n_kinds = 1};
    struct waiting waiting;
    struct reader *reader;
    enum rota_error error;

    ck_assert_int_eq(reader_open(storage.store, &reader), ROTA_OK);
    error = reader_waiting(reader, &scope, &waiting);
    reader_close(reader);
    return error;
}

static const char *const damages[] = {
    "UPDATE _ready SET queue = 'x'",
    "UPDATE _ready SET queue = 1e300",
    "UPDATE _ready SET queue = x'01'",
    "UPDATE _ready SET kind = 'x'",
    "UPDATE _ready SET sort_key = 'x'",
    "UPDATE _ready SET sort_key = 1.5",
    "UPDATE _ready SET id = 'x' WHERE id = 7",
    "UPDATE _ready SET id = id + 100",
    "UPDATE _ready SET queue = 'x' || char(0), kind = x'00'",
    "UPDATE _held SET key = key || char(0) || 'y'",
    "UPDATE _held SET key = x'6b6579'",
    "UPDATE _held SET queue = 'x'",
    "UPDATE _held SET kind = 1.5",
    "UPDATE _held SET sort_key = 'x'",
    "UPDATE _held SET id = id + 100",
    "UPDATE _scheduled SET id = 'x'",
    "UPDATE _scheduled SET run_at = 1.5",
    "UPDATE _scheduled SET id = id + 100",
    "UPDATE _deadline SET id = 'x'",
    "UPDATE _deadline SET at = 1.5",
    "UPDATE _running SET lease = 'x' WHERE limit_key IS NULL",
    "UPDATE _running SET cancel_at = 'x'",
    "UPDATE _running SET limit_key = x'00' WHERE limit_key IS NOT NULL",
    "UPDATE _running SET started_at = 'x'",
    "UPDATE _job SET lease = 'x'",
    "UPDATE _job SET crashes = 'x'",
    "UPDATE _job SET failures = x''",
    "UPDATE _job SET deadline_at = 'x'",
    "UPDATE _job SET sort_key = 'x'",
    "UPDATE _job SET ties = 'x'",
    "UPDATE _job SET limit_key = x'78' WHERE limit_key IS NULL",
    "UPDATE _job SET kind = kind + 100 WHERE limit_key IS NULL",
    "DELETE FROM _job WHERE id = 8",
    "DELETE FROM _job",
    "INSERT INTO _running(id, lease, process, claimed_at, queue)"
    " SELECT id, 1, 1, 1, 1 FROM _ready",
    "INSERT INTO _done(id, state, lease, attempt, finished_at, code)"
    " SELECT id, 4, 1, 1, 1, 0 FROM _running",
    "INSERT INTO _ready SELECT queue, kind, sort_key, id FROM _job"
    " WHERE id = 6",
    "UPDATE _dep SET child = 'x'",
    "INSERT INTO _settle VALUES('x', 1, 0)",
    "INSERT INTO _settle VALUES(7, 'x', 0)",
    "INSERT INTO _settle VALUES(7, 1, 'x')",
    "UPDATE _queue SET owner = 'x'",
    "UPDATE _queue SET max_running = 'x'",
    "DELETE FROM sqlite_sequence WHERE name = 'submit'",
    "UPDATE sqlite_sequence SET seq = 'x' WHERE name = 'submit'",
    "INSERT INTO _limit VALUES('key', 'x')",
};

START_TEST(what_cannot_be_in_the_file_is_damage_and_nothing_more_is_written)
{
    const char *before;
    enum rota_error error;
    bool is_gone;

    fill();
    storage_run("%s", damages[_i]);
    before = storage_everything();
    error = do_everything(&is_gone);
    if (error == ROTA_OK) { /* it is met when nothing else is to be had */
        before = storage_everything();
        error = look_at_what_waits();
    }
    ck_assert_msg(error == ROTA_CORRUPT, "%d: %s", error, damages[_i]);
    ck_assert_ptr_nonnull(strstr(message_get(), " is damaged: "));
    ck_assert_str_eq(storage_everything(), before);
    /* from now on it is left, whatever is asked */
    ck_assert_ptr_nonnull(store_damage(storage.store));
    ck_assert_int_eq(do_everything(&is_gone), ROTA_CORRUPT);
    ck_assert(is_gone);
    ck_assert_ptr_nonnull(strstr(message_get(), " is damaged: "));
    ck_assert_int_eq(look_at_what_waits(), ROTA_CORRUPT);
    ck_assert_int_eq(storage_look("SELECT 1"), ROTA_CORRUPT);
    ck_assert_str_eq(storage_everything(), before);
}
END_TEST

/* Without it the others would pass, too. */
START_TEST(a_file_that_is_whole_is_not_called_damaged)
{
    bool is_gone;

    fill();
    ck_assert_msg(do_everything(&is_gone) == ROTA_OK, "%s", message_get());
    ck_assert(!is_gone);
    ck_assert_ptr_null(store_damage(storage.store));
    ck_assert_int_eq(look_at_what_waits(), ROTA_OK);
}
END_TEST

/* -- Who works on it ------------------------------------------------------ */

/* Write over the first page of a table that was in the log no more. */
static void
damage_page_of(const char *table)
{
    int64_t page = sql_int(
        queue, "SELECT rootpage FROM sqlite_schema WHERE name = '%s'", table);
    char rubbish[4096];
    int fd;

    sql_run(queue, "PRAGMA wal_checkpoint(TRUNCATE)");
    memset(rubbish, 0x7f, sizeof(rubbish));
    fd = open(queue, O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(
        pwrite(fd, rubbish, sizeof(rubbish), (off_t)(page - 1) * 4096),
        (ssize_t)sizeof(rubbish));
    (void)close(fd);
}

START_TEST(a_damaged_page_is_final_and_workers_stop_on_it)
{
    enum rota_error error;
    int64_t id;

    open_queue(1);
    id = submit();
    close_queue();
    damage_page_of("_ready");
    open_with(1, at_once);
    error = rota_start(run, rota); /* it may be met by then */
    ck_assert(error == ROTA_OK || error == ROTA_CORRUPT);
    ck_assert_int_eq(rota_wait(NULL, rota, id, NULL), ROTA_CORRUPT);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "is damaged: database disk"
                                                    " image is malformed"));
    if (error == ROTA_OK) {
        ck_assert_int_eq(rota_drain(NULL, rota), ROTA_CORRUPT);
        ck_assert_int_eq(rota_stop(rota, ROTA_SEC(60)), ROTA_CORRUPT);
    }
    ck_assert(was_logged(0, "is damaged"));
    ck_assert_int_eq(atomic_load(&act.runs), 0);
    ck_assert_int_eq(rota_close(rota), ROTA_OK);
    rota = NULL;
}
END_TEST

START_TEST(what_runs_on_a_damaged_file_is_stopped_and_its_end_is_told_of)
{
    int64_t id;

    begin(2, until_stopped);
    id = submit_running(1);
    sql_run(queue, "UPDATE _queue SET max_running = 'many'");
    (void)!rota_submit(rota, &(struct rota_submission)ROTA_SUBMISSION_INIT("k"),
                       NULL);
    AWAIT(was_logged(id, "its end is not recorded: "));
    ck_assert_int_eq(act.code, ROTA_CORRUPT);
    ck_assert_int_eq(act.stop, ROTA_STOP_SHUTDOWN);
    ck_assert(!was_logged(id, "yet"));
    ck_assert_int_eq(rota_wait(NULL, rota, id, NULL), ROTA_CORRUPT);
    ck_assert_int_eq(
        rota_submit(rota, &(struct rota_submission)ROTA_SUBMISSION_INIT("k"),
                    NULL),
        ROTA_CORRUPT);
    ck_assert_int_eq(rota_close(rota), ROTA_OK);
    rota = NULL;
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM _running"), 1);
}
END_TEST

START_TEST(damage_is_noticed_by_who_only_waits_for_work)
{
    begin(1, at_once);
    sql_run(queue, "INSERT INTO _held VALUES('x' || char(0), 1, 1, 1, 1)");
    AWAIT(was_logged(0, "is damaged"));
    ck_assert_int_eq(rota_drain(NULL, rota), ROTA_CORRUPT);
}
END_TEST

static Suite *
damage_suite(void)
{
    Suite *suite = suite_create("damage");
    TCase *read = case_new(suite, "read");
    TCase *workers = stage_case(suite, "workers");

    tcase_add_checked_fixture(read, storage_make, storage_remove);
    tcase_add_loop_test(
        read, what_cannot_be_in_the_file_is_damage_and_nothing_more_is_written,
        0, (int)(sizeof(damages) / sizeof(*damages)));
    tcase_add_test(read, a_file_that_is_whole_is_not_called_damaged);
    tcase_add_test(workers, a_damaged_page_is_final_and_workers_stop_on_it);
    tcase_add_test(
        workers, what_runs_on_a_damaged_file_is_stopped_and_its_end_is_told_of);
    tcase_add_test(workers, damage_is_noticed_by_who_only_waits_for_work);
    return suite;
}

/* This is about one kind of store, whatever the environment names. */
int
main(void)
{
    storage_use(&storage_sqlite);
    return suite_run(damage_suite());
}
