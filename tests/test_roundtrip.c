/*
 * What the kind "sql" writes and the kind "import" reads: a table that goes out
 * as text and comes in again is the same, whatever is in it.
 */
#define _GNU_SOURCE
#include <check.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "importing.h"
#include "jobs/jobs.h"
#include "scratch.h"
#include "support.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* -- The stage ----------------------------------------------------------- */

/* Run the script on data.db, its rows to the file called out. */
static void
run_sql(const char *script, const char *out, const char *more)
{
    char args[1024];

    scratch_write_text("q.sql", script);
    (void)snprintf(args, sizeof(args),
                   "{\"file\":\"%s\",\"on\":\"%s\",\"out\":\"%s\"%s%s}",
                   in_scratch("q.sql"), in_scratch("data.db"), in_scratch(out),
                   more[0] != '\0' ? "," : "", more);
    wait_for(submit_to("sql", args));
}

static const char hostile[] =
    "CREATE TABLE t(i INTEGER, r REAL, s TEXT, b BLOB);"
    "INSERT INTO t VALUES"
    "(9223372036854775807, 0.1, '', x''), (NULL, NULL, NULL, NULL),"
    "(-9223372036854775807 - 1, 0.1 + 0.2, 'NA', x'00'),"
    "(0, 1e999, '\"', x'ff'), (1, -1e999, '\"\"', x'fffe3100'),"
    "(2, 1.7976931348623157e308, ',', x'0d'), (3, 123456789012345680, ';', "
    "x'0a'),"
    "(4, 1.0, char(9), x'220a'), (5, 1234567890.1234567, char(10), x'1f8b'),"
    "(6, 2.0/3, char(13), x'2c3b09'), (7, 100.1, char(13, 10), x'27'),"
    "(8, -0.5, ' ', x'c328'), (9, 1e20, 'a' || char(10) || '\"b', NULL),"
    "(10, 3, '\\N', x'0041'), (11, 1/3.0, 'NULL', x'eda080'),"
    "(12, 12345678901234567, '''', x''), (13, 0.3, ' x ', x'20'),"
    "(14, 5e-3, 'sep=;', x'7f'), (15, 7, '1e5', x'5c'), (16, 8, '007', x'00'),"
    "(17, 9, char(0xfeff) || 'x', x'80'), (18, 9.5, '\xf0\x9f\x98\x80', "
    "x'01');";

/* Rows of the one table that the other has not. */
static void
assert_same(void)
{
    static const char columns[] = "SELECT rowid, typeof(i), i, typeof(r), r,"
                                  " typeof(s), s, b IS NULL, CAST(b AS BLOB)";
    char attach[512], query[2048];
    sqlite3 *db;
    sqlite3_stmt *statement;

    ck_assert_int_eq(sqlite3_open(in_scratch("out.db"), &db), SQLITE_OK);
    (void)snprintf(attach, sizeof(attach), "ATTACH '%s' AS a",
                   in_scratch("data.db"));
    ck_assert_int_eq(sqlite3_exec(db, attach, NULL, NULL, NULL), SQLITE_OK);
    (void)snprintf(query, sizeof(query),
                   "SELECT i, r, s FROM (SELECT * FROM (%s FROM a.t EXCEPT"
                   " %s FROM main.t) UNION ALL SELECT * FROM (%s FROM main.t"
                   " EXCEPT %s FROM a.t))",
                   columns, columns, columns, columns);
    ck_assert_int_eq(sqlite3_prepare_v2(db, query, -1, &statement, NULL),
                     SQLITE_OK);
    ck_assert_msg(sqlite3_step(statement) == SQLITE_DONE, "%s|%s|%s",
                  sqlite3_column_text(statement, 0),
                  sqlite3_column_text(statement, 1),
                  sqlite3_column_text(statement, 2));
    (void)sqlite3_finalize(statement);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

/* -- Text ---------------------------------------------------------------- */

static const struct {
    const char *out, *keys;
} dialects[] = {
    {"o.csv", ""},
    {"o.csv", "\"delimiter\":\";\",\"quote\":\"'\",\"null\":\"NA\""},
    {"o.csv", "\"delimiter\":\"|\",\"header\":\"no\",\"null\":\"NULL\""},
    {"o.tsv", "\"quote\":\"\\\"\",\"null\":\"\\\\N\""},
    {"o.tab", "\"quote\":\"\\\"\""},
};

START_TEST(what_sql_writes_import_reads_as_it_was)
{
    const char *keys = dialects[_i].keys;
    char more[512];

    sql_run(in_scratch("data.db"), "%s", hostile);
    run_sql("SELECT * FROM t ORDER BY rowid", dialects[_i].out, keys);
    assert_succeeded();
    (void)snprintf(more, sizeof(more),
                   "\"table\":\"t\",\"columns\":\"i INTEGER,r REAL,s TEXT,"
                   "b BLOB\"%s%s%s%s",
                   strstr(keys, "header") == NULL ? ",\"header\":\"yes\"" : "",
                   strstr(keys, "null") == NULL ? ",\"null\":\"\"" : "",
                   keys[0] != '\0' ? "," : "", keys);
    import_file(dialects[_i].out, more);
    assert_succeeded();
    assert_same();
}
END_TEST

START_TEST(a_file_begins_with_nothing_that_misleads_who_reads_it)
{
    static const char *const values[] = {"'sep=;'",
                                         "x'1f8b08'",
                                         "x'fffe31'",
                                         "x'61006200'",
                                         "x'00'",
                                         "char(0xfeff)||'x'",
                                         "'SQLite format 3'||char(0)",
                                         "x'504b0304'"};

    for (int i = 0; i < COUNT(values); i++) {
        char script[128];

        (void)snprintf(script, sizeof(script), "SELECT %s, 1", values[i]);
        run_sql(script, "o.csv", "\"header\":\"no\"");
        assert_succeeded();
        import_file("o.csv", "\"table\":\"t\",\"columns\":\"b,one\"");
        assert_succeeded();
        (void)snprintf(script, sizeof(script),
                       "SELECT CAST(b AS BLOB) = CAST(%s AS BLOB) FROM t",
                       values[i]);
        ck_assert_str_eq(ask(script), "1");
        prepare("DELETE FROM t");
    }
}
END_TEST

START_TEST(one_column_of_nulls_is_as_long_as_it_was)
{
    run_sql("SELECT 'a' AS x UNION ALL SELECT NULL UNION ALL SELECT ''",
            "o.csv", "");
    assert_succeeded();
    import_file("o.csv", "\"table\":\"t\",\"null\":\"\"");
    assert_succeeded();
    ck_assert_str_eq(ask("SELECT quote(x) FROM t"), "'a'\nNULL\n''");
}
END_TEST

static const struct {
    const char *script, *more, *message;
} unwritable[] = {
    {"SELECT 1;\nSELECT 'a' || char(9)", "", "line 2: a field has a delimiter"},
    {"SELECT char(10)", "", "it takes quotes, quote="},
    {"SELECT 'NA'", "\"null\":\"NA\"", "what stands for NULL"},
    {"SELECT x'1f8b'", "\"header\":\"no\"", "it takes quotes"},
    {"SELECT 1", "\"delimiter\":\"ab\"", "delimiter=ab: must be one ASCII"},
    {"SELECT 1", "\"format\":\"jsonl\",\"null\":\"x\"",
     "null= is for CSV and TSV, not for JSON Lines"},
};

START_TEST(what_cannot_be_written_without_quotes_is_refused_in_one_line)
{
    run_sql(unwritable[_i].script, "o.tsv", unwritable[_i].more);
    assert_failed(ROTA_FATAL, unwritable[_i].message);
}
END_TEST

/* -- JSON Lines ---------------------------------------------------------- */

START_TEST(what_is_written_as_json_lines_is_read_as_it_was)
{
    const char *path = in_scratch("data.db");
    size_t size;
    char *text, *line, *rest;
    int n = 0;

    sql_run(path, "%s DELETE FROM t WHERE abs(r) > 1e308", hostile);
    run_sql("SELECT * FROM t ORDER BY rowid", "o.jsonl", "");
    assert_succeeded();
    text = rest = file_read(in_scratch("o.jsonl"), &size);
    sql_run(path, "CREATE TABLE u(j)");
    while ((line = strsep(&rest, "\n")) != NULL && *line != '\0') {
        char *sql = sqlite3_mprintf("INSERT INTO u VALUES(%Q)", line);

        sql_run(path, "%s", sql);
        sqlite3_free(sql);
        n++;
    }
    free(text);
    ck_assert_int_eq(n, (int)sql_int(path, "SELECT count(*) FROM t"));
    ck_assert_str_eq(
        sql_text(path, "SELECT count(*) FROM (SELECT i, r, s FROM t EXCEPT"
                       " SELECT j ->> 'i', j ->> 'r', j ->> 's' FROM u)"),
        "0");
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("roundtrip");
    TCase *cases = tcase_create("round trips");

    tcase_add_checked_fixture(cases, importing_setup, importing_teardown);
    tcase_set_timeout(cases, 60);
    suite_add_tcase(suite, cases);
    tcase_add_loop_test(cases, what_sql_writes_import_reads_as_it_was, 0,
                        COUNT(dialects));
    tcase_add_test(cases,
                   a_file_begins_with_nothing_that_misleads_who_reads_it);
    tcase_add_test(cases, one_column_of_nulls_is_as_long_as_it_was);
    tcase_add_loop_test(
        cases, what_cannot_be_written_without_quotes_is_refused_in_one_line, 0,
        COUNT(unwritable));
    tcase_add_test(cases, what_is_written_as_json_lines_is_read_as_it_was);
    return suite_run(suite);
}
