/*
 * What the benchmarks share. Measures nothing of its own, but for the time a
 * bare flag takes from one core to the other.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <getopt.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* -- Options -------------------------------------------------------------- */

__attribute__((noreturn)) static void
usage(const char *program, int status)
{
    (void)fprintf(status == 0 ? stdout : stderr,
                  "usage: %s [--rounds N] [--quick] [--dir PATH] "
                  "[--peers PATH] "
                  "[--only PART]\n",
                  program);
    exit(status);
}

void
bench_options(int argc, char **argv, struct bench_options *ret_options)
{
    static const struct option known[] = {{"rounds", required_argument, 0, 'r'},
                                          {"quick", no_argument, 0, 'q'},
                                          {"dir", required_argument, 0, 'd'},
                                          {"peers", required_argument, 0, 'p'},
                                          {"only", required_argument, 0, 'o'},
                                          {"help", no_argument, 0, 'h'},
                                          {0}};
    int option;

    *ret_options = (struct bench_options){.dir = ".", .peers = "bench/peers"};
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (option) {
        case 'r':
            ret_options->rounds = atoi(optarg);
            if (ret_options->rounds < 1)
                usage(argv[0], 2);
            break;
        case 'q':
            ret_options->quick = true;
            break;
        case 'd':
            ret_options->dir = optarg;
            break;
        case 'p':
            ret_options->peers = optarg;
            break;
        case 'o':
            ret_options->only = optarg;
            break;
        default:
            usage(argv[0], option == 'h' ? 0 : 2);
        }
    }
    if (optind < argc)
        usage(argv[0], 2);
    (void)setenv("BENCH_DIR", ret_options->dir, 1); /* for peers */
}

void
bench_parts(const struct bench_options *options, const struct bench_part *parts)
{
    bool found = false;

    for (; parts->name != NULL; parts++)
        if (options->only == NULL || strcmp(options->only, parts->name) == 0) {
            parts->run(options);
            found = true;
        }
    if (!found)
        bench_fail("there is no part called %s here", options->only);
}

int
bench_rounds(const struct bench_options *options, int usual)
{
    if (options->rounds > 0)
        return options->rounds;
    return options->quick ? 3 : usual;
}

size_t
bench_size(const struct bench_options *options, size_t usual)
{
    return options->quick ? usual / 10 : usual;
}

/* -- Measuring ------------------------------------------------------------ */

static int
by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double
median(double *figures, size_t n)
{
    qsort(figures, n, sizeof(*figures), by_size);
    return (figures[(n - 1) / 2] + figures[n / 2]) / 2;
}

void
bench_compete(struct contender *contenders, size_t n, int rounds)
{
    size_t r = (size_t)rounds;
    double *figures = bench_alloc(2 * n * r * sizeof(*figures));

    for (size_t round = 0; round < r; round++)
        for (size_t i = 0; i < n; i++) {
            double ret[2] = {0, 0};

            contenders[i].run(contenders[i].arg, ret);
            figures[2 * i * r + round] = ret[0];
            figures[(2 * i + 1) * r + round] = ret[1];
        }
    for (size_t i = 0; i < n; i++) {
        contenders[i].median[0] = median(figures + 2 * i * r, r);
        contenders[i].median[1] = median(figures + (2 * i + 1) * r, r);
    }
    free(figures);
}

double
bench_each(int64_t start, size_t n)
{
    return (double)(ctx_now() - start) / (double)n;
}

double
bench_rate(int64_t start, size_t n)
{
    return (double)n * 1e9 / (double)(ctx_now() - start);
}

void
bench_percentiles(double *samples, size_t n, double *ret_figures)
{
    qsort(samples, n, sizeof(*samples), by_size);
    ret_figures[0] = samples[n / 2];
    ret_figures[1] = samples[n * 99 / 100];
}

void
bench_spin(int64_t duration)
{
    int64_t until = ctx_now() + duration;

    while (ctx_now() < until)
        continue;
}

/* -- Peers ---------------------------------------------------------------- */

struct peer {
    const char *name;
    char command[512];
};

/* What peer_ask() returns; anything else: the peer failed. */
enum { PEER_HAS_SAID = 0, PEER_HAS_NO_MEASURE = 3, PEER_IS_NOT_THERE = 127 };

static int
peer_ask(const char *command, double *ret_figures)
{
    FILE *said = popen(command, "r");
    int n, status;

    if (said == NULL)
        bench_fail("cannot run %s", command);
    n = fscanf(said, "%lf %lf", &ret_figures[0], &ret_figures[1]);
    while (getc(said) != EOF) /* else it may end by SIGPIPE */
        continue;
    status = pclose(said);
    if (!WIFEXITED(status) || (status == 0 && n < 1))
        return 1;
    return WEXITSTATUS(status);
}

static void
peer_run(void *arg, double *ret_figures)
{
    const struct peer *peer = arg;

    if (peer_ask(peer->command, ret_figures) != PEER_HAS_SAID)
        bench_fail("failed: %s", peer->command);
}

/* NULL unless there is one and it knows measure. */
static struct peer *
peer_find(const struct bench_options *options, const char *name,
          const char *measure)
{
    struct peer *peer = bench_alloc(sizeof(*peer));
    double once[2];
    int status;

    peer->name = name;
    (void)snprintf(peer->command, sizeof(peer->command), "'%s/%s' %s 1 2>&1",
                   options->peers, name, measure);
    status = peer_ask(peer->command, once);
    if (status == PEER_HAS_SAID)
        return peer;
    if (status != PEER_HAS_NO_MEASURE && status != PEER_IS_NOT_THERE)
        (void)fprintf(stderr, "bench: without %s, for this failed: %s\n", name,
                      peer->command);
    free(peer);
    return NULL;
}

size_t
bench_peers(const struct bench_options *options, const char *measure, size_t n,
            struct contender *ret_contenders)
{
    static const char *const names[PEERS] = {
        "stop_token", "go",         "glib",     "tbb",     "uv",
        "omp",        "beanstalkd", "plainjob", "graphile"};
    size_t found = 0;

    for (int i = 0; i < PEERS; i++) {
        struct peer *peer = peer_find(options, names[i], measure);

        if (peer == NULL)
            continue;
        (void)snprintf(peer->command, sizeof(peer->command), "'%s/%s' %s %zu",
                       options->peers, names[i], measure, n);
        ret_contenders[found++] = (struct contender){peer_run, peer, {0}};
    }
    return found;
}

/* -- From an end to who polls --------------------------------------------- */

/* One context at a time, from the thread that ends it to the one that polls. */
struct relay {
    _Atomic(struct ctx *) ctx; /* NULL: none yet */
    atomic_bool polling;
    atomic_int_fast64_t seen_at; /* 0: not yet */
    atomic_bool over;
};

static void *
relay_poll(void *arg)
{
    struct relay *relay = arg;
    struct ctx *ctx;

    while (!atomic_load(&relay->over)) {
        ctx = atomic_exchange(&relay->ctx, NULL);
        if (ctx == NULL)
            continue;
        atomic_store(&relay->polling, true);
        while (!ctx_done(ctx))
            continue;
        atomic_store(&relay->seen_at, ctx_now());
    }
    return NULL;
}

static double
relay_sample(struct relay *relay, const struct bench_end *how)
{
    struct ctx *ctx = how->make();
    int64_t start, seen_at;

    atomic_store(&relay->polling, false);
    atomic_store(&relay->seen_at, 0);
    atomic_store(&relay->ctx, ctx);
    while (!atomic_load(&relay->polling))
        continue;
    bench_spin(ROTA_US(5)); /* until it is well inside its loop */
    start = ctx_now();
    how->end(ctx);
    while ((seen_at = atomic_load(&relay->seen_at)) == 0)
        continue;
    how->drop(ctx);
    return (double)(seen_at - start);
}

void
bench_end_seen(const struct bench_end *how, size_t samples, double *ret_figures)
{
    double *taken = bench_alloc(samples * sizeof(*taken));
    struct relay relay = {.over = false};
    pthread_t thread;

    if (pthread_create(&thread, NULL, relay_poll, &relay) != 0)
        bench_fail("no thread");
    for (size_t i = 0; i < samples; i++)
        taken[i] = relay_sample(&relay, how);
    atomic_store(&relay.over, true);
    (void)pthread_join(thread, NULL);
    bench_percentiles(taken, samples, ret_figures);
    free(taken);
}

static struct ctx bare_flag;

static struct ctx *
bare_make(void)
{
    bare_flag.state_ = 0;
    return &bare_flag;
}

static void
bare_end(struct ctx *ctx)
{
    __atomic_store_n(&ctx->state_, 1, __ATOMIC_RELEASE);
}

static void
bare_drop(struct ctx *ctx)
{
    (void)ctx;
}

const struct bench_end bench_bare_flag = {bare_make, bare_end, bare_drop};

/* -- Saying --------------------------------------------------------------- */

/* figure in the unit a reader would choose. */
static void
figure_print(enum bench_unit unit, double figure)
{
    static const char *const units[][4] = {
        [BENCH_NS] = {" ns", " us", " ms", " s"},
        [BENCH_RATE] = {"/s", " k/s", " M/s", " G/s"},
        [BENCH_BYTES] = {" bytes", " kB", " MB", " GB"}};
    int i = 0;

    for (; i < 3 && figure >= 1000; i++)
        figure /= 1000;
    (void)printf("%.*f%s",
                 figure < 10    ? 2
                 : figure < 100 ? 1
                                : 0,
                 figure, units[unit][i]);
}

void
bench_say(enum bench_unit unit, const char *what, double ours,
          const char *peer_name, double peer, const char *target)
{
    (void)printf("%s: %.2f x %s (", what, ours / peer, peer_name);
    figure_print(unit, ours);
    (void)printf(" against ");
    figure_print(unit, peer);
    if (target != NULL)
        (void)printf("; target %s", target);
    (void)printf(")\n");
    (void)fflush(stdout);
}

void
bench_say_peers(enum bench_unit unit, const char *what, double ours,
                const struct contender *peers, size_t n, int figure,
                const struct bench_target *targets)
{
    for (size_t i = 0; i < n; i++) {
        const char *name = ((const struct peer *)peers[i].arg)->name;
        const struct bench_target *target = targets;

        while (target != NULL && target->peer != NULL &&
               strcmp(target->peer, name) != 0)
            target++;
        bench_say(unit, what, ours, name, peers[i].median[figure],
                  target != NULL ? target->target : NULL);
    }
}

void
bench_fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)fputs("bench: ", stderr);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
    exit(1);
}

void *
bench_alloc(size_t size)
{
    void *memory = malloc(size);

    if (memory == NULL)
        bench_fail("out of memory");
    return memory;
}
