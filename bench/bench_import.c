/*
 * A CSV file of a million rows into a table of a new SQLite file: `rota run
 * import`, as it is and with a commit after every 500 rows, against sqlite3's
 * .import, which commits once, in turns. In the one file fields are short and
 * nothing is quoted; in the other every second row has a quoted field.
 *
 * The rota command is $ROTA, or bench/rota.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include <rota/ctx.h>

#include "bench.h"

static const char *dir;

/* A way to import, and how many rows it has before it. */
struct import {
    const char *command; /* a shell's, in which %s is the folder */
    size_t n;
};

static const char ours[] =
    "cd '%s' && rm -f bench.to* bench.db* && \"$ROTA\" run import"
    " file=bench.csv into=bench.to table=t --db bench.db"
    " >/dev/null 2>bench.err || { cat bench.err >&2; false; }";
static const char often[] =
    "cd '%s' && rm -f bench.to* bench.db* && \"$ROTA\" run import"
    " file=bench.csv into=bench.to table=t group=500 --db bench.db"
    " >/dev/null 2>bench.err || { cat bench.err >&2; false; }";
static const char theirs[] = "cd '%s' && rm -f bench.to* &&"
                             " sqlite3 bench.to '.import --csv bench.csv t'";

static void
run(void *arg, double *ret_figures)
{
    const struct import *import = arg;
    char command[8192];
    int64_t start;

    (void)snprintf(command, sizeof(command), import->command, dir);
    start = ctx_now();
    if (system(command) != 0)
        bench_fail("failed: %s", command);
    ret_figures[0] = bench_rate(start, import->n);
}

static void
write_rows(size_t n, bool is_quoted)
{
    char path[4096];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/bench.csv", dir);
    file = fopen(path, "w");
    if (file == NULL)
        bench_fail("cannot write %s", path);
    (void)fputs("id,name,price,city\n", file);
    for (size_t i = 0; i < n; i++)
        (void)fprintf(file,
                      is_quoted && i % 2 == 0
                          ? "%zu,\"name, \"\"%zu\"\"\",%zu.25,city %zu\n"
                          : "%zu,name %zu,%zu.25,city %zu\n",
                      i, i, i % 1000, i % 777);
    if (fclose(file) != 0)
        bench_fail("cannot write %s", path);
}

static void
compete(const struct bench_options *options, const char *what, bool is_quoted)
{
    size_t n = bench_size(options, 1000000);
    struct import imports[] = {{ours, n}, {often, n}, {theirs, n}};
    struct contender contenders[] = {{run, &imports[0], {0}},
                                     {run, &imports[1], {0}},
                                     {run, &imports[2], {0}}};
    char name[128];

    write_rows(n, is_quoted);
    bench_compete(contenders, 3, bench_rounds(options, ROUNDS_CALM));
    (void)snprintf(name, sizeof(name), "import, %s", what);
    bench_say(BENCH_RATE, name, contenders[0].median[0], "sqlite3 .import",
              contenders[2].median[0], "at least 0.77");
    (void)snprintf(name, sizeof(name), "import group=500, %s", what);
    bench_say(BENCH_RATE, name, contenders[1].median[0], "sqlite3 .import",
              contenders[2].median[0], NULL);
}

int
main(int argc, char **argv)
{
    struct bench_options options;
    char *rota = realpath("bench/rota", NULL), command[8192];

    bench_options(argc, argv, &options);
    dir = options.dir == NULL ? "." : options.dir;
    if (rota != NULL && setenv("ROTA", rota, 0) != 0)
        bench_fail("no memory");
    free(rota);
    if (system("command -v sqlite3 >/dev/null") != 0) {
        (void)printf("import: sqlite3 is not installed\n");
        return 0;
    }
    compete(&options, "short rows", false);
    compete(&options, "quoted rows", true);
    (void)snprintf(command, sizeof(command),
                   "cd '%s' && rm -f bench.csv bench.to* bench.db* bench.err",
                   dir);
    return system(command) == 0 ? 0 : 1;
}
