/*
 * rota_open(): what is no queue is refused and left as it is, a queue keeps its
 * name, who opened to look only looks, and what is closed leaves nothing
 * behind. Files of other versions: test_schema.c.
 *
 * No threads of the tests' own.
 */
#define _GNU_SOURCE
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scratch.h"
#include "stage.h"

static int
descriptors(void)
{
    DIR *fds = opendir("/proc/self/fd");
    int n = 0;

    ck_assert_ptr_nonnull(fds);
    while (readdir(fds) != NULL)
        n++;
    closedir(fds);
    return n;
}

START_TEST(opening_and_closing_leaks_neither_threads_nor_descriptors)
{
    int fds = 0, threads = 0;

    for (int round = 0; round <= 50; round++) {
        begin(2, at_once);
        wait_for(submit());
        close_queue();
        if (round == 0) {
            AWAIT(threads_named("rota-w") + threads_named("rota-l") == 0);
            AWAIT(threads_named("rota-0") + threads_named("rota-1") == 0);
            fds = descriptors();
            threads = threads_named("");
        }
    }
    ck_assert_int_eq(descriptors(), fds);
    AWAIT(threads_named("") == threads); /* joined, and gone in a moment */
}
END_TEST

static void
make_directory(const char *path)
{
    ck_assert_int_eq(mkdir(path, 0700), 0);
}

static void
make_text(const char *path)
{
    (void)path;
    scratch_write_text("other", "This is a text, and not a short one, for a"
                                " page of SQLite is longer than a line.\n");
}

static void
make_foreign(const char *path)
{
    sql_run(path, "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
}

static void
make_newer(const char *path)
{
    struct rota *other = NULL;

    ck_assert_int_eq(rota_open(path, NULL, &other), ROTA_OK);
    ck_assert_int_eq(rota_close(other), ROTA_OK);
    sql_run(path, "PRAGMA user_version = 1000");
}

static void
make_hard_link(const char *path)
{
    make_newer(in_scratch("first"));
    ck_assert_int_eq(link(in_scratch("first"), path), 0);
}

static void
make_nothing(const char *path)
{
    (void)path;
}

static const struct {
    void (*make)(const char *path);
    unsigned flags;
    enum rota_error error;
    const char *says;
} strangers[] = {
    {make_directory, 0, ROTA_INVALID, "is not a regular file"},
    {make_text, 0, ROTA_CORRUPT, "not a database"},
    {make_foreign, 0, ROTA_CORRUPT, "a SQLite file of something else"},
    {make_newer, 0, ROTA_VERSION, "upgrade rota"},
    {make_hard_link, 0, ROTA_INVALID, "hard links"},
    {make_text, ROTA_READONLY, ROTA_CORRUPT, "not a database"},
    {make_nothing, ROTA_READONLY, ROTA_NOTFOUND, "No such file"},
    {make_nothing, 64, ROTA_INVALID, "ROTA_OPTIONS_INIT"},
};

/* All that is in the folder, and how it looks. */
static const char *
folder_in_words(void)
{
    static char words[2][4096];
    static int turn;
    char command[256];
    FILE *pipe;
    size_t n;

    turn = !turn;
    (void)snprintf(command, sizeof(command),
                   "cd '%s' && ls -A && cksum * 2>/dev/null", in_scratch("."));
    pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    n = fread(words[turn], 1, sizeof(words[turn]) - 1, pipe);
    words[turn][n] = '\0';
    (void)pclose(pipe);
    return words[turn];
}

START_TEST(what_is_no_queue_is_refused_and_left_as_it_is)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    struct rota *before = (struct rota *)(void *)&options, *other = before;
    const char *path = in_scratch("other"), *folder;

    strangers[_i].make(path);
    folder = folder_in_words();
    options.flags = strangers[_i].flags;
    ck_assert_int_eq(rota_open(path, &options, &other), strangers[_i].error);
    ck_assert_ptr_eq(other, before);
    ck_assert_msg(strstr(rota_errmsg(NULL), strangers[_i].says) != NULL, "%s",
                  rota_errmsg(NULL));
    ck_assert_str_eq(folder_in_words(), folder);
}
END_TEST

/* -- Companions ------------------------------------------------------------ */

/* What somebody else may have put beside the queue: each makes the file path,
 * where there is none, and says whether it could. */

static bool
plant_foreign(const char *path)
{
    scratch_write_text(strrchr(path, '/') + 1, "planted");
    return chmod(path, 0600) == 0 && chown(path, 65534, 65534) == 0;
}

static bool
plant_wide(const char *path)
{
    scratch_write_text(strrchr(path, '/') + 1, "planted");
    return chmod(path, 0622) == 0;
}

static bool
plant_symlink(const char *path)
{
    scratch_write_text("elsewhere", "planted");
    return symlink("elsewhere", path) == 0;
}

static bool
plant_hard_link(const char *path)
{
    scratch_write_text("elsewhere", "planted");
    return chmod(in_scratch("elsewhere"), 0600) == 0 &&
           link(in_scratch("elsewhere"), path) == 0;
}

static bool
plant_directory(const char *path)
{
    return mkdir(path, 0700) == 0;
}

static const struct {
    bool (*plant)(const char *path);
    const char *says;
} plants[] = {
    {plant_foreign, "belongs to somebody else"},
    {plant_wide, "lets in more people"},
    {plant_symlink, "is no regular file"},
    {plant_hard_link, "has another name"},
    {plant_directory, "is no regular file"},
};

/* The queue is refused while that is there, and nothing is touched. */
static void
check_refused(const char *says, unsigned flags)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    const char *folder = folder_in_words();
    struct rota *other = NULL;

    options.flags = flags;
    ck_assert_int_eq(rota_open(queue, &options, &other), ROTA_INVALID);
    ck_assert_ptr_null(other);
    ck_assert_msg(strstr(rota_errmsg(NULL), says) != NULL, "%s",
                  rota_errmsg(NULL));
    ck_assert_str_eq(folder_in_words(), folder);
}

START_TEST(companions_that_others_may_have_written_are_refused_untouched)
{
    static const char *const suffixes[] = {"-wal", "-shm", "-journal", "-lock"};
    char path[300];

    for (int is_there = 0; is_there < 2; is_there++)
        for (size_t i = 0; i < 4; i++) {
            if (is_there) {
                open_queue(1);
                close_queue();
            }
            (void)snprintf(path, sizeof(path), "%s%s", queue, suffixes[i]);
            (void)unlink(path);
            if (!plants[_i].plant(path))
                return; /* it takes root to give a file away */
            check_refused(plants[_i].says, 0);
            if (is_there)
                check_refused(plants[_i].says, ROTA_READONLY);
            scratch_remove();
            scratch_make();
            (void)snprintf(queue, sizeof(queue), "%s", in_scratch("queue.db"));
        }
}
END_TEST

/* A queue that its owner has opened to a group, say: its companions are that
 * group's, too, and what one of them has made is. */
START_TEST(who_may_write_the_queue_may_have_made_its_companions)
{
    char path[300];
    struct stat lock;

    open_queue(1);
    close_queue();
    (void)snprintf(path, sizeof(path), "%s-lock", queue);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(chmod(queue, 0660), 0);
    open_queue(1);
    ck_assert_int_eq(stat(path, &lock), 0);
    ck_assert_uint_eq(lock.st_mode & 0777, 0660);
    close_queue();
    (void)snprintf(path, sizeof(path), "%s-shm", queue);
    if (chown(path, 65534, (gid_t)-1) == 0)
        open_queue(1);
}
END_TEST

START_TEST(what_root_makes_beside_a_queue_is_its_owners)
{
    char path[300];
    struct stat lock;

    open_queue(1);
    close_queue();
    (void)snprintf(path, sizeof(path), "rm -f %s-*", queue);
    ck_assert_int_eq(system(path), 0);
    if (chown(queue, 65534, 65534) != 0)
        return; /* it takes root to be it */
    open_queue(1);
    (void)snprintf(path, sizeof(path), "%s-lock", queue);
    ck_assert_int_eq(stat(path, &lock), 0);
    ck_assert_uint_eq(lock.st_uid, 65534);
}
END_TEST

/* -- Paths ----------------------------------------------------------------- */

START_TEST(what_is_no_path_is_refused)
{
    const char *const paths[] = {NULL, "", ":memory:", "file:x"};
    struct rota *other = NULL;

    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(rota_open(paths[i], NULL, &other), ROTA_INVALID);
    ck_assert_int_eq(rota_open("/no/such/folder/q.db", NULL, &other),
                     ROTA_SYSTEM);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(NULL), "/no/such/folder"));
    ck_assert_ptr_null(other);
}
END_TEST

START_TEST(a_kind_of_store_that_is_not_built_in_is_refused_by_name)
{
    const char *const names[] = {"postgres://localhost/q",
                                 "postgresql:///q?host=/tmp"};
    struct rota *other = NULL;

    for (size_t i = 0; i < 2; i++) {
        ck_assert_int_eq(rota_open(names[i], NULL, &other), ROTA_INVALID);
        ck_assert_ptr_nonnull(strstr(rota_errmsg(NULL), "no PostgreSQL"));
    }
    ck_assert_ptr_null(other);
}
END_TEST

START_TEST(options_that_were_not_initialised_are_refused)
{
    struct rota_options zero = {0}, negative = ROTA_OPTIONS_INIT;
    struct rota *other = NULL;

    negative.workers = -1;
    ck_assert_int_eq(rota_open(queue, &zero, &other), ROTA_INVALID);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(NULL), "ROTA_OPTIONS_INIT"));
    ck_assert_int_eq(rota_open(queue, &negative, &other), ROTA_INVALID);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(NULL), "negative"));
    ck_assert_ptr_null(other);
    ck_assert_int_ne(access(queue, F_OK), 0);
}
END_TEST

START_TEST(a_queue_keeps_its_name_for_life)
{
    struct rota *other = NULL;
    char instance[64];

    open_queue(1);
    (void)snprintf(instance, sizeof(instance), "%s", rota_instance(rota));
    ck_assert_uint_ge(strlen(instance), 16);
    ck_assert_int_eq(rota_open(in_scratch("other"), NULL, &other), ROTA_OK);
    ck_assert_str_ne(rota_instance(other), instance);
    ck_assert_int_eq(rota_close(other), ROTA_OK);
    close_queue();
    open_queue(1);
    ck_assert_str_eq(rota_instance(rota), instance);
}
END_TEST

static bool
keep_integer(void *arg, int n, const char *const *names,
             const struct rota_value *values)
{
    (void)n, (void)names;
    if (values != NULL)
        *(int64_t *)arg = values[0].integer;
    return true;
}

START_TEST(who_opened_to_look_can_look_and_nothing_else)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    struct rota_options options = ROTA_OPTIONS_INIT;
    int64_t id, jobs = 0;
    struct rota *look;

    begin(1, at_once);
    id = submit();
    wait_for(id);
    options.flags = ROTA_READONLY;
    ck_assert_int_eq(rota_open(queue, &options, &look), ROTA_OK);
    ck_assert_int_eq(rota_handle(look, "k", at_once, NULL, NULL), ROTA_OK);
    ck_assert_int_eq(rota_submit(look, &submission, NULL), ROTA_INVALID);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(look), "look only"));
    ck_assert_int_eq(rota_cancel(look, id, NULL, NULL), ROTA_INVALID);
    ck_assert_int_eq(rota_start(NULL, look), ROTA_INVALID);
    ck_assert_int_eq(rota_wait(NULL, look, id, NULL), ROTA_OK);
    ck_assert_int_eq(rota_query(NULL, look, "SELECT count(*) FROM jobs", NULL,
                                0, keep_integer, &jobs),
                     ROTA_OK);
    ck_assert_int_eq(jobs, 1);
    ck_assert_int_eq(rota_close(look), ROTA_OK);
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_opening(TCase *t)
{
    tcase_add_test(t,
                   opening_and_closing_leaks_neither_threads_nor_descriptors);
    tcase_add_loop_test(t, what_is_no_queue_is_refused_and_left_as_it_is, 0,
                        (int)(sizeof(strangers) / sizeof(strangers[0])));
    tcase_add_loop_test(
        t, companions_that_others_may_have_written_are_refused_untouched, 0,
        (int)(sizeof(plants) / sizeof(plants[0])));
    tcase_add_test(t, who_may_write_the_queue_may_have_made_its_companions);
    tcase_add_test(t, what_root_makes_beside_a_queue_is_its_owners);
    tcase_add_test(t, what_is_no_path_is_refused);
    tcase_add_test(t, a_kind_of_store_that_is_not_built_in_is_refused_by_name);
    tcase_add_test(t, options_that_were_not_initialised_are_refused);
    tcase_add_test(t, a_queue_keeps_its_name_for_life);
    tcase_add_test(t, who_opened_to_look_can_look_and_nothing_else);
}

int
main(void)
{
    Suite *suite = suite_create("open");

    add_opening(stage_case(suite, "opening"));
    return suite_run(suite);
}
