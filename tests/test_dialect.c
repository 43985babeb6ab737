/*
 * The kind "import" and files as others write them: what separates fields, what
 * quotes them, which line names the columns, and what was made to harm.
 */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "importing.h"
#include "scratch.h"
#include "support.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* -- The dialect --------------------------------------------------------- */

static const struct {
    const char *text, *more, *query, *rows;
} dialects[] = {
    {"id;price\n1;1,50\n", "\"delimiter\":\";\"", "SELECT * FROM t", "1|1,50"},
    {"id|b\n1|'x|y'\n", "\"delimiter\":\"|\",\"quote\":\"'\"",
     "SELECT b FROM t", "x|y"},
    {"a\tb\n1\t\"x\"\n", "\"delimiter\":\"tab\"", "SELECT * FROM t", "1|x"},
    {"a\tb\n1\tx\n", "\"delimiter\":\"\\\\t\"", "SELECT * FROM t", "1|x"},
    {"a\tb\n\"1\t5\" \"d\n", "\"format\":\"tsv\"", "SELECT * FROM t",
     "\"1|5\" \"d"},
    {"a,b\n\"1,\"x\n", "\"quote\":\"none\"", "SELECT * FROM t", "\"1|\"x"},
    {"a,b\n3.5\",x\"y\"\n", "", "SELECT * FROM t", "3.5\"|x\"y\""},
    {"a,b\n1, \"x\"\n", "", "SELECT b FROM t", " \"x\""},
    {"a,b,c\n,\"\",NA\n", "\"null\":\"\"",
     "SELECT a IS NULL, b IS NULL, c IS NULL FROM t", "1|0|0"},
    {"a,b,c\n,NA,\"NA\"\n", "\"null\":\"NA\"",
     "SELECT a IS NULL, b IS NULL, c IS NULL FROM t", "0|1|0"},
    {"1,\n2,10\n", "\"null\":\"\",\"columns\":\"id INTEGER,w REAL\"",
     "SELECT avg(w) FROM t", "10.0"},
    {"a\n1\n\n\"\"\n", "\"null\":\"\"", "SELECT quote(a) FROM t",
     "'1'\nNULL\n''"},
    {"x,y\n1,2\n", "\"header\":\"no\"", "SELECT column1, column2 FROM t",
     "x|y\n1|2"},
    {"x,y\n1,2\n", "\"columns\":\"a,b\",\"header\":\"yes\"",
     "SELECT a, b FROM t", "1|2"},
    {"# by us\n\nx,y\n1,2\n", "\"skip\":2", "SELECT x, y FROM t", "1|2"},
    {"\xef\xbb\xbfsep=;\r\nx;y\r\n1;2\r\n", "", "SELECT x, y FROM t", "1|2"},
    {"sep=;\nx;y\n1;2\n", "\"skip\":1", "SELECT x, y FROM t", "1|2"},
    {"sep=;\nx|y\n1|2\n", "\"delimiter\":\"|\"", "SELECT x, y FROM t", "1|2"},
    {"sep\n=;\n", "", "SELECT sep FROM t", "=;"},
    {"\xef\xbb\xbf\"x,1\",y\n1,2\n", "", "SELECT \"x,1\", y FROM t", "1|2"},
    {"a,b\r1,x\r2,y", "", "SELECT * FROM t", "1|x\n2|y"},
    {"id,name,NAME\n1,2,3\n", "", "SELECT name FROM pragma_table_info('t')",
     "id\nname_2\nNAME_3"},
    {",id,,name,\n1,2,3,4,5\n", "", "SELECT name FROM pragma_table_info('t')",
     "?_1\nid\n?_3\nname\n?_5"},
    {"id,name,\n1,2,3\n", "", "SELECT \"?\" FROM t", "3"},
    {"a,a,a_2,a_02\n1,2,3,4\n", "", "SELECT name FROM pragma_table_info('t')",
     "a_001\na_002\na_2\na_02"},
};

START_TEST(the_dialect_of_a_file_can_be_said)
{
    import(dialects[_i].text, dialects[_i].more);
    assert_succeeded();
    ck_assert_str_eq(ask(dialects[_i].query), dialects[_i].rows);
    ck_assert_str_eq(ask("SELECT count(*) FROM _rota_import_bad"), "0");
}
END_TEST

START_TEST(a_tsv_has_no_quotes_by_its_name)
{
    scratch_write_text("a.tsv", "id\ttitle\tyear\n"
                                "t1\t\"Quoted\" word\t1990\n"
                                "t2\t\"Unbalanced\t1991\n"
                                "t3\t5\" disk\t1992\nt4\tplain\t1993\n");
    import_file("a.tsv", "");
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT title FROM a"), "\"Quoted\" word\n"
                                                 "\"Unbalanced\n5\" disk\n"
                                                 "plain");
}
END_TEST

/* -- What a file says that it is ----------------------------------------- */

#define BYTES(text) (text), sizeof(text) - 1

static const struct {
    const char *text;
    size_t size;
    const char *more, *query, *rows;
} encoded[] = {
    {BYTES("\xff\xfe"
           "n\0,\0\xfc\0\n\0"
           "1\0,\0\x3d\xd8\x00\xde\n\0"),
     "", "SELECT n, \"\u00fc\" FROM t", "1|\U0001f600"},
    {BYTES("\xfe\xff\0n\0,\0\xfc\0\n\0"
           "1\0,\0x\0\n"),
     "", "SELECT n, \"\u00fc\" FROM t", "1|x"},
    {BYTES("\xff\xfe\0\0n\0\0\0\n\0\0\0"
           "1\0\0\0"),
     "", "SELECT n FROM t", "1"},
    {BYTES("\0\0\xfe\xff\0\0\0n\0\0\0\n\0\0\0"
           "1"),
     "", "SELECT n FROM t", "1"},
    {BYTES("n\0\n\0"
           "1\0\n\0"),
     "\"encoding\":\"UTF-16LE\"", "SELECT n FROM t", "1"},
    {BYTES("id,name\n1,M\xfcller\n2,Hut\n"), "\"encoding\":\"latin1\"",
     "SELECT id FROM t WHERE name = 'M\u00fcller'", "1"},
    {BYTES("id,k\xf6nig\n1,\x80\n"), "\"encoding\":\"windows-1252\"",
     "SELECT \"k\u00f6nig\" FROM t", "\u20ac"},
    {BYTES("n\n\xe0\n"), "\"encoding\":\"windows-1255\"", "SELECT n FROM t",
     "\u05d0"},
    {BYTES("\xef\xbb\xbf"
           "n\n\xc3\xbc\n"),
     "\"encoding\":\"utf-8\"", "SELECT n FROM t", "\u00fc"},
};

START_TEST(a_file_is_decoded_by_its_byte_order_mark_or_as_it_is_told)
{
    scratch_write("in.csv", encoded[_i].text, encoded[_i].size);
    import_args(args_with(encoded[_i].more));
    assert_succeeded();
    ck_assert_str_eq(ask(encoded[_i].query), encoded[_i].rows);
}
END_TEST

START_TEST(a_row_that_cannot_be_decoded_is_bad)
{
    static const char text[] = "n\0\n\0"
                               "1\0\n\0"
                               "\x00\xd8"
                               "2\0\n\0"
                               "3\0\n\0"
                               "4";

    if (_i == 0) {
        scratch_write("in.csv", text, sizeof(text) - 1);
        import_args(args_with("\"encoding\":\"UTF-16LE\""));
    } else {
        import("n\n1\n\xfc"
               "2\n3\n4\xc3",
               "\"encoding\":\"UTF-8\"");
    }
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT n FROM t"), "1\n3");
    ck_assert_str_eq(ask("SELECT line, reason FROM _rota_import_bad"),
                     "3|bytes that are not in the file's encoding\n"
                     "5|bytes that are not in the file's encoding");
}
END_TEST

static const struct {
    const char *text;
    size_t size;
    const char *more, *message;
} not_text[] = {
    {BYTES("\x1f\x8b\x08\0\0\0\0\0\0\3n,m\n"), "", "is a gzip file, not text"},
    {BYTES("\x1f\x8b\x08"), "\"columns\":\"a\",\"encoding\":\"latin1\"",
     "is a gzip file, not text"},
    {BYTES("PK\3\4\x14\0n,m\n"), "", "is a zip archive, or a spreadsheet"},
    {BYTES("\xfd"
           "7zXZ\0n,m\n"),
     "\"columns\":\"a,b\"", "is an xz file"},
    {BYTES("\x28\xb5\x2f\xfdn,m\n"), "", "is a zstd file"},
    {BYTES("BZh91AY&SYn,m\n"), "", "is a bzip2 file"},
    {BYTES("SQLite format 3\0\x10\0\1\1"), "", "is a SQLite database"},
    {BYTES("n\0\n\0"
           "1\0\n\0"),
     "", "byte order mark: say encoding=UTF-16LE"},
    {BYTES("\0n\0\n\0"
           "1"),
     "", "byte order mark: say encoding=UTF-16BE"},
    {BYTES("n\0\0\0\n\0\0\0"), "", "say encoding=UTF-32LE"},
    {BYTES("\0\0\0n\0\0\0\n"), "", "say encoding=UTF-32BE"},
    {BYTES("n\n1\n"), "\"encoding\":\"klingon\"",
     "encoding=klingon: there is none"},
    {BYTES("n,\xfc\n1,2\n"), "", "column 2 is not UTF-8: encoding= says"},
};

START_TEST(a_file_that_is_no_utf_8_by_its_first_bytes_is_refused_in_one_line)
{
    scratch_write("in.csv", not_text[_i].text, not_text[_i].size);
    import_args(args_with(not_text[_i].more));
    assert_failed(ROTA_FATAL, not_text[_i].message);
}
END_TEST

/* Another process cannot write the database. */
static void
assert_is_locked(const char *path)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct flock lock = {.l_type = F_WRLCK,
                             .l_whence = SEEK_SET,
                             .l_start = 0x40000001, /* SQLite's RESERVED byte */
                             .l_len = 1};
        int fd = open(path, O_RDWR);

        _exit(fcntl(fd, F_SETLK, &lock) == 0 ? 1 : 0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}

START_TEST(to_look_at_a_file_drops_no_lock_that_this_process_has_on_it)
{
    const char *path = in_scratch("other.db");
    sqlite3 *db;

    sql_run(path, "CREATE TABLE t(a)");
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL),
                     SQLITE_OK);
    import_file("other.db", "");
    assert_failed(ROTA_FATAL, "is a SQLite database, not text");
    assert_is_locked(path);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

/* -- Hostile files ------------------------------------------------------- */

/* Write text n times, and then more. */
static void
write_many(const char *first, const char *text, int n, const char *more)
{
    FILE *file = fopen(in_scratch("in.csv"), "w");

    ck_assert_ptr_nonnull(file);
    (void)fputs(first, file);
    for (int i = 0; i < n; i++)
        (void)fputs(text, file);
    (void)fputs(more, file);
    ck_assert_int_eq(fclose(file), 0);
}

START_TEST(a_header_of_a_million_columns_is_refused)
{
    write_many("", "a,", 1000000, "b\n1,2\n");
    import_args(args_with(""));
    assert_failed(ROTA_FATAL, "more than 2000 columns: no table has so many");
}
END_TEST

START_TEST(two_thousand_columns_of_one_name_are_made_unique)
{
    write_many("", "a,", 1999, "A\n");
    import_args(args_with(""));
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT count(*), max(name)"
                         " FROM pragma_table_info('t')"),
                     "2000|a_999");
}
END_TEST

/* Each of its lines is in quotes at its end, whether it was at its begin or
 * not, so that none is a whole row and each would be read to the file's end. */
START_TEST(a_file_in_which_each_line_opens_a_quote_is_read_in_time)
{
    write_many("a,b\n1,x\n", "a\",b,\"c\n", 300000, _i == 0 ? "" : "\"x\"y\n");
    import_args(args_with(""));
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT count(*) FROM t"), "1");
    ck_assert_str_eq(ask("SELECT count(*), count(DISTINCT reason)"
                         " FROM _rota_import_bad"),
                     _i == 0 ? "300000|1" : "300001|1");
}
END_TEST

START_TEST(a_line_that_is_longer_than_a_row_may_be_costs_that_line)
{
    write_many("a,b\n1,x\n", "0123456789abcdef", 17 << 16, "\n2,y\n");
    import_args(args_with(""));
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT a, b FROM t"), "1|x\n2|y");
    ck_assert_str_eq(ask("SELECT line, reason, length(row), substr(row, 1, 17)"
                         " FROM _rota_import_bad"),
                     "3|longer than 16 MiB|1000|0123456789abcdef0");
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("dialect");
    TCase *dialect = tcase_create("dialect"), *odd = tcase_create("hostile");
    TCase *cases[] = {dialect, odd};

    for (size_t i = 0; i < 2; i++) {
        tcase_add_checked_fixture(cases[i], importing_setup,
                                  importing_teardown);
        tcase_set_timeout(cases[i], 60);
        suite_add_tcase(suite, cases[i]);
    }
    tcase_add_loop_test(dialect, the_dialect_of_a_file_can_be_said, 0,
                        COUNT(dialects));
    tcase_add_loop_test(
        dialect, a_file_is_decoded_by_its_byte_order_mark_or_as_it_is_told, 0,
        COUNT(encoded));
    tcase_add_loop_test(dialect, a_row_that_cannot_be_decoded_is_bad, 0, 2);
    tcase_add_loop_test(
        dialect,
        a_file_that_is_no_utf_8_by_its_first_bytes_is_refused_in_one_line, 0,
        COUNT(not_text));
    tcase_add_test(dialect,
                   to_look_at_a_file_drops_no_lock_that_this_process_has_on_it);
    tcase_add_test(dialect, a_tsv_has_no_quotes_by_its_name);
    tcase_add_test(odd, a_header_of_a_million_columns_is_refused);
    tcase_add_test(odd, two_thousand_columns_of_one_name_are_made_unique);
    tcase_add_loop_test(
        odd, a_file_in_which_each_line_opens_a_quote_is_read_in_time, 0, 2);
    tcase_add_test(odd,
                   a_line_that_is_longer_than_a_row_may_be_costs_that_line);
    return suite_run(suite);
}
