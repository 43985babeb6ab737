#define _GNU_SOURCE
#include "scratch.h"

#include <check.h>
#include <errno.h>
#include <ftw.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[100];

void
scratch_make(void)
{
    const char *place = getenv("TMPDIR");

    (void)snprintf(folder, sizeof(folder), "%s/rota-test-XXXXXX",
                   place == NULL ? "/tmp" : place);
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void
scratch_remove(void)
{
    ck_assert_int_eq(nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

const char *
in_scratch(const char *name)
{
    static _Thread_local char paths[8][128];
    static _Thread_local unsigned next;
    char *path = paths[next++ % 8];

    (void)snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

void
scratch_write(const char *name, const void *data, size_t size)
{
    FILE *file = fopen(in_scratch(name), "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

void
scratch_write_text(const char *name, const char *text)
{
    scratch_write(name, text, strlen(text));
}

char *
file_read(const char *path, size_t *ret_size)
{
    FILE *file = fopen(path, "r");
    struct stat st;
    char *data;

    ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
    ck_assert_int_eq(fstat(fileno(file), &st), 0);
    data = malloc((size_t)st.st_size + 1);
    ck_assert_uint_eq(fread(data, 1, (size_t)st.st_size, file),
                      (size_t)st.st_size);
    data[st.st_size] = '\0';
    (void)fclose(file);
    if (ret_size != NULL)
        *ret_size = (size_t)st.st_size;
    return data;
}

void
scratch_write_rows(const char *name, int n)
{
    FILE *file = fopen(in_scratch(name), "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fprintf(file, "id,text\n"), 0);
    for (int i = 1; i <= n; i++)
        ck_assert_int_ge(fprintf(file, "%d,row %d\n", i, i), 0);
    ck_assert_int_eq(fclose(file), 0);
}

/* -- SQL ------------------------------------------------------------------ */

static sqlite3 *kept; /* between calls */

static sqlite3 *
look_into(const char *path, int flags)
{
    sqlite3 *db;

    if (kept != NULL)
        return kept;
    ck_assert_msg(sqlite3_open_v2(path, &db, flags, NULL) == SQLITE_OK,
                  "%s: %s", path, sqlite3_errmsg(db));
    (void)sqlite3_busy_timeout(db, 20000);
    return db;
}

static void
look_away(sqlite3 *db)
{
    if (db != kept)
        ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

void
sql_keep(const char *path)
{
    sqlite3 *db = kept;

    kept = NULL;
    look_away(db);
    if (path != NULL)
        kept = look_into(path, SQLITE_OPEN_READWRITE);
}

static char *
in_words(const char *format, va_list args)
{
    char *sql = NULL;

    ck_assert_int_ge(vasprintf(&sql, format, args), 0);
    return sql;
}

static const char *
try(const char *path, const char *sql)
{
    static char message[512];
    sqlite3 *db = look_into(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    char *error = NULL;
    int rc = sqlite3_exec(db, sql, NULL, NULL, &error);

    if (rc != SQLITE_OK)
        (void)snprintf(message, sizeof(message), "%s", error);
    sqlite3_free(error);
    look_away(db);
    return rc == SQLITE_OK ? NULL : message;
}

const char *
sql_try(const char *path, const char *format, ...)
{
    const char *message;
    va_list args;
    char *sql;

    va_start(args, format);
    sql = in_words(format, args);
    va_end(args);
    message = try(path, sql);
    free(sql);
    return message;
}

void
sql_run(const char *path, const char *format, ...)
{
    const char *message;
    va_list args;
    char *sql;

    va_start(args, format);
    sql = in_words(format, args);
    va_end(args);
    message = try(path, sql);
    ck_assert_msg(message == NULL, "%s: %s", sql, message);
    free(sql);
}

/* Rows are lines, values stand between bars. */
static void
collect(sqlite3_stmt *s, char *text, size_t size)
{
    size_t used = 0;

    do {
        for (int i = 0; i < sqlite3_column_count(s); i++) {
            const char *value = (const char *)sqlite3_column_text(s, i);

            used += (size_t)snprintf(text + used, size - used, "%s%s",
                                     i > 0      ? "|"
                                     : used > 0 ? "\n"
                                                : "",
                                     value == NULL ? "NULL" : value);
            ck_assert_uint_lt(used, size);
        }
    } while (sqlite3_step(s) == SQLITE_ROW);
}

/* The first value, and all of them in text unless that is NULL. */
static int64_t
ask(const char *path, const char *format, va_list args, char *text, size_t size)
{
    char *sql = in_words(format, args);
    sqlite3 *db = look_into(path, SQLITE_OPEN_READWRITE);
    sqlite3_stmt *s;
    int64_t answer = 0;
    int rc;

    ck_assert_msg(sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK,
                  "%s: %s", sql, sqlite3_errmsg(db));
    rc = sqlite3_step(s);
    ck_assert_msg(rc == SQLITE_ROW || (rc == SQLITE_DONE && text != NULL),
                  "%s: no row: %s", sql, sqlite3_errmsg(db));
    if (rc == SQLITE_ROW) {
        answer = sqlite3_column_int64(s, 0);
        if (text != NULL)
            collect(s, text, size);
    }
    sqlite3_finalize(s);
    look_away(db);
    free(sql);
    return answer;
}

int64_t
sql_int(const char *path, const char *format, ...)
{
    int64_t answer;
    va_list args;

    va_start(args, format);
    answer = ask(path, format, args, NULL, 0);
    va_end(args);
    return answer;
}

const char *
sql_text(const char *path, const char *format, ...)
{
    static char text[2048];
    va_list args;

    text[0] = '\0';
    va_start(args, format);
    (void)ask(path, format, args, text, sizeof(text));
    va_end(args);
    return text;
}

void
scratch_make_version(const char *path, int version)
{
    const char *source = getenv("srcdir");
    char name[512];
    char *sql;

    (void)snprintf(name, sizeof(name), "%s/tests/schemas/%d.sql",
                   source == NULL ? "." : source, version);
    sql = file_read(name, NULL);
    sql_run(path, "PRAGMA journal_mode=WAL; %s", sql);
    free(sql);
}
