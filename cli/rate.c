/* See rate.h. */
#include "cli/rate.h"

#include <math.h>
#include <stdlib.h>

/* What is longer ago than this counts for a third, and less: so many seconds,
 * but long enough to see so many items, and so many times the length of one. */
#define SPAN_SECONDS 10.0
#define SPAN_ITEMS   64.0
#define SPAN_LENGTHS 4.0

/* It is measured no more often. */
#define LOOK_EVERY INT64_C(200000000)

static double
seconds(int64_t nanoseconds)
{
    return (double)nanoseconds / 1e9;
}

/* How long an item takes. Those that have run for longer than the mean of those
 * that ended say that it is more. 0: not known. */
static double
length_of(const struct rate *rate, const int64_t *ages, size_t n)
{
    double mean = rate->all_runs > 0 ? rate->all_spent / rate->all_runs : 0;
    double runs = rate->all_runs, spent = rate->all_spent;

    for (size_t i = 0; mean > 0 && i < n; i++)
        if (seconds(ages[i]) > mean) {
            runs += 1;
            spent += seconds(ages[i]);
        }
    return mean > 0 ? spent / runs : 0;
}

/* How many items the parts of those that run amount to. */
static double
parts(const int64_t *ages, size_t n, double length)
{
    double sum = 0;

    for (size_t i = 0; length > 0 && i < n; i++)
        sum += fmin(seconds(ages[i]) / length, 1);
    return sum;
}

void
rate_begin(struct rate *rate, int64_t now, int64_t done)
{
    *rate = (struct rate){.at = now, .done = (double)done, .first = done};
}

static double
span_of(const struct rate *rate, double length)
{
    double span = fmax(SPAN_SECONDS, SPAN_LENGTHS * length);

    return rate->work > 0 ? fmax(span, SPAN_ITEMS * rate->time / rate->work)
                          : span;
}

void
rate_note(struct rate *rate, const struct rate_look *look)
{
    double past = seconds(look->at - rate->at), keep, done;

    /* Until as many have ended as run, those that did are the short ones, and
     * tell nothing of the others. What is past is not lost: it counts then. */
    if (look->at - rate->at < LOOK_EVERY || look->done <= rate->first ||
        (rate->time <= 0 && look->done - rate->first < (int64_t)look->n))
        return;
    keep = exp(-past / span_of(rate, length_of(rate, look->ages, look->n)));
    rate->all_runs = keep * rate->all_runs + (double)(look->runs - rate->runs);
    rate->all_spent =
        keep * rate->all_spent + seconds(look->spent - rate->spent);
    done = (double)look->done +
           parts(look->ages, look->n, length_of(rate, look->ages, look->n));
    rate->work = keep * rate->work + done - rate->done;
    rate->time = keep * rate->time + past;
    rate->at = look->at;
    rate->done = done;
    rate->runs = look->runs;
    rate->spent = look->spent;
}

double
rate_of(const struct rate *rate)
{
    return rate->time > 0 && rate->work > 0 ? rate->work / rate->time : -1;
}

static int
by_size(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* Each place is free when its item has ended, and takes the next that waits:
 * every place so many, and those that are free first one more. */
double
rate_left(const struct rate *rate, int64_t waiting, size_t at_a_time,
          const int64_t *ages, size_t n)
{
    double length, own, left, *free_in;
    size_t places = n > at_a_time ? n : at_a_time, more;

    if (rate_of(rate) < 0 || places == 0)
        return -1;
    if (waiting < 0)
        waiting = 0;
    free_in = calloc(places, sizeof(*free_in));
    if (free_in == NULL)
        return -1;
    length = (double)places / rate_of(rate);
    own = length_of(rate, ages, n); /* but at the end, when places are empty */
    if (own <= 0)
        own = length;
    for (size_t i = 0; i < n; i++)
        free_in[i] = fmax(own - seconds(ages[i]), 0);
    qsort(free_in, places, sizeof(*free_in), by_size);
    more = (size_t)(waiting % (int64_t)places);
    left = free_in[places - 1];
    if (more > 0)
        left = fmax(left, free_in[more - 1] + length);
    left += (double)(waiting / (int64_t)places) * length;
    free(free_in);
    return left > 0 ? left : -1;
}
