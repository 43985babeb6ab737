/*
 * The rows of a file, as jobs/rows.c reads them: where they begin and end, from
 * any place in the file, and when the reading stops.
 */
#define _GNU_SOURCE
#include <check.h>
#include <fcntl.h>
#include <iconv.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "jobs/rows.h"
#include "scratch.h"
#include "support.h"

static const struct dialect csv = {.delimiter = ',', .quote = '"'};

/* Where a row begins: in the file, and in what read_from() says. */
struct place {
    struct rows_place rows;
    size_t at;
};

/* Say all rows from a place on in words, and keep the place of each. */
static size_t
read_from(int fd, const struct rows_place *place, char *text, size_t size,
          struct place *places)
{
    struct rowset set;
    struct rows rows;
    size_t used = 0, n = 0;

    rowset_init(&set);
    rows_init(&rows, ctx_background(), fd, &csv);
    ck_assert(rows_seek(&rows, place));
    text[0] = '\0';
    for (;; n++) {
        const struct row *row;

        places[n] = (struct place){rows_tell(&rows), used};
        if (rows_next(&rows, &set) != ROWS_ROW)
            break;
        row = &set.rows[set.n - 1];
        used += (size_t)snprintf(text + used, size - used,
                                 "%" PRId64 " %zu %s %.*s;", row->line, row->n,
                                 row->bad != NULL ? row->bad : "",
                                 (int)row->raw_size, set.text + row->raw);
        ck_assert_uint_lt(used, size);
    }
    rows_fini(&rows);
    rowset_fini(&set);
    return n;
}

/* Going past rows and reading them is the same. */
static void
assert_passed(int fd, const struct place *places, size_t n)
{
    static const struct rows_place start = {.number = 1, .doomed = -1};
    struct rows rows;

    rows_init(&rows, ctx_background(), fd, &csv);
    ck_assert(rows_seek(&rows, &start));
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(rows_tell(&rows).offset, places[i].rows.offset);
        ck_assert_int_eq(rows_tell(&rows).number, places[i].rows.number);
        ck_assert_int_eq(rows_next(&rows, NULL), ROWS_ROW);
    }
    ck_assert_int_eq(rows_next(&rows, NULL), ROWS_END);
    rows_fini(&rows);
}

START_TEST(reading_from_where_a_row_begins_gives_the_same_rows)
{
    static const char letters[] = "\"\",,\n\n\rab \"";
    static const struct rows_place start = {.number = 1, .doomed = -1};
    struct place places[64], unused[64];
    char text[40], all[4096], rest[4096];

    srand(1);
    for (int round = 0; round < 1000; round++) {
        FILE *file = fopen(in_scratch("random.csv"), "w+");
        size_t n;

        ck_assert_ptr_nonnull(file);
        for (size_t i = 0; i < sizeof(text); i++)
            text[i] = letters[(unsigned)rand() % (sizeof(letters) - 1)];
        ck_assert_uint_eq(fwrite(text, 1, sizeof(text), file), sizeof(text));
        ck_assert_int_eq(fflush(file), 0);
        n = read_from(fileno(file), &start, all, sizeof(all), places);
        for (size_t i = 0; i < n; i++) {
            ck_assert_uint_eq(read_from(fileno(file), &places[i].rows, rest,
                                        sizeof(rest), unused),
                              n - i);
            ck_assert_str_eq(rest, all + places[i].at);
            places[i].rows.doomed = -1; /* as if nothing had been read yet */
            ck_assert_uint_eq(read_from(fileno(file), &places[i].rows, rest,
                                        sizeof(rest), unused),
                              n - i);
            ck_assert_str_eq(rest, all + places[i].at);
        }
        assert_passed(fileno(file), places, n);
        ck_assert_int_eq(fclose(file), 0);
    }
}
END_TEST

/* Write a field of few letters, quoted where it has to be and where not; what
 * it says goes to said. */
static void
write_field(FILE *file, FILE *said)
{
    static const char letters[] = "ab,\"\n\r ";
    char text[16];
    size_t size = (unsigned)rand() % sizeof(text);
    bool is_quoted = rand() % 2 == 0;

    for (size_t i = 0; i < size; i++) {
        text[i] = letters[(unsigned)rand() % (sizeof(letters) - 1)];
        is_quoted |= strchr(",\n\r", text[i]) != NULL || text[0] == '"';
    }
    (void)fwrite(text, 1, size, said);
    (void)fputc('|', said);
    if (is_quoted)
        (void)fputc('"', file);
    for (size_t i = 0; i < size; i++) {
        if (is_quoted && text[i] == '"')
            (void)fputc('"', file);
        (void)fputc(text[i], file);
    }
    if (is_quoted)
        (void)fputc('"', file);
}

static char *
read_all(int fd, const struct dialect *dialect)
{
    struct rowset set;
    struct rows rows;
    char *text = NULL;
    size_t size = 0;
    FILE *said = open_memstream(&text, &size);

    rowset_init(&set);
    rows_init(&rows, ctx_background(), fd, dialect);
    ck_assert(rows_seek(&rows, &(struct rows_place){0, 1, -1, NULL}));
    while (rows_next(&rows, &set) == ROWS_ROW) {
        ck_assert_ptr_null(set.rows[0].bad);
        for (size_t i = 0; i < set.n_fields; i++)
            (void)fprintf(said, "%.*s|", (int)set.fields[i].size,
                          set.text + set.fields[i].at);
        rowset_clear(&set);
    }
    rows_fini(&rows);
    rowset_fini(&set);
    ck_assert_int_eq(fclose(said), 0);
    return text;
}

/* The same text in another encoding. */
static int
recode(const char *encoding)
{
    size_t size, left;
    char *text = file_read(in_scratch("random.csv"), &size), *in = text;
    char *copy = malloc(size * 4), *out = copy;
    iconv_t it = iconv_open(encoding, "UTF-8");
    int fd = open(in_scratch("recoded.csv"), O_RDWR | O_CREAT | O_TRUNC, 0600);

    ck_assert(copy != NULL && fd >= 0 && it != (iconv_t)-1);
    left = size * 4;
    ck_assert_uint_eq(iconv(it, &in, &size, &out, &left), 0);
    ck_assert_int_eq(write(fd, copy, (size_t)(out - copy)), out - copy);
    (void)iconv_close(it);
    free(copy);
    free(text);
    return fd;
}

static const char *const encodings[] = {NULL,       "UTF-16LE", "UTF-16",
                                        "UTF-32BE", "UTF-8",    "ISO-2022-JP"};

START_TEST(rows_are_read_as_they_were_written_wherever_the_file_is_cut)
{
    const struct dialect dialect = {
        .delimiter = ',', .quote = '"', .encoding = encodings[_i]};
    static const char *const ends[] = {"\n", "\r\n", "\r", "\n\n\r"};
    FILE *file = fopen(in_scratch("random.csv"), "w+");
    char *text = NULL, *read;
    size_t size = 0;
    int fd;
    FILE *said = open_memstream(&text, &size);

    ck_assert(file != NULL && said != NULL);
    srand(7);
    for (int i = 0; i < 60000; i++) { /* several of what is read at once */
        (void)fputs("\u00b0", file), (void)fputs("\u00b0|", said);
        for (int n = rand() % 4; n >= 0; n--) {
            (void)fputc(',', file);
            write_field(file, said);
        }
        (void)fputs(ends[rand() % 4], file);
    }
    ck_assert_int_eq(fclose(said), 0);
    ck_assert_int_eq(fflush(file), 0);
    fd =
        dialect.encoding != NULL ? recode(dialect.encoding) : dup(fileno(file));
    read = read_all(fd, &dialect);
    ck_assert(strcmp(read, text) == 0);
    ck_assert_int_eq(close(fd), 0);
    ck_assert_int_eq(fclose(file), 0);
    free(read);
    free(text);
}
END_TEST

START_TEST(a_context_stops_the_reading_of_lines_that_are_no_rows)
{
    struct ctx *ctx = ctx_with_cancel(NULL);
    struct rows rows;
    int fd;

    scratch_write_text("in.csv", "\r\n\n\r\ra\n");
    fd = open(in_scratch("in.csv"), O_RDONLY);
    rows_init(&rows, ctx, fd, &csv);
    (void)ctx_cancel(ctx);
    ck_assert_int_eq(rows_next(&rows, NULL), ROWS_STOPPED);
    rows_fini(&rows);
    (void)close(fd);
    ctx_end(ctx);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("rows");
    TCase *rows = tcase_create("rows");

    tcase_add_checked_fixture(rows, scratch_make, scratch_remove);
    tcase_set_timeout(rows, 60);
    suite_add_tcase(suite, rows);
    tcase_add_test(rows, reading_from_where_a_row_begins_gives_the_same_rows);
    tcase_add_loop_test(
        rows, rows_are_read_as_they_were_written_wherever_the_file_is_cut, 0,
        (int)(sizeof(encodings) / sizeof(encodings[0])));
    tcase_add_test(rows, a_context_stops_the_reading_of_lines_that_are_no_rows);
    return suite_run(suite);
}
