/*
 * The files of a SQLite queue, and its transactions: a commit is as durable as
 * was asked, what came for a claim that is not made waits like any other; the
 * files are their owner's alone; the log stays, and stays short; one writer
 * passes the gate at a time; a process lives until its lock file is closed, and
 * a forked child does not keep it alive.
 *
 * One thread, but where three take turns at the gate: each has a lock file of
 * its own, and what they count is atomic. A parent and its child tell each
 * other by pipes.
 */
#define _GNU_SOURCE
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scratch.h"
#include "storage.h"
#include "store/sqlite/sqlite.h"
#include "support.h"

/* -- Transactions --------------------------------------------------------- */

static struct sqlite_store *
ours(void)
{
    return sqlite_store_of(storage.store);
}

/* What holds in a transaction. */
static int
synchronous(bool is_durable)
{
    sqlite3_stmt *s;
    int answer;

    ck_assert_int_eq(transaction_begin(ours(), is_durable), ROTA_OK);
    ck_assert_int_eq(sqlite3_prepare_v2(ours()->connection.db,
                                        "PRAGMA synchronous", -1, &s, NULL),
                     SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(s), SQLITE_ROW);
    answer = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    ck_assert_int_eq(transaction_commit(ours()), ROTA_OK);
    return answer;
}

START_TEST(a_commit_is_as_durable_as_was_asked_also_in_a_new_file)
{
    ck_assert_int_eq(synchronous(false), 1);
    ck_assert_int_eq(synchronous(true), 2);
    ck_assert_int_eq(synchronous(false), 1);
}
END_TEST

/* What the connection is set to, after a cycle that asks for it. */
static int
synchronous_of(bool is_durable)
{
    struct work work;

    work_init(&work);
    work.is_durable = is_durable;
    (void)storage_cycle(&work, 0);
    return ours()->is_durable ? 2 : 1;
}

START_TEST(a_cycle_is_as_durable_as_its_work_asks)
{
    ck_assert_int_eq(synchronous_of(false), 1);
    ck_assert_int_eq(synchronous_of(true), 2);
    ck_assert_int_eq(synchronous_of(false), 1);
}
END_TEST

/* In a transaction in which a claim is expected. */
static void
begin_expecting(struct work *work, size_t limit)
{
    work_init(work);
    ck_assert_int_eq(transaction_begin(ours(), false), ROTA_OK);
    arrivals_expect(ours(), &work->scope, limit);
}

static void
submit_here(void)
{
    const struct rota_submission plain = ROTA_SUBMISSION_INIT("k");
    int64_t id;

    ck_assert_int_eq(jobs_submit(ours(), &plain, 1, &id), ROTA_OK);
}

START_TEST(what_came_for_a_claim_that_does_not_is_lined_up)
{
    struct work work;

    begin_expecting(&work, 3);
    submit_here();
    ck_assert_int_eq(arrivals_line_up(ours()), ROTA_OK);
    submit_here();
    ck_assert_int_eq(transaction_commit(ours()), ROTA_OK);
    ck_assert_str_eq(sql_text(storage.queue, "SELECT id FROM _ready"), "1\n2");
    begin_expecting(&work, 3);
    submit_here();
    transaction_rollback(ours());
    ck_assert_str_eq(storage_claims(3), " 1 2");
}
END_TEST

/* -- The files ------------------------------------------------------------ */

START_TEST(the_queues_files_are_for_their_owner_only)
{
    static const char *const suffix[] = {"", "-wal", "-shm", "-lock"};
    char path[200];
    struct stat st;

    (void)storage_submit_plain();
    for (int i = 0; i < 4; i++) {
        (void)snprintf(path, sizeof(path), "%s%s", storage.queue, suffix[i]);
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_uint_eq(st.st_mode & 0777, 0600);
    }
}
END_TEST

START_TEST(the_log_stays_when_the_last_process_leaves)
{
    char path[200];

    (void)storage_submit_plain();
    sql_keep(NULL);
    store_close(storage.store);
    storage.store = NULL;
    (void)snprintf(path, sizeof(path), "%s-wal", storage.queue);
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(the_log_stays_short)
{
    struct stat st;
    char path[200];

    for (int i = 0; i < 3000; i++)
        (void)storage_submit_plain();
    (void)snprintf(path, sizeof(path), "%s-wal", storage.queue);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_lt(st.st_size, 800 * 4120);
}
END_TEST

/* -- The lock file -------------------------------------------------------- */

struct turn {
    pthread_t thread;
    struct lockfile *lockfile;
    atomic_int *inside, *most;
    int turns;
};

static void *
take_turns(void *arg)
{
    struct turn *turn = arg;

    for (int i = 0; i < 500; i++) {
        if (lockfile_enter(turn->lockfile, ROTA_FOREVER) != ROTA_OK)
            break;
        if (atomic_fetch_add(turn->inside, 1) > 0)
            atomic_fetch_add(turn->most, 1);
        turn->turns++;
        atomic_fetch_sub(turn->inside, 1);
        lockfile_leave(turn->lockfile);
    }
    return NULL;
}

START_TEST(one_writer_passes_the_gate_at_a_time)
{
    atomic_int inside = 0, most = 0;
    struct turn turns[3];
    char path[200];

    (void)snprintf(path, sizeof(path), "%s-lock", storage.queue);
    for (int i = 0; i < 3; i++) {
        turns[i] = (struct turn){.inside = &inside, .most = &most};
        ck_assert_int_eq(lockfile_open(path, &turns[i].lockfile), ROTA_OK);
    }
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(
            pthread_create(&turns[i].thread, NULL, take_turns, &turns[i]), 0);
    for (int i = 0; i < 3; i++) {
        pthread_join(turns[i].thread, NULL);
        lockfile_close(turns[i].lockfile);
        ck_assert_int_eq(turns[i].turns, 500);
    }
    ck_assert_int_eq(most, 0);
}
END_TEST

/* That file's turn does not come. */
static void
give_up(struct lockfile *file)
{
    ck_assert_int_eq(lockfile_enter(file, 0), ROTA_BUSY);
    ck_assert_int_eq(lockfile_enter(file, ctx_now() + ROTA_MS(5)), ROTA_BUSY);
}

static void
pass(struct lockfile *file)
{
    ck_assert_int_eq(lockfile_enter(file, ROTA_FOREVER), ROTA_OK);
    lockfile_leave(file);
}

START_TEST(who_gave_up_his_turn_keeps_nobody_out_and_may_come_again)
{
    struct lockfile *all[3];
    char path[200];

    (void)snprintf(path, sizeof(path), "%s-lock", storage.queue);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(lockfile_open(path, &all[i]), ROTA_OK);
    ck_assert_int_eq(lockfile_enter(all[0], 0), ROTA_OK);
    give_up(all[1]);
    give_up(all[2]);
    give_up(all[1]);
    lockfile_leave(all[0]);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 3; i++)
            pass(all[2 - i]);
    for (int i = 0; i < 3; i++)
        lockfile_close(all[i]);
}
END_TEST

START_TEST(who_closes_the_queue_while_he_waits_lives_no_more_and_is_passed_by)
{
    struct lockfile *writes, *waits, *other;
    char path[200];

    (void)snprintf(path, sizeof(path), "%s-lock", storage.queue);
    ck_assert_int_eq(lockfile_open(path, &writes), ROTA_OK);
    ck_assert_int_eq(lockfile_open(path, &waits), ROTA_OK);
    ck_assert_int_eq(lockfile_open(path, &other), ROTA_OK);
    ck_assert_int_eq(lockfile_enter(writes, 0), ROTA_OK);
    ck_assert_int_eq(lockfile_live(waits, 5), ROTA_OK);
    give_up(waits);
    ck_assert(lockfile_lives(other, 5));
    lockfile_close(waits);
    ck_assert(!lockfile_lives(other, 5));
    lockfile_leave(writes);
    pass(other);
    pass(writes);
    lockfile_close(other);
    lockfile_close(writes);
}
END_TEST

/* How many descriptors of this process lead to the file. */
static int
descriptors_of(const char *path)
{
    char name[32], target[256];
    ssize_t size;
    int n = 0;

    for (int fd = 0; fd < 1024; fd++) {
        (void)snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
        size = readlink(name, target, sizeof(target) - 1);
        target[size < 0 ? 0 : size] = '\0';
        n += strcmp(target, path) == 0;
    }
    return n;
}

START_TEST(a_forked_child_keeps_no_place_in_line_not_even_of_who_has_closed)
{
    struct lockfile *writes, *waits;
    char path[200], *real;
    int status;
    pid_t pid;

    (void)snprintf(path, sizeof(path), "%s-lock", storage.queue);
    ck_assert_int_eq(lockfile_open(path, &writes), ROTA_OK);
    ck_assert_int_eq(lockfile_open(path, &waits), ROTA_OK);
    ck_assert_int_eq(lockfile_enter(writes, 0), ROTA_OK);
    give_up(waits);
    lockfile_close(waits);
    real = realpath(path, NULL);
    ck_assert_int_ge(descriptors_of(real), 2);
    pid = fork();
    if (pid == 0)
        _exit(descriptors_of(real));
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    free(real);
    lockfile_leave(writes);
    lockfile_close(writes);
}
END_TEST

START_TEST(a_process_lives_until_its_lock_file_is_closed)
{
    struct lockfile *a, *b;
    char path[200];

    (void)snprintf(path, sizeof(path), "%s-lock", storage.queue);
    ck_assert_int_eq(lockfile_open(path, &a), ROTA_OK);
    ck_assert_int_eq(lockfile_open(path, &b), ROTA_OK);
    ck_assert(!lockfile_lives(b, 5));
    ck_assert_int_eq(lockfile_live(a, 5), ROTA_OK);
    ck_assert(lockfile_lives(b, 5));
    ck_assert(lockfile_lives(a, 5)); /* also in its own eyes */
    ck_assert(!lockfile_lives(b, 6));
    lockfile_close(a);
    ck_assert(!lockfile_lives(b, 5));
    lockfile_close(b);
}
END_TEST

START_TEST(a_forked_child_does_not_keep_its_parents_lock)
{
    int ready[2], done[2];
    char path[200], byte;
    struct lockfile *mine;
    pid_t parent, child;

    /* a parent that forks a child that stays, and then dies */
    (void)snprintf(path, sizeof(path), "%s-lock", storage.queue);
    ck_assert_int_eq(lockfile_open(path, &mine), ROTA_OK);
    ck_assert_int_eq(pipe(ready) | pipe(done), 0);
    parent = fork();
    if (parent == 0) {
        struct lockfile *theirs;

        if (lockfile_open(path, &theirs) != ROTA_OK ||
            lockfile_live(theirs, 9) != ROTA_OK)
            _exit(1);
        child = fork();
        if (child == 0) {
            (void)!write(ready[1], "x", 1);
            close(done[1]);
            (void)!read(done[0], &byte, 1);
            _exit(0);
        }
        pause();
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    ck_assert(lockfile_lives(mine, 9));
    kill(parent, SIGKILL);
    (void)waitpid(parent, NULL, 0);
    ck_assert(!lockfile_lives(mine, 9));
    close(done[1]); /* lets the child go */
    lockfile_close(mine);
}
END_TEST

static Suite *
files_suite(void)
{
    Suite *suite = suite_create("files");
    TCase *files = case_new(suite, "files");

    tcase_add_checked_fixture(files, storage_make, storage_remove);
    tcase_add_test(files,
                   a_commit_is_as_durable_as_was_asked_also_in_a_new_file);
    tcase_add_test(files, a_cycle_is_as_durable_as_its_work_asks);
    tcase_add_test(files, what_came_for_a_claim_that_does_not_is_lined_up);
    tcase_add_test(files, the_queues_files_are_for_their_owner_only);
    tcase_add_test(files, the_log_stays_when_the_last_process_leaves);
    tcase_add_test(files, the_log_stays_short);
    tcase_add_test(files, one_writer_passes_the_gate_at_a_time);
    tcase_add_test(files,
                   who_gave_up_his_turn_keeps_nobody_out_and_may_come_again);
    tcase_add_test(
        files,
        who_closes_the_queue_while_he_waits_lives_no_more_and_is_passed_by);
    tcase_add_test(
        files,
        a_forked_child_keeps_no_place_in_line_not_even_of_who_has_closed);
    tcase_add_test(files, a_process_lives_until_its_lock_file_is_closed);
    tcase_add_test(files, a_forked_child_does_not_keep_its_parents_lock);
    return suite;
}

/* This is about one kind of store, whatever the environment names. */
int
main(void)
{
    storage_use(&storage_sqlite);
    return suite_run(files_suite());
}
