/*
 * The kind "import", run through the public API as a program would run it,
 * on files in a folder of its own.
 */
#define _GNU_SOURCE
#include <check.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "importing.h"
#include "scratch.h"
#include "support.h"

/* -- The middle ---------------------------------------------------------- */

static struct gate middle = GATE_INIT;

static _Atomic int passed; /* how many have come through the middle */

static void
pass_middle(sqlite3_context *context, int n, sqlite3_value **values)
{
    (void)context, (void)n, (void)values;
    gate_pass(&middle);
    passed++;
}

static int
add_middle(sqlite3 *db, char **message, const void *api)
{
    (void)message, (void)api;
    return sqlite3_create_function(db, "middle", 0, SQLITE_UTF8, NULL,
                                   pass_middle, NULL, NULL);
}

/* Have the import of in.csv wait at the gate when it inserts row 30. */
static int64_t
submit_until_the_middle(const char *more)
{
    int64_t id;

    (void)sqlite3_auto_extension((void (*)(void))add_middle);
    prepare("CREATE TABLE IF NOT EXISTS t(id INTEGER, text);"
            "CREATE TRIGGER halt AFTER INSERT ON t WHEN NEW.id = 30"
            " BEGIN SELECT middle(); END");
    id = submit(args_with(more));
    gate_await(&middle, 1);
    return id;
}

/* -- Rows ---------------------------------------------------------------- */

START_TEST(rows_are_imported_and_the_result_says_how_many)
{
    char expected[256];

    import("a,b\n1,x\n2,y\n", "");
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT * FROM t"), "1|x\n2|y");
    (void)snprintf(expected, sizeof(expected),
                   "{\"rows\":2,\"bad\":0,\"table\":\"t\",\"into\":\"%s\"}",
                   in_scratch("out.db"));
    ck_assert_str_eq(result, expected);
}
END_TEST

START_TEST(the_table_is_called_like_the_file_unless_told)
{
    char args[512];

    scratch_write_text("some rows.v2.tsv", "a\tb\n1,1\t\"x\ty\"\n");
    (void)snprintf(args, sizeof(args),
                   "{\"file\":\"%s\",\"into\":\"%s\",\"quote\":\"\\\"\"}",
                   in_scratch("some rows.v2.tsv"), in_scratch("out.db"));
    import_args(args);
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT * FROM \"some rows.v2\""), "1,1|x\ty");
}
END_TEST

START_TEST(names_are_quoted_whatever_they_are)
{
    import("\"a\"\"b\",select,\"x); DROP TABLE t; --\"\n1,2,3\n", "");
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT \"a\"\"b\", \"select\" FROM t"), "1|2");
}
END_TEST

START_TEST(spaces_and_empty_fields_are_kept)
{
    import("a,b,c\n x ,, \n", "");
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT quote(a), quote(b), quote(c) FROM t"),
                     "' x '|''|' '");
}
END_TEST

START_TEST(a_byte_order_mark_crlf_and_a_missing_last_newline_are_fine)
{
    import("\xef\xbb\xbf"
           "a,b\r\n\r\n1,x\r\n\n2,y",
           "");
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT a, b FROM t"), "1|x\n2|y");
    ck_assert_str_eq(ask("SELECT cursor FROM _rota_cursor"), "2");
}
END_TEST

START_TEST(quoted_newlines_are_data_and_the_line_is_where_the_row_starts)
{
    import("a,b\n1,\"x\ny\"\n2\n3,\"p\r\n\r\nq\"\n4\n", "");
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT a, replace(b, char(13), '<CR>') FROM t"),
                     "1|x\ny\n3|p<CR>\n<CR>\nq");
    ck_assert_str_eq(ask("SELECT line, row FROM _rota_import_bad"), "4|2\n8|4");
}
END_TEST

START_TEST(fields_that_are_no_text_are_stored_as_blobs)
{
    static const char text[] = "a,b\nx\0y,ok\n\xff\xfe,\xc3\xa9\n";

    scratch_write("in.csv", text, sizeof(text) - 1);
    import_args(args_with(""));
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT quote(a), typeof(b) FROM t"),
                     "X'780079'|text\nX'FFFE'|text");
}
END_TEST

START_TEST(columns_with_types_make_the_table_and_the_first_row_is_data)
{
    import("x,7,1.5\ny,8,z\n",
           "\"columns\":\"name TEXT, n INTEGER ,price DECIMAL(10,2)\"");
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT name, typeof(n), typeof(price) FROM t"),
                     "x|integer|real\ny|integer|text");
    ck_assert_str_eq(ask("SELECT type FROM pragma_table_info('t')"),
                     "TEXT\nINTEGER\nDECIMAL(10,2)");
}
END_TEST

START_TEST(an_existing_table_is_matched_by_name)
{
    prepare("CREATE TABLE t(n INTEGER, extra DEFAULT 'd', Name TEXT,"
            " twice AS (n * 2))");
    import("name,n\nx,7\n", "");
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT n, extra, Name, twice FROM t"), "7|d|x|14");
}
END_TEST

START_TEST(a_hundred_thousand_rows_arrive_each_once)
{
    scratch_write_rows("in.csv", 100000);
    import_args(args_with(""));
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT count(*), count(DISTINCT id),"
                         " sum(text = 'row ' || id) FROM t"),
                     "100000|100000|100000");
}
END_TEST

/* -- Bad rows ------------------------------------------------------------ */

START_TEST(a_bad_row_is_recorded_with_its_line_and_the_import_goes_on)
{
    import("a,b\n1,x\n2\n3,\"y\"z\n4,w,v\n5,u\n", "");
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT a FROM t"), "1\n5");
    ck_assert_str_eq(ask("SELECT job, line, reason, row FROM _rota_import_bad"),
                     "1|3|1 field instead of 2|2\n"
                     "1|4|malformed quoting|3,\"y\"z\n"
                     "1|5|3 fields instead of 2|4,w,v");
    ck_assert_ptr_nonnull(strstr(result, "\"rows\":2,\"bad\":3"));
    ck_assert_str_eq(ask("SELECT cursor FROM _rota_cursor"), "5");
    ck_assert_str_eq(ask("SELECT count(*) FROM _rota_import_bad b"
                         " JOIN _rota_cursor c USING (queue, job)"),
                     "3");
}
END_TEST

START_TEST(a_quote_that_is_never_closed_costs_one_line)
{
    import("a,b\n1,\"x\n2,y\n3,\"z\"\n4,\"w\n5,v\n", "");
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT a FROM t"), "2\n3\n5");
    ck_assert_str_eq(ask("SELECT line, row FROM _rota_import_bad"),
                     "2|1,\"x\n5|4,\"w");
}
END_TEST

START_TEST(a_row_that_a_constraint_refuses_is_bad_and_its_group_stays)
{
    prepare("CREATE TABLE t(a INTEGER PRIMARY KEY, b CHECK (b <> 'no'))");
    import("a,b\n1,x\n1,again\nword,y\n2,no\n3,z\n", "");
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT a, b FROM t"), "1|x\n3|z");
    ck_assert_str_eq(ask("SELECT line, reason FROM _rota_import_bad"),
                     "3|UNIQUE constraint failed: t.a\n"
                     "4|datatype mismatch\n"
                     "5|CHECK constraint failed: b <> 'no'");
}
END_TEST

START_TEST(a_table_that_rolls_back_on_conflict_fails_the_job_for_good)
{
    prepare("CREATE TABLE t(a INTEGER PRIMARY KEY ON CONFLICT ROLLBACK)");
    import("a\n1\n1\n", "");
    assert_failed(ROTA_FATAL, "rolled the transaction back");
    ck_assert_str_eq(ask("SELECT count(*) FROM t"), "0");
}
END_TEST

START_TEST(the_text_of_a_bad_row_is_cut_to_1000_bytes)
{
    char text[3000];

    memset(text, 'x', sizeof(text) - 1);
    (void)strcpy(text + sizeof(text) - 6, "\n1,2\n");
    import(text, "\"columns\":\"a,b\"");
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT length(row) FROM _rota_import_bad"), "1000");
}
END_TEST

START_TEST(more_bad_rows_than_max_bad_fail_the_job_for_good)
{
    import("a,b\n1\n2\n3,x\n", "\"max_bad\":\"2\"");
    assert_succeeded();
    import("a,b\n1\n2\n3,x\n", "\"max_bad\":1,\"group\":1");
    assert_failed(ROTA_FATAL, "2 bad rows, more than max_bad=1");
    ck_assert_str_eq(ask("SELECT cursor FROM _rota_cursor WHERE job = 2"), "2");
}
END_TEST

START_TEST(a_file_of_which_every_row_is_refused_is_no_success)
{
    import("id;name;price\n1;Socke;1,50\n2;Hut;2,75\n", "");
    assert_failed(ROTA_FATAL, "no row of ");
    assert_failed(ROTA_FATAL, "the first of 2, line 2: 2 fields instead of 1 "
                              "(does delimiter= fit?)");
    ck_assert_str_eq(ask("SELECT line FROM _rota_import_bad"), "2\n3");
    prepare("DROP TABLE t; CREATE TABLE t(a CHECK (a <> '1'))");
    import("a\n1\n", "");
    assert_failed(ROTA_FATAL,
                  "the first of 1, line 2: CHECK constraint failed");
    import("a\n", ""); /* a file without rows has none that was refused */
    assert_succeeded();
}
END_TEST

START_TEST(a_row_that_the_table_ignores_is_not_counted_as_imported)
{
    prepare("CREATE TABLE t(a INTEGER PRIMARY KEY ON CONFLICT IGNORE);"
            "CREATE TRIGGER no BEFORE INSERT ON t WHEN NEW.a = 7"
            " BEGIN SELECT RAISE(IGNORE); END");
    import("a\n1\n1\n7\n2\n1\n", "\"group\":2");
    assert_succeeded();
    ck_assert_ptr_nonnull(strstr(result, "\"rows\":2,\"bad\":0,"));
    ck_assert_ptr_nonnull(strstr(result, "\"ignored\":3"));
    ck_assert_str_eq(ask("SELECT a FROM t"), "1\n2");
}
END_TEST

START_TEST(rows_that_go_through_a_view_are_counted)
{
    prepare("CREATE TABLE u(a); CREATE VIEW t AS SELECT a FROM u;"
            "CREATE TRIGGER i INSTEAD OF INSERT ON t"
            " BEGIN INSERT INTO u VALUES(NEW.a); END");
    import("a\n1\n2\n", "");
    assert_succeeded();
    ck_assert_ptr_nonnull(strstr(result, "\"rows\":2,\"bad\":0,"));
    ck_assert_ptr_null(strstr(result, "ignored"));
}
END_TEST

START_TEST(fields_that_are_no_text_are_counted_and_said)
{
    import("a,b\n1,M\xfcller\n\xff,\xff\n2\xff\n3,x\n", "");
    assert_succeeded();
    ck_assert_ptr_nonnull(strstr(result, "\"rows\":3,\"bad\":1,"));
    ck_assert_ptr_nonnull(strstr(result, "\"not_text\":3"));
}
END_TEST

/* -- Stopping ------------------------------------------------------------ */

START_TEST(a_cancelled_import_keeps_whole_groups_only)
{
    int64_t id;

    scratch_write_rows("in.csv", 1000);
    id = submit_until_the_middle("\"group\":7");
    ck_assert_int_eq(rota_cancel(rota, id, "enough", NULL), ROTA_OK);
    gate_open(&middle);
    wait_for(id);
    ck_assert_int_eq(outcome.state, ROTA_CANCELLED);
    ck_assert_str_eq(outcome.message, "enough");
    ck_assert_str_eq(ask("SELECT count(*) % 7, count(*) < 50,"
                         " count(*) = (SELECT cursor FROM _rota_cursor)"
                         " FROM t"),
                     "0|1|1");
}
END_TEST

START_TEST(a_cancel_ends_a_group_within_the_row_that_is_being_inserted)
{
    int64_t id;

    scratch_write_rows("in.csv", 100000);
    (void)sqlite3_auto_extension((void (*)(void))add_middle);
    prepare("CREATE TABLE t(id INTEGER, text);"
            "CREATE TRIGGER halt AFTER INSERT ON t WHEN NEW.id >= 30"
            " BEGIN SELECT middle(); END");
    id = submit(args_with("\"group\":100000"));
    gate_await(&middle, 1);
    ck_assert_int_eq(rota_cancel(rota, id, "enough", NULL), ROTA_OK);
    gate_open(&middle);
    wait_for(id);
    ck_assert_int_eq(outcome.state, ROTA_CANCELLED);
    ck_assert_int_le(passed, 2);
    ck_assert_str_eq(ask("SELECT count(*) FROM t"), "0");
}
END_TEST

/* How many transactions have changed out.db: SQLite counts them in its header.
 */
static unsigned
transactions(void)
{
    size_t size;
    char *data = file_read(in_scratch("out.db"), &size);
    const unsigned char *count = (const unsigned char *)data + 24;
    unsigned n;

    ck_assert_uint_gt(size, 100);
    n = (unsigned)count[0] << 24 | (unsigned)count[1] << 16 |
        (unsigned)count[2] << 8 | count[3];
    free(data);
    return n;
}

START_TEST(a_group_grows_to_the_time_that_it_may_take)
{
    scratch_write_rows("in.csv", 100000);
    import_args(args_with("\"group\":\"600000ms\""));
    assert_succeeded();
    /* of 500, 4000, 32000 and 63500 rows, and what makes the tables */
    ck_assert_uint_le(transactions(), 8);
    ck_assert_str_eq(ask("SELECT count(*), count(DISTINCT id) FROM t"),
                     "100000|100000");
}
END_TEST

START_TEST(a_group_that_is_told_in_rows_has_so_many)
{
    scratch_write_rows("in.csv", 1000);
    import_args(args_with("\"group\":10"));
    assert_succeeded();
    ck_assert_uint_ge(transactions(), 100);
}
END_TEST

/* Stop an import of in.csv in the middle. */
static int64_t
stop_in_the_middle(const char *more)
{
    int64_t id = submit_until_the_middle(more);

    (void)ctx_cancel(run);
    gate_open(&middle);
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_OK);
    ck_assert_int_eq(rota_close(rota), ROTA_OK);
    ck_assert_str_eq(ask("SELECT count(*) BETWEEN 20 AND 40 FROM t"), "1");
    return id;
}

/* Have in.csv, which is ASCII, in UTF-16 with a byte order mark. */
static void
widen(void)
{
    size_t size;
    char *text = file_read(in_scratch("in.csv"), &size);
    FILE *file = fopen(in_scratch("in.csv"), "w");

    ck_assert_ptr_nonnull(file);
    (void)fputs("\xff\xfe", file);
    for (size_t i = 0; i < size; i++)
        (void)fputc(text[i], file), (void)fputc(0, file);
    ck_assert_int_eq(fclose(file), 0);
    free(text);
}

START_TEST(a_stopped_import_resumes_at_its_cursor_and_no_row_comes_twice)
{
    int64_t id;

    scratch_write_rows("in.csv", 1000);
    if (_i == 1)
        widen();
    id = stop_in_the_middle("\"group\":2");
    open_queue();
    wait_for(id);
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT count(*), count(DISTINCT id) FROM t"),
                     "1000|1000");
    ck_assert_str_eq(ask("SELECT lease, cursor FROM _rota_cursor"), "2|1000");
}
END_TEST

START_TEST(what_was_ignored_or_no_text_is_counted_once_across_resumes)
{
    FILE *file;
    int64_t id;

    scratch_write_rows("in.csv", 1000);
    file = fopen(in_scratch("in.csv"), "r+");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs("id,text\n1,ro\xff\xff\xff\n1,ro\xff ", file), 0);
    ck_assert_int_eq(fclose(file), 0);
    prepare("CREATE TABLE t(id INTEGER PRIMARY KEY ON CONFLICT IGNORE, text)");
    id = stop_in_the_middle("\"group\":2");
    open_queue();
    wait_for(id);
    assert_succeeded();
    ck_assert_ptr_nonnull(strstr(result, "\"rows\":999,\"bad\":0,"));
    ck_assert_ptr_nonnull(strstr(result, "\"ignored\":1"));
    ck_assert_ptr_nonnull(strstr(result, "\"not_text\":2"));
}
END_TEST

START_TEST(bad_rows_count_and_are_recorded_once_across_resumes)
{
    FILE *file;
    int64_t id;

    scratch_write_rows("in.csv", 1000);
    file = fopen(in_scratch("in.csv"), "r+");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs("id,text\n1;row 1\n", file), 0);
    ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
    ck_assert_int_ge(fputs("bad\n", file), 0);
    ck_assert_int_eq(fclose(file), 0);
    id = stop_in_the_middle("\"group\":2,\"max_bad\":1");
    open_queue();
    wait_for(id);
    assert_failed(ROTA_FATAL, "2 bad rows, more than max_bad=1");
    ck_assert_str_eq(ask("SELECT line, row FROM _rota_import_bad"),
                     "2|1;row 1\n1002|bad");
}
END_TEST

START_TEST(a_file_with_fewer_rows_than_were_imported_fails_for_good)
{
    int64_t id;

    scratch_write_rows("in.csv", 1000);
    id = stop_in_the_middle("\"group\":2");
    scratch_write_rows("in.csv", 3);
    open_queue();
    wait_for(id);
    assert_failed(ROTA_FATAL, "has 3 rows, but");
    ck_assert_str_eq(ask("SELECT count(DISTINCT id) = count(*) FROM t"), "1");
}
END_TEST

static void
overwrite(const char *name, long at, const char *mode, const char *text)
{
    FILE *file = fopen(in_scratch(name), mode);

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseek(file, at, SEEK_SET), 0);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

START_TEST(a_file_whose_imported_rows_were_changed_fails_for_good)
{
    int64_t id;

    scratch_write_rows("in.csv", 1000);
    id = stop_in_the_middle("\"group\":2");
    overwrite("in.csv", 8, "r+", "7"); /* the first row's id */
    open_queue();
    wait_for(id);
    assert_failed(ROTA_FATAL, "was changed since");
    ck_assert_str_eq(ask("SELECT count(*) < 1000 FROM t"), "1");
}
END_TEST

START_TEST(a_file_that_has_grown_is_imported_to_its_end)
{
    int64_t id;

    scratch_write_rows("in.csv", 1000);
    id = stop_in_the_middle("\"group\":2");
    overwrite("in.csv", 0, "a", "1001,late\n");
    open_queue();
    wait_for(id);
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT count(*), count(DISTINCT id) FROM t"),
                     "1001|1001");
}
END_TEST

/* -- Refusals ------------------------------------------------------------ */

static const struct {
    const char *text; /* of in.csv */
    const char *more;
    const char *message;
} refusals[] = {
    {"", "", "is empty: no row names the columns"},
    {"a\n", "\"columns\":\"a,b,a\"", "two columns are called a"},
    {"a\n", "\"delimiter\":\"; \"", "delimiter=; : must be one ASCII"},
    {"a\n", "\"delimiter\":\"\u00a7\"", "must be one ASCII character, or tab"},
    {"a\n", "\"quote\":\"\"", "quote=: must be one ASCII character, or none"},
    {"a\n", "\"quote\":\",\"", "delimiter= and quote= are the same"},
    {"a\n", "\"null\":\"a,b\"", "null=a,b: no field is that"},
    {"a\n", "\"header\":\"maybe\"", "header=maybe: must be yes or no"},
    {"a\n", "\"skip\":\"-1\"", "skip=-1: must be a number from 0"},
    {"x\n\n", "\"skip\":2", "is empty: no row names the columns"},
    {"a,\xff\n", "", "the name of column 2 is not UTF-8"},
    {"\"a\"b\n", "", "line 1, names of columns: malformed quoting"},
    {"a\n", "\"format\":\"xml\"", "format=xml: must be csv or tsv"},
    {"a\n", "\"group\":\"0\"", "group=0: must be a number from 1"},
    {"a\n", "\"group\":\"1x\"", "group=1x: must be a number"},
    {"a\n", "\"group\":\"0ms\"", "group=0ms: must be a number from 1"},
    {"a\n", "\"group\":\"ms\"", "group=ms: must be a number from 1"},
    {"a\n", "\"group\":\"1000001\"", "must be a number from 1 to 1000000"},
    {"a\n", "\"max_bad\":-1", "max_bad=-1: must be a number from 0"},
    {"a\n", "\"colums\":\"a\"", "unknown argument colums"},
    {"a\n", "\"columns\":null", "columns must be a text or an integer"},
    {"a\n", "\"columns\":\"a;b\"", NULL}, /* one column, with that name */
    {"a\n", "\"columns\":\"a TEXT'\"", "is no type"},
    {"a\n", "\"columns\":\"a INT)(\"", "is no type"},
    {"a\n", "\"columns\":\"a,,b\"", "column 2 has no name"},
};

START_TEST(what_makes_no_sense_is_refused_in_one_line)
{
    import(refusals[_i].text, refusals[_i].more);
    if (refusals[_i].message != NULL)
        assert_failed(ROTA_FATAL, refusals[_i].message);
    else
        assert_succeeded();
}
END_TEST

START_TEST(an_unknown_column_fails_and_says_which_there_are)
{
    prepare("CREATE TABLE t(x, y)");
    import("x,z\n1,2\n", "");
    assert_failed(ROTA_FATAL, "table t has no column z: it has x, y");
    ck_assert_str_eq(ask("SELECT count(*) FROM t"), "0");
}
END_TEST

static void
import_paths(const char *file, const char *into)
{
    char args[512];

    (void)snprintf(args, sizeof(args),
                   "{\"file\":\"%s\",\"into\":\"%s\",\"table\":\"t\"}", file,
                   into);
    import_args(args);
}

START_TEST(files_that_cannot_be_read_or_written_are_named)
{
    const char *out = in_scratch("out.db");

    import_paths(in_scratch("none.csv"), out);
    assert_failed(ROTA_FATAL, "none.csv: No such file or directory");
    ck_assert_int_ne(access(in_scratch("out.db"), F_OK), 0);
    import_paths(in_scratch("."), in_scratch("out.db"));
    assert_failed(ROTA_FATAL, "Is a directory");
    import_paths("/dev/null", in_scratch("out.db"));
    assert_failed(ROTA_FATAL, "/dev/null is no regular file");
    scratch_write_rows("in.csv", 3);
    import_paths(in_scratch("in.csv"), in_scratch("in.csv"));
    assert_failed(ROTA_FATAL, "is the file to write");
    import_paths(in_scratch("in.csv"), in_scratch("."));
    assert_failed(ROTA_FAILED, "unable to open database file");
    scratch_write_rows("other.csv", 1000);
    import_paths(in_scratch("in.csv"), in_scratch("other.csv"));
    assert_failed(ROTA_FATAL, "other.csv: file is not a database");
}
END_TEST

START_TEST(the_queue_itself_is_neither_read_nor_written)
{
    scratch_write_rows("in.csv", 3);
    import_paths(in_scratch("in.csv"), in_scratch("queue.db"));
    assert_failed(ROTA_FATAL, "is the queue's own file");
    import_paths(in_scratch("queue.db"), in_scratch("out.db"));
    assert_failed(ROTA_FATAL, "is the queue's own file");
}
END_TEST

START_TEST(private_tables_are_no_targets)
{
    char args[512];

    scratch_write_rows("in.csv", 3);
    (void)snprintf(args, sizeof(args),
                   "{\"file\":\"%s\",\"into\":\"%s\","
                   "\"table\":\"_ROTA_cursor\"}",
                   in_scratch("in.csv"), in_scratch("out.db"));
    import_args(args);
    assert_failed(ROTA_FATAL, "not a name to import into");
    import_args("[1]");
    assert_failed(ROTA_FATAL, "the arguments are not a JSON object");
    import_args("{\"file\":\"/x\"}");
    assert_failed(ROTA_FATAL, "argument into is missing");
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("import");
    TCase *rows = tcase_create("rows"), *bad = tcase_create("bad rows");
    TCase *stop = tcase_create("stopping"), *no = tcase_create("refusals");
    TCase *cases[] = {rows, bad, stop, no};

    for (size_t i = 0; i < 4; i++) {
        tcase_add_checked_fixture(cases[i], importing_setup,
                                  importing_teardown);
        tcase_set_timeout(cases[i], 60);
        suite_add_tcase(suite, cases[i]);
    }
    tcase_add_test(rows, rows_are_imported_and_the_result_says_how_many);
    tcase_add_test(rows, the_table_is_called_like_the_file_unless_told);
    tcase_add_test(rows, names_are_quoted_whatever_they_are);
    tcase_add_test(rows, spaces_and_empty_fields_are_kept);
    tcase_add_test(rows,
                   a_byte_order_mark_crlf_and_a_missing_last_newline_are_fine);
    tcase_add_test(
        rows, quoted_newlines_are_data_and_the_line_is_where_the_row_starts);
    tcase_add_test(rows, fields_that_are_no_text_are_stored_as_blobs);
    tcase_add_test(rows,
                   columns_with_types_make_the_table_and_the_first_row_is_data);
    tcase_add_test(rows, an_existing_table_is_matched_by_name);
    tcase_add_test(rows, a_hundred_thousand_rows_arrive_each_once);
    tcase_add_test(bad,
                   a_bad_row_is_recorded_with_its_line_and_the_import_goes_on);
    tcase_add_test(bad, a_quote_that_is_never_closed_costs_one_line);
    tcase_add_test(bad,
                   a_row_that_a_constraint_refuses_is_bad_and_its_group_stays);
    tcase_add_test(bad,
                   a_table_that_rolls_back_on_conflict_fails_the_job_for_good);
    tcase_add_test(bad, the_text_of_a_bad_row_is_cut_to_1000_bytes);
    tcase_add_test(bad, more_bad_rows_than_max_bad_fail_the_job_for_good);
    tcase_add_test(bad, a_file_of_which_every_row_is_refused_is_no_success);
    tcase_add_test(bad,
                   a_row_that_the_table_ignores_is_not_counted_as_imported);
    tcase_add_test(bad, rows_that_go_through_a_view_are_counted);
    tcase_add_test(bad, fields_that_are_no_text_are_counted_and_said);
    tcase_add_test(stop, a_cancelled_import_keeps_whole_groups_only);
    tcase_add_test(stop,
                   a_cancel_ends_a_group_within_the_row_that_is_being_inserted);
    tcase_add_test(stop, a_group_grows_to_the_time_that_it_may_take);
    tcase_add_test(stop, a_group_that_is_told_in_rows_has_so_many);
    tcase_add_loop_test(
        stop, a_stopped_import_resumes_at_its_cursor_and_no_row_comes_twice, 0,
        2);
    tcase_add_test(stop,
                   what_was_ignored_or_no_text_is_counted_once_across_resumes);
    tcase_add_test(stop, bad_rows_count_and_are_recorded_once_across_resumes);
    tcase_add_test(stop,
                   a_file_whose_imported_rows_were_changed_fails_for_good);
    tcase_add_test(stop, a_file_that_has_grown_is_imported_to_its_end);
    tcase_add_test(stop,
                   a_file_with_fewer_rows_than_were_imported_fails_for_good);
    tcase_add_loop_test(no, what_makes_no_sense_is_refused_in_one_line, 0,
                        (int)(sizeof(refusals) / sizeof(refusals[0])));
    tcase_add_test(no, an_unknown_column_fails_and_says_which_there_are);
    tcase_add_test(no, files_that_cannot_be_read_or_written_are_named);
    tcase_add_test(no, the_queue_itself_is_neither_read_nor_written);
    tcase_add_test(no, private_tables_are_no_targets);
    return suite_run(suite);
}
