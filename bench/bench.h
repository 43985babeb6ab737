/*
 * What the benchmarks share: rounds, medians, and lines that state a ratio.
 *
 * A figure alone says more about the machine than about the code. So whatever
 * is measured runs against a peer or a physical limit, in turns, in one call
 * of the program, and the line says how many times the peer it is. The line's
 * target is what we want, on an idle machine; nothing checks it.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rota/ctx.h>

/* Medians are taken over so many rounds where threads do not outnumber cores,
 * and where they do. */
#define ROUNDS_CALM    5
#define ROUNDS_CROWDED 9

struct bench_options {
    int rounds;        /* 0: each measurement's own */
    bool quick;        /* a tenth of the work, 3 rounds: does it run at all? */
    const char *dir;   /* where files go; the current directory if not given */
    const char *peers; /* where the peers' programs are; else ./bench/peers */
    const char *only;  /* the one part to be run; NULL: all */
};

/* Read --rounds N, --quick, --dir PATH, --peers PATH and --only PART. What is
 * wrong ends the program. */
void bench_options(int argc, char **argv, struct bench_options *ret_options);

/* Run the parts in their order, or the one that --only names. name NULL ends
 * them. */
struct bench_part {
    const char *name;
    void (*run)(const struct bench_options *options);
};
void bench_parts(const struct bench_options *options,
                 const struct bench_part *parts);

/* How many rounds, and how much work, instead of usual. */
int bench_rounds(const struct bench_options *options, int usual);
size_t bench_size(const struct bench_options *options, size_t usual);

/* -- Measuring ----------------------------------------------------------- */

/* One run: ret_figures[0], and [1] where there are two of them, as p50 and
 * p99 are. */
typedef void bench_fn(void *arg, double *ret_figures);

struct contender {
    bench_fn *run;
    void *arg;
    double median[2]; /* over the rounds, by bench_compete() */
};

/* Contenders for measure, n times: those of the peers' programs that are there
 * and know it; who is there and fails is named. At most PEERS; how many. They
 * live as long as the process. */
#define PEERS 9
size_t bench_peers(const struct bench_options *options, const char *measure,
                   size_t n, struct contender *ret_contenders);

/* Run each contender once a round, in turns. */
void bench_compete(struct contender *contenders, size_t n, int rounds);

/* Nanoseconds since start, for each of n. */
double bench_each(int64_t start, size_t n);

/* n a second, since start. */
double bench_rate(int64_t start, size_t n);

/* ret_figures[0] and [1] are p50 and p99 of samples, which are put in order. */
void bench_percentiles(double *samples, size_t n, double *ret_figures);

/* Let time pass without giving up the core. */
void bench_spin(int64_t duration);

/* How to make a context that another thread can poll, end it, and drop it. */
struct bench_end {
    struct ctx *(*make)(void);
    void (*end)(struct ctx *ctx);
    void (*drop)(struct ctx *ctx);
};

/* The time from end() to a thread that polls in a loop having seen it: p50 and
 * p99, in nanoseconds. */
void bench_end_seen(const struct bench_end *how, size_t samples,
                    double *ret_figures);

/* The limit of it: one word that another core polls, and nothing around it. */
extern const struct bench_end bench_bare_flag;

/* -- Saying -------------------------------------------------------------- */

enum bench_unit {
    BENCH_NS,   /* nanoseconds */
    BENCH_RATE, /* a second */
    BENCH_BYTES
};

/* "<what>: <ours / peer> x <peer_name> (<ours> against <peer>; target
 * <target>)" and a newline. target may be NULL. */
void bench_say(enum bench_unit unit, const char *what, double ours,
               const char *peer_name, double peer, const char *target);

/* The same for each of n of bench_peers(). targets names some of them and ends
 * with a NULL; or it is NULL. The figure is the median of that number, 0 or 1.
 */
struct bench_target {
    const char *peer, *target;
};
void bench_say_peers(enum bench_unit unit, const char *what, double ours,
                     const struct contender *peers, size_t n, int figure,
                     const struct bench_target *targets);

/* End the program: a benchmark whose work was not done has no figures. */
__attribute__((noreturn, format(printf, 1, 2))) void
bench_fail(const char *format, ...);

/* malloc() that does not fail. */
__attribute__((malloc, returns_nonnull)) void *bench_alloc(size_t size);

#endif
