/*
 * See progress.h. progress->lock guards what is drawn, and is held while it is
 * written to stderr: a frame or a log line is one write, and a line that some
 * worker logs never lands in the middle of the live one.
 */
#define _GNU_SOURCE /* open_memstream, asprintf */
#include "cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rota.h>

#include "cli/format.h"
#include "cli/terminal.h"
#include "jobs/excerpt.h"

#define PLAIN_EVERY   ROTA_SEC(10)              /* a plain line, if besides */
#define PLAIN_PERCENT 5.0                       /* so much has changed */
#define RATE_MAX      INT64_C(1000000000000000) /* that is shown */

void
progress_init(struct progress *progress)
{
    memset(progress, 0, sizeof(*progress));
    (void)pthread_mutex_init(&progress->lock, NULL);
    progress->is_live = terminal_is_live(stderr);
    progress->has_bar = terminal_has_unicode();
    progress->last_at = ctx_now();
}

/* -- What the line says -------------------------------------------------- */

/* From 0 to 100, whatever a job says; below 0: not known. */
static double
percent_of(const struct progress_state *state)
{
    if (state->total <= 0)
        return -1;
    if (state->done <= 0)
        return 0;
    if (state->done >= state->total)
        return 100;
    return 100.0 * (double)state->done / (double)state->total;
}

/* "  2,512/s", "  2.7/s", or where it is slow "  5.0/min". */
static void
put_rate(char *text, size_t size, double rate)
{
    char number[40];

    if (rate < 0.1) {
        (void)snprintf(text, size, "  %.1f/min", 60 * rate);
    } else if (rate < 10) {
        (void)snprintf(text, size, "  %.1f/s", rate);
    } else {
        format_number(number, sizeof(number),
                      rate < RATE_MAX ? (int64_t)rate : RATE_MAX);
        (void)snprintf(text, size, "  %s/s", number);
    }
}

/* The note is somebody's words, of a failure or of who cancels. */
static void
put_note(char *text, size_t size, const char *note)
{
    char *safe = NULL;
    size_t unused = 0;
    FILE *out = open_memstream(&safe, &unused);

    text[0] = '\0';
    if (out == NULL)
        return;
    format_text(out, note, strlen(note), FORMAT_SCREEN);
    if (fclose(out) == 0 && note[0] != '\0')
        excerpt_print(text, size, "  %s", safe);
    free(safe);
}

/* Everything but the bar: "4,123/10,000  212/s  ETA 27s  note". */
static void
put_figures(char *text, size_t size, const struct progress_state *state)
{
    char done[40], total[40] = "", rate[60] = "", eta[60] = "", number[40];
    char note[256];

    format_number(done, sizeof(done), state->done);
    if (state->total >= 0) {
        format_number(number, sizeof(number), state->total);
        (void)snprintf(total, sizeof(total), "/%.38s", number);
    }
    if (state->rate >= 0)
        put_rate(rate, sizeof(rate), state->rate);
    if (state->eta >= 0) {
        format_duration(number, sizeof(number), state->eta);
        (void)snprintf(eta, sizeof(eta), "  ETA %s", number);
    }
    put_note(note, sizeof(note), state->note);
    (void)snprintf(text, size, "%s%s%s%s%s", done, total, rate, eta, note);
}

static void
put_bar(char *text, size_t size, double percent, int width, bool has_lines)
{
    const char *full = has_lines ? "\u2501" : "=";
    const char *rest = has_lines ? "\u2500" : "-";
    int filled = (int)(percent / 100.0 * width);
    size_t at = 0;

    for (int i = 0; i < width && at + 4 < size; i++) {
        const char *part = i < filled ? full : rest;

        memcpy(text + at, part, strlen(part));
        at += strlen(part);
    }
    text[at] = '\0';
}

static void
put_line(struct progress *progress, const struct progress_state *state)
{
    char figures[512], bar[256] = "";
    double percent = percent_of(state);
    int columns = terminal_columns(stderr) - 1, width, used;

    put_figures(figures, sizeof(figures), state);
    if (percent < 0) {
        (void)snprintf(progress->line, sizeof(progress->line), "%s", figures);
    } else {
        width = columns - format_width(figures) - 8;
        width = width > 40 ? 40 : width < 5 ? 0 : width;
        put_bar(bar, sizeof(bar), percent, width, progress->has_bar);
        (void)snprintf(progress->line, sizeof(progress->line), "%3d%% %s%s%s",
                       (int)percent, bar, width > 0 ? "  " : "", figures);
    }
    progress->line[format_fit(progress->line, columns, &used)] = '\0';
}

/* -- Drawing ------------------------------------------------------------- */

/* progress->lock held. One write for a frame, so that none is torn. */
static void
draw(struct progress *progress, const char *above)
{
    char *frame;

    if (asprintf(&frame, "%s%s%s", progress->is_drawn ? "\r\033[K" : "", above,
                 progress->line) < 0)
        return;
    (void)fwrite(frame, 1, strlen(frame), stderr);
    free(frame);
    progress->is_drawn = progress->line[0] != '\0';
}

static void
show_plain(struct progress *progress, const struct progress_state *state)
{
    double percent = percent_of(state);
    int64_t now = ctx_now();
    char figures[512];

    if (now - progress->last_at < PLAIN_EVERY ||
        (percent >= 0 && percent - progress->last_percent < PLAIN_PERCENT))
        return;
    progress->last_at = now;
    progress->last_percent = percent;
    put_figures(figures, sizeof(figures), state);
    if (percent >= 0)
        (void)fprintf(stderr, "%3d%%  %s\n", (int)percent, figures);
    else
        (void)fprintf(stderr, "%s\n", figures);
}

void
progress_show(struct progress *progress, const struct progress_state *state)
{
    (void)pthread_mutex_lock(&progress->lock);
    if (progress->is_live) {
        put_line(progress, state);
        draw(progress, "");
    } else {
        show_plain(progress, state);
    }
    (void)pthread_mutex_unlock(&progress->lock);
}

void
progress_log(struct progress *progress, const char *line)
{
    char *safe = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&safe, &size);

    if (out == NULL)
        return;
    format_text(out, line, strlen(line), FORMAT_SCREEN);
    (void)fputc('\n', out);
    if (fclose(out) == 0) {
        (void)pthread_mutex_lock(&progress->lock);
        draw(progress, safe);
        (void)pthread_mutex_unlock(&progress->lock);
    }
    free(safe);
}

void
progress_end(struct progress *progress)
{
    (void)pthread_mutex_lock(&progress->lock);
    progress->line[0] = '\0';
    draw(progress, "");
    (void)pthread_mutex_unlock(&progress->lock);
}

void
progress_on_log(void *arg, int64_t job, const char *line)
{
    char text[2048];

    if (job != 0)
        excerpt_print(text, sizeof(text), "job %" PRId64 ": %s", job, line);
    else
        excerpt_print(text, sizeof(text), "rota: %s", line);
    progress_log(arg, text);
}
