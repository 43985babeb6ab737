/*
 * Commands that do nothing, /bin/true with an argument, a process for each, two
 * at once:
 *
 *   rota_process_run()   on two threads, against a bare loop of posix_spawn()
 *                        and waitpid(): what it costs that a process ends with
 *                        a context and that its output is kept
 *   rota each -j2        against the same loop, and against GNU parallel and
 *                        task-spooler where they are installed
 *
 * The rota command is $ROTA, or bench/rota.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rota.h>

#include "bench.h"

#define THREADS 2

extern char **environ;

static char *const argv_true[] = {"/bin/true", "1", NULL};

struct batch {
    const char *dir;
    const char *command; /* with N and DIR in its environment */
    size_t n;
};

/* -- Threads -------------------------------------------------------------- */

static void *
spawn_bare(void *arg)
{
    const struct batch *batch = arg;
    int status = 0;
    pid_t pid;

    for (size_t i = 0; i < batch->n / THREADS; i++)
        if (posix_spawn(&pid, argv_true[0], NULL, NULL, argv_true, environ) !=
                0 ||
            waitpid(pid, &status, 0) != pid || status != 0)
            bench_fail("%s did not run", argv_true[0]);
    return NULL;
}

static void *
spawn_ours(void *arg)
{
    const struct batch *batch = arg;
    struct ctx *ctx = ctx_with_cancel(NULL);

    for (size_t i = 0; i < batch->n / THREADS; i++) {
        struct rota_process process =
            ROTA_PROCESS_INIT((const char *const *)argv_true);
        struct rota_process_result result = ROTA_PROCESS_RESULT_INIT;

        if (rota_process_run(ctx, &process, &result) != ROTA_OK ||
            result.exit_code != 0)
            bench_fail("%s did not run", argv_true[0]);
        rota_process_result_fini(&result);
    }
    ctx_end(ctx);
    return NULL;
}

static void
on_threads(void *(*body)(void *), void *arg, double *ret_figures)
{
    const struct batch *batch = arg;
    int64_t start = ctx_now();
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, body, arg) != 0)
            bench_fail("cannot start a thread");
    for (int i = 0; i < THREADS; i++)
        (void)pthread_join(threads[i], NULL);
    ret_figures[0] = bench_rate(start, batch->n);
}

static void
run_bare(void *arg, double *ret_figures)
{
    on_threads(spawn_bare, arg, ret_figures);
}

static void
run_ours(void *arg, double *ret_figures)
{
    on_threads(spawn_ours, arg, ret_figures);
}

/* -- Commands ------------------------------------------------------------- */

static void
run_command(void *arg, double *ret_figures)
{
    const struct batch *batch = arg;
    int64_t start = ctx_now();

    if (system(batch->command) != 0)
        bench_fail("failed: %s", batch->command);
    ret_figures[0] = bench_rate(start, batch->n);
}

static void export(const char *name, const char *value)
{
    if (setenv(name, value, 1) != 0)
        bench_fail("no memory");
}

static bool
is_there(const char *what)
{
    char command[128];

    (void)snprintf(command, sizeof(command), "command -v %s >/dev/null", what);
    return system(command) == 0;
}

static const char each[] =
    "rm -f \"$DIR\"/bench.db*; seq \"$N\" |"
    " \"${ROTA:-bench/rota}\" each -j2 --db \"$DIR/bench.db\" /bin/true"
    " 2>\"$DIR/bench.err\" || { cat \"$DIR/bench.err\" >&2; false; }";
static const char parallel[] =
    "seq \"$N\" | parallel --will-cite -j2 /bin/true </dev/stdin";
static const char spooler[] =
    "export TS_SOCKET=\"$DIR/bench.tsp\"; tsp -S 2;"
    " for i in $(seq \"$N\"); do tsp -n /bin/true \"$i\" >/dev/null; done;"
    " tsp -w; tsp -K";

/* `rota each` against another command, on so many items. */
static void
compete(const struct bench_options *options, const char *name,
        const char *command, size_t n, const char *target)
{
    struct batch ours = {.command = each, .n = n};
    struct batch peer = {.command = command, .n = n};
    struct contender contenders[] = {{run_command, &ours, {0}},
                                     {run_command, &peer, {0}}};
    char number[24];

    if (!is_there(name)) {
        (void)printf("rota each: %s is not installed\n", name);
        return;
    }
    (void)snprintf(number, sizeof(number), "%zu", n);
    export("N", number);
    bench_compete(contenders, 2, bench_rounds(options, ROUNDS_CALM));
    bench_say(BENCH_RATE, "rota each -j2 /bin/true", contenders[0].median[0],
              name, contenders[1].median[0], target);
}

int
main(int argc, char **argv)
{
    struct bench_options options;
    char number[24];

    bench_options(argc, argv, &options);
    export("DIR", options.dir == NULL ? "." : options.dir);

    size_t n = bench_size(&options, 4000);
    struct batch bare = {.n = n}, batch = {.command = each, .n = n};
    struct contender contenders[] = {{run_bare, &bare, {0}},
                                     {run_ours, &bare, {0}},
                                     {run_command, &batch, {0}}};

    (void)snprintf(number, sizeof(number), "%zu", n);
    export("N", number);
    bench_compete(contenders, 3, bench_rounds(&options, ROUNDS_CALM));
    bench_say(BENCH_RATE, "rota_process_run, 2 threads",
              contenders[1].median[0], "a bare posix_spawn loop",
              contenders[0].median[0], NULL);
    bench_say(BENCH_RATE, "rota each -j2 /bin/true", contenders[2].median[0],
              "a bare posix_spawn loop", contenders[0].median[0],
              "at least 0.85");
    compete(&options, "parallel", parallel, bench_size(&options, 1000),
            "at least 5");
    compete(&options, "tsp", spooler, bench_size(&options, 1000),
            "at least 2.5");
    (void)system("rm -f \"$DIR\"/bench.db* \"$DIR\"/bench.err "
                 "\"$DIR\"/bench.tsp*");
    return 0;
}
