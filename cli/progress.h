/*
 * How far it has got, on stderr: on a terminal one line that is redrawn in
 * place, elsewhere a plain line now and then. Log lines go through here, so
 * that they do not end up in the middle of it. Main shows and ends it, workers
 * log: all may call at any time, as a lock inside guards what is drawn.
 */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool is_live;         /* a terminal; read-only after progress_init() */
    bool has_bar;         /* one that can draw lines; likewise */
    pthread_mutex_t lock; /* guards everything below */
    bool is_drawn;
    char line[1024];     /* what is drawn */
    int64_t last_at;     /* the last plain line's time, ctx_now() */
    double last_percent; /* and what it said */
};

struct progress_state {
    int64_t done;
    int64_t total; /* -1: not known */
    double rate;   /* items a second; below 0: not known */
    double eta;    /* seconds; below 0: not known */
    char note[256];
};

void progress_init(struct progress *progress);

/* Show where it stands. */
void progress_show(struct progress *progress,
                   const struct progress_state *state);

/* Print a line, and draw the progress again below it. Any thread. The line
 * is made safe for terminals. */
void progress_log(struct progress *progress, const char *line);

/* Wipe the live line. */
void progress_end(struct progress *progress);

/* A rota_log_fn; arg is a struct progress. */
void progress_on_log(void *arg, int64_t job, const char *line);

#endif
