/*
 * The world refuses: the disk is full, a read, a write, a sync or a lock fails,
 * memory is short, at every call that each of rota's own makes, one after
 * another, once or until the test relents. Then what was acknowledged is there,
 * what was refused is not, a job's end is kept until it can be written, no run
 * is recorded twice, and all goes on.
 *
 * Scenes (scenes.h) are played on one thread by rota_step(), but for the last
 * ones, which have workers; threads are not ordered there, for any order must
 * do.
 */
#define _GNU_SOURCE
#include <check.h>
#include <limits.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/engine.h"
#include "faults.h"
#include "scenes.h"
#include "scratch.h"
#include "store/sqlite/sqlite.h"
#include "vfs.h"

/* -- Files ---------------------------------------------------------------- */

static const char *const endings[] = {"", "-wal"};
static struct {
    char *data;
    size_t size;
} kept[2];

/* Keep the queue's file as it is, for each play to begin with. */
static void
file_keep(void)
{
    char path[300];

    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof(path), "%s%s", queue, endings[i]);
        if (access(path, F_OK) == 0)
            kept[i].data = file_read(path, &kept[i].size);
    }
}

static void
file_lay_out(void)
{
    char name[64];

    (void)unlink(in_scratch("queue.db-shm"));
    (void)unlink(in_scratch("queue.db-lock"));
    for (int i = 0; i < 2; i++) {
        (void)snprintf(name, sizeof(name), "queue.db%s", endings[i]);
        if (kept[i].size == 0) {
            (void)unlink(in_scratch(name));
            continue;
        }
        scratch_write(name, kept[i].data, kept[i].size); /* the same file */
        ck_assert_int_eq(chmod(in_scratch(name), 0600), 0);
    }
}

/* What must hold of every file, whatever was refused. */
static void
assert_sound(void)
{
    static const char places[] =
        "(SELECT id FROM _ready UNION ALL SELECT id FROM _held"
        " UNION ALL SELECT id FROM _scheduled UNION ALL SELECT id FROM _blocked"
        " UNION ALL SELECT id FROM _running UNION ALL SELECT id FROM _done)";

    ck_assert_str_eq(sql_text(queue, "PRAGMA integrity_check"), "ok");
    /* each job is in one place, and each place has its job */
    ck_assert_str_eq(
        sql_text(queue,
                 "SELECT j.id FROM _job j WHERE (SELECT count(*) FROM %s p"
                 " WHERE p.id = j.id) <> 1"
                 " UNION ALL SELECT p.id FROM %s p"
                 " WHERE p.id NOT IN (SELECT id FROM _job)",
                 places, places),
        "");
    ck_assert_str_eq(
        sql_text(queue,
                 /* no run twice, no key of what has ended, no job without its
                  * key, nobody held or blocked without a reason, no id that
                  * could come again, no command left */
                 "SELECT 'run', job FROM attempts GROUP BY job, lease"
                 "  HAVING count(*) > 1"
                 " UNION ALL SELECT 'key', job FROM _unique"
                 "  WHERE job IN (SELECT id FROM _done)"
                 " UNION ALL SELECT 'keyless', id FROM _job"
                 "  WHERE unique_key IS NOT NULL"
                 "  AND unique_key NOT IN (SELECT key FROM _unique)"
                 "  AND id NOT IN (SELECT id FROM _done)"
                 " UNION ALL SELECT 'held', limit_key FROM limits"
                 "  WHERE held > 0 AND running + (SELECT count(*)"
                 "   FROM _ready r JOIN _job j ON j.id = r.id"
                 "   WHERE j.limit_key = limits.limit_key) < max_running"
                 " UNION ALL SELECT 'blocked', id FROM _blocked"
                 "  WHERE id NOT IN (SELECT child FROM _dep WHERE met = 0)"
                 " UNION ALL SELECT 'id', max(id) FROM _job HAVING max(id) >"
                 "  (SELECT seq FROM sqlite_sequence WHERE name = 'submit')"
                 " UNION ALL SELECT 'ended', job FROM _ended"
                 " UNION ALL SELECT 'submit', 0 FROM submit"
                 " UNION ALL SELECT 'cancel', 0 FROM cancel"),
        "");
}

/* -- Playing -------------------------------------------------------------- */

struct world {
    void (*refuse)(int n, bool goes_on);
    bool (*relent)(void);
    int (*let_through)(void);
    int points;     /* of a scene at which it refuses, about */
    bool is_locked; /* who can wait waits until it relents */
    bool is_warm;   /* statements have been prepared */
};

static void
assert_told(enum rota_error error, const char *words)
{
    switch ((int)error) {
    case ROTA_OK:
        return;
    case ROTA_NOMEM:
        ck_assert_msg(strstr(words, "memory") != NULL, "%s", words);
        return;
    case ROTA_STORE:
    case ROTA_FULL:
    case ROTA_BUSY:
        ck_assert_msg(strstr(words, queue) != NULL, "%d: %s", (int)error,
                      words);
        return;
    case ROTA_DEADLINE:
        ck_assert_ptr_nonnull(patience);
        return;
    case ROTA_SYSTEM:
        ck_assert_str_ne(words, "");
        return;
    default:
        ck_abort_msg("not what the world did: %d: %s", (int)error, words);
    }
}

static void
assert_says(const struct scene *scene, const char *expected)
{
    if (expected != NULL)
        ck_assert_str_eq(sql_text(queue, "%s", scene->query), expected);
}

static void
open_anew(void)
{
    if (rota != NULL)
        close_queue();
    ck_assert_msg(try_open(&rota) == ROTA_OK, "%s", rota_errmsg(NULL));
}

/* Nobody needs to do anything: the next call finds what was left. */
static void
step_on(const struct scene *scene)
{
    int64_t id;

    if (scene->act == act_step_and_close)
        open_anew();
    if (scene->act == act_pause || scene->act == act_resume)
        ck_assert_int_eq(rota_resume(rota, "default"), ROTA_OK);
    for (int i = 0; i < 3; i++, now += HOUR)
        step_until_none();
    assert_says(scene, scene->in_the_end);
    assert_runs_recorded();
    body = succeeds;
    id = submit();
    ck_assert(vfs_is_synced());
    step_until_none();
    ck_assert_str_eq(job_says(id, "state"), "succeeded");
}

/* Have most statements prepared, which takes most of the memory, and leave no
 * trace. */
static void
warm_up(void)
{
    struct rota_submission s = of_kind("k");
    int64_t id, ran_id = 0;

    s.queue = "warm";
    s.priority = -1000;
    body = gets_through;
    id = submit_as(&s);
    ck_assert_int_eq(rota_step(NULL, rota, &ran_id), ROTA_OK);
    ck_assert_int_eq(ran_id, id);
    ck_assert_int_eq(rota_prune(NULL, rota, "queue = 'warm'", NULL, 0, NULL),
                     ROTA_OK);
}

static void
play_begin(const struct scene *scene, const struct world *world)
{
    file_lay_out();
    now = START;
    if (!scene->is_unopened)
        ck_assert_int_eq(try_open(&rota), ROTA_OK);
    if (world->is_warm)
        warm_up();
    ran.n = 0;
    was_lied_to = false;
    is_without_memory = world->relent == faults_disarm;
    body = scene->body != NULL ? scene->body : succeeds;
    if (scene->begin != NULL)
        scene->begin();
}

/* What comes of it, now that nothing is refused any more. */
static void
play_end(const struct scene *scene, enum rota_error answer)
{
    if (scene->is_unopened)
        open_anew();
    sql_keep(queue);
    /* nobody is shut out by a transaction that nobody ended */
    sql_run(queue, "BEGIN IMMEDIATE; ROLLBACK");
    assert_says(scene, answer == ROTA_OK ? scene->after : scene->before);
    assert_sound();
    if (scene->end != NULL)
        scene->end(answer);
    else
        step_on(scene);
    close_other();
    if (rota != NULL)
        close_queue();
    assert_sound();
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM _running"), 0);
    sql_keep(NULL);
}

/* The scene with the n-th call refused; false if there are fewer. */
static bool
play(const struct scene *scene, const struct world *world, int n, bool goes_on)
{
    enum rota_error answer;
    char words[512];
    bool refused;

    play_begin(scene, world);
    if (world->is_locked && goes_on)
        patience = ctx_with_timeout(NULL, ROTA_MS(50));
    world->refuse(n, goes_on);
    answer = scene->act();
    refused = world->relent();
    (void)snprintf(words, sizeof(words), "%s", rota_errmsg(rota));
    if (getenv("ROTA_TEST_LOUD") != NULL)
        fprintf(stderr, "%s %d%s: %d %s\n", scene->name, n,
                goes_on ? "..." : "", (int)answer, answer ? words : "");
    ck_assert_msg(refused || answer == ROTA_OK, "%s", words);
    ck_assert(answer != ROTA_OK || rota == NULL || scene->end != NULL ||
              vfs_is_synced());
    assert_told(answer, words);
    ctx_end(patience);
    patience = NULL;
    play_end(scene, answer);
    return refused;
}

/* Whether the scene is about what comes before any statement is prepared. */
static bool
is_cold(const struct scene *scene)
{
    return scene->is_unopened || scene->end != NULL || scene->set == set_orphan;
}

static int
scenes(void)
{
    return n_call_scenes + n_run_scenes;
}

static const struct scene *
scene_at(int i)
{
    return i < n_call_scenes ? &call_scenes[i] : &run_scenes[i - n_call_scenes];
}

static void
play_all(const struct scene *scene, const struct world *world)
{
    int points = number_from("ROTA_TEST_POINTS", world->points), stride;

    if (world->is_warm && is_cold(scene))
        return;
    now = START;
    body = succeeds;
    ck_assert_int_eq(try_open(&rota), ROTA_OK);
    scene->set();
    if (rota != NULL)
        close_queue();
    file_keep();
    ck_assert(!play(scene, world, INT_MAX, false));
    if (IS_SANITIZED || scene->is_slow)
        points = points / 4 + 1;
    stride = world->let_through() / points + 1;
    for (int n = 0; play(scene, world, n, false);)
        n += stride;
    for (int n = stride / 2; play(scene, world, n, true);)
        n += stride;
    for (int i = 0; i < 2; i++) {
        free(kept[i].data);
        kept[i].data = NULL;
        kept[i].size = 0;
    }
}

static void
refuse_io(int n, bool goes_on)
{
    vfs_refuse(VFS_ALL, 0, n, goes_on);
}

static void
refuse_room(int n, bool goes_on)
{
    vfs_refuse(VFS_WRITES, SQLITE_FULL, n, goes_on);
}

static void
refuse_locks(int n, bool goes_on)
{
    vfs_refuse(VFS_LOCKS, SQLITE_BUSY, n, goes_on);
}

static void
refuse_ours(int n, bool goes_on)
{
    if (goes_on)
        faults_arm_from(n);
    else
        faults_arm(n);
}

static const struct world
    broken = {refuse_io, vfs_relent, vfs_let_through, .points = 5},
    full = {refuse_room, vfs_relent, vfs_let_through, .points = 4},
    locked = {refuse_locks, vfs_relent, vfs_let_through, .points = 4,
              .is_locked = true},
    cold = {memory_refuse, memory_relent, memory_let_through, .points = 2},
    warm = {memory_refuse, memory_relent, memory_let_through, .points = 4,
            .is_warm = true},
    own = {refuse_ours, faults_disarm, faults_let_through, .points = 4};

START_TEST(when_a_call_to_the_disk_fails_nothing_is_lost_and_it_is_told)
{
    play_all(scene_at(_i), &broken);
}
END_TEST

START_TEST(when_the_disk_is_full_nothing_is_lost_and_it_is_told)
{
    play_all(scene_at(_i), &full);
}
END_TEST

START_TEST(when_a_lock_is_not_to_be_had_nothing_is_lost_and_it_is_told)
{
    play_all(scene_at(_i), &locked);
}
END_TEST

START_TEST(when_sqlite_is_short_of_memory_nothing_is_lost_and_it_is_told)
{
    play_all(scene_at(_i), &cold);
}
END_TEST

START_TEST(when_memory_is_short_for_prepared_statements_nothing_is_lost)
{
    play_all(scene_at(_i), &warm);
}
END_TEST

START_TEST(when_rota_is_short_of_memory_nothing_is_lost_and_it_is_told)
{
    play_all(scene_at(_i), &own);
}
END_TEST

/* -- A disk that takes no more, with workers ------------------------------ */

static void
limit_files(rlim_t size)
{
    struct rlimit limit;

    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Have the disk take nothing more. */
static void
refuse_to_write(void)
{
    struct stat log;

    ck_assert_int_eq(stat(in_scratch("queue.db-wal"), &log), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    limit_files((rlim_t)log.st_size);
}

START_TEST(what_the_disk_refuses_is_told_or_kept_until_it_takes_it)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    int64_t id, none = 4711;

    begin(1, held);
    id = submit_running(1);
    refuse_to_write();
    gate_open(&act.gate);
    AWAIT(was_logged(id, "its end cannot be recorded yet"));
    ck_assert_int_eq(rota_submit(rota, &submission, &none), ROTA_FULL);
    ck_assert_int_eq(none, 4711);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), queue));
    ck_assert_str_eq(job_says(id, "state"), "running");
    limit_files(RLIM_INFINITY);
    wait_for(id);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    wait_for(submit());
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"), 2);
}
END_TEST

/* Have job 1 be run by a process that has died. */
static void
give_to_the_dead(void)
{
    sql_run(queue, "BEGIN IMMEDIATE;"
                   "INSERT INTO _process(id, pid, threads, started_at)"
                   " VALUES(9, 1, 1, 1);"
                   "INSERT INTO _running(id, lease, process, claimed_at, queue)"
                   " SELECT id, 1, 9, 1, queue FROM _job;"
                   "DELETE FROM _ready; COMMIT");
}

START_TEST(a_rescue_that_the_disk_refuses_says_so_and_is_made_the_next_time)
{
    open_with(1, at_once);
    (void)submit();
    give_to_the_dead();
    refuse_to_write();
    ck_assert_int_eq(rota_rescue(rota), ROTA_FULL);
    ck_assert_str_eq(job_says(1, "state, worker, crashes"), "running|9|0");
    limit_files(RLIM_INFINITY);
    ck_assert_int_eq(rota_rescue(rota), ROTA_OK);
    ck_assert_str_eq(job_says(1, "state, lease, crashes"), "ready|1|1");
    ck_assert_int_eq(rota_rescue(rota), ROTA_OK);
    ck_assert_str_eq(runs_of(1), "1|crashed|LOST|its process died");
}
END_TEST

START_TEST(a_cancel_that_the_disk_refuses_reaches_the_job_all_the_same)
{
    int64_t id;

    begin(1, until_stopped);
    id = submit_running(1);
    refuse_to_write();
    ck_assert_int_eq(rota_cancel(rota, id, "enough", NULL), ROTA_FULL);
    AWAIT(was_logged(id, "its end cannot be recorded yet"));
    ck_assert_str_eq(act.words, "enough");
    limit_files(RLIM_INFINITY);
    wait_for(id);
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 1, "enough");
}
END_TEST

/* -- A log that is full --------------------------------------------------- */

/* Whether a submit finds it so; from here on it may be tried again. */
static bool
is_log_full(void)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    enum rota_error error = rota_submit(rota, &submission, NULL);

    ck_assert(error == ROTA_OK || error == ROTA_FULL);
    if (error == ROTA_FULL)
        sqlite_store_of(rota->store)->log.retry_at = 1;
    return error == ROTA_FULL;
}

START_TEST(a_log_that_is_full_and_cannot_be_moved_stays_full)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    struct rota_submission large = ROTA_SUBMISSION_INIT("k");
    sqlite3 *reader;

    options.log_max = 1 << 20;
    open_as(options);
    ck_assert_int_eq(sqlite3_open(queue, &reader), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(reader, "BEGIN; SELECT count(*) FROM jobs",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    large.args_size = 4 << 20;
    large.args = calloc(1, large.args_size);
    large.args_blob = true;
    (void)submit_as(&large);
    ck_assert(is_log_full());
    ck_assert_int_eq(sqlite3_close(reader), SQLITE_OK);
    vfs_refuse(VFS(VFS_WRITE), 0, 0, true);
    ck_assert(is_log_full());
    ck_assert(vfs_relent());
    ck_assert(!was_logged(0, "taken again"));
    ck_assert(!is_log_full());
    free((void *)(uintptr_t)large.args);
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
set_up(void)
{
    stage_set();
    vfs_install();
}

static TCase *
world_case(Suite *suite, const char *name)
{
    TCase *t = case_new(suite, name);

    tcase_add_checked_fixture(t, set_up, stage_clear);
    return t;
}

static void
add_limits(TCase *t)
{
    tcase_add_test(t, what_the_disk_refuses_is_told_or_kept_until_it_takes_it);
    tcase_add_test(
        t, a_rescue_that_the_disk_refuses_says_so_and_is_made_the_next_time);
    tcase_add_test(t,
                   a_cancel_that_the_disk_refuses_reaches_the_job_all_the_same);
}

int
main(void)
{
    Suite *suite = suite_create("refusals");

    memory_install();
    tcase_add_loop_test(
        world_case(suite, "disk"),
        when_a_call_to_the_disk_fails_nothing_is_lost_and_it_is_told, 0,
        scenes());
    tcase_add_loop_test(world_case(suite, "room"),
                        when_the_disk_is_full_nothing_is_lost_and_it_is_told, 0,
                        scenes());
    tcase_add_loop_test(
        world_case(suite, "locks"),
        when_a_lock_is_not_to_be_had_nothing_is_lost_and_it_is_told, 0,
        scenes());
    tcase_add_loop_test(
        world_case(suite, "memory of sqlite"),
        when_sqlite_is_short_of_memory_nothing_is_lost_and_it_is_told, 0,
        scenes());
    tcase_add_loop_test(
        world_case(suite, "memory of statements"),
        when_memory_is_short_for_prepared_statements_nothing_is_lost, 0,
        scenes());
    tcase_add_loop_test(
        world_case(suite, "memory of rota"),
        when_rota_is_short_of_memory_nothing_is_lost_and_it_is_told, 0,
        scenes());
    add_limits(stage_case(suite, "limits"));
    tcase_add_test(world_case(suite, "log"),
                   a_log_that_is_full_and_cannot_be_moved_stays_full);
    return suite_run(suite);
}
