/*
 * A child process that ends with a context.
 *
 *   const char *argv[] = {"convert", "a.png", "a.jpg", NULL};
 *   struct rota_process process = ROTA_PROCESS_INIT(argv);
 *   struct rota_process_result result = ROTA_PROCESS_RESULT_INIT;
 *
 *   error = rota_process_run(ctx, &process, &result);
 *   ...
 *   rota_process_result_fini(&result);
 *
 * The child leads a session and a process group of its own, with every signal
 * as at login, no descriptor but 0 to 3, and no terminal. When the context
 * ends, the group gets SIGTERM and SIGCONT, and after a grace SIGKILL. When the
 * child has ended, whatever way, all that descends from it and still runs is
 * ended too, whatever session, group, and environment it gave itself: it gets
 * SIGTERM and SIGCONT, and half a second later, or when what is left of the
 * grace is over, SIGKILL. And so is everything, with SIGKILL at once, when the
 * program dies, or the thread that called.
 *
 * This is done by a keeper, a process between the program and the child, which
 * is forked for each child and shows as the program's own, named rota-keeper.
 * What it cannot end: a process that it may not signal, since a program with
 * the setuid bit made it another user's; and what somebody had killed the
 * keeper of. Then everything is killed whose environment still has the tag. A
 * service that another process starts on request (systemd, a container's
 * daemon, at) is no descendant, and stays.
 *
 * Descriptor 3 is a channel, whose number is in the environment as ROTA_FD. A
 * line "progress DONE TOTAL" or "progress DONE" written to it goes to the
 * progress function, any other line to the log function. When the context ends
 * "cancel " and its cause can be read from it, as a line.
 *
 * No signal disposition of the calling program is touched, no other child of
 * it waited for, and it may have as many threads as it likes, ignore SIGCHLD,
 * and wait for any child that it finds.
 */
#ifndef ROTA_PROCESS_H
#define ROTA_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rota/ctx.h>
#include <rota/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Called on the thread that runs rota_process_run(). line ends in NUL and has
 * no newline. done is 0 or more: of less, the line is for the log. total is -1
 * if it was not said, or is less. */
typedef void rota_process_progress_fn(void *arg, int64_t done, int64_t total);
typedef void rota_process_log_fn(void *arg, const char *line);

/* The same, with what was just written to stdout (fd 1) or stderr (fd 2) and is
 * kept. */
typedef void rota_process_output_fn(void *arg, int fd, const char *data,
                                    size_t size);

/* Zero for defaults. Nothing is copied: all must live while it runs. */
struct rota_process {
    size_t size;             /* set by ROTA_PROCESS_INIT */
    const char *const *argv; /* ends in NULL; argv[0] is looked up in PATH */
    const char *const *env;  /* "NAME=value", ends in NULL; NULL: ours */
    const char *dir;         /* where it starts; NULL: where we are */
    const void *input;       /* its standard input; NULL: none */
    size_t input_size;
    int64_t grace;           /* from SIGTERM to SIGKILL; 0: 10 seconds */
    size_t output_max;       /* bytes kept of stdout, and of stderr, the first
                              * and the last half; 0: 64 KiB */
    int out_fd, err_fd;      /* where they go instead; 0: they are kept */
    int64_t max_cpu;         /* seconds of CPU; 0: our limit. From the first */
    int64_t max_memory;      /* bytes of address space     moments on, these */
    int64_t max_file;        /* bytes of a file it writes  four */
    int64_t max_files;       /* open files */
    rota_process_progress_fn *progress; /* NULL: nobody wants to know */
    rota_process_log_fn *log;
    rota_process_output_fn *output;
    void *arg;               /* of all three */
    const char *tag;         /* in the environment of all that descend from
                              * the child, as ROTA_TAG; NULL: a random one */
    int64_t soft_files;      /* open files, until it raises that itself up to
                              * max_files; 0: as many as we */
};
#define ROTA_PROCESS_INIT(argv)                                                \
    { sizeof(struct rota_process), argv, NULL, NULL, NULL, 0, 0, 0, 0, 0,      \
      0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, 0 }

/* What was written: size bytes, of which the first head_size are at head and
 * the last tail_size at tail. Nothing was dropped if those make up size. */
struct rota_process_output {
    int64_t size;
    char *head, *tail;
    size_t head_size, tail_size;
};

struct rota_process_result {
    size_t size;       /* set by ROTA_PROCESS_RESULT_INIT */
    int error;         /* errno of what kept it from starting; 0: it ran. After
                        * EMFILE, ENFILE, EAGAIN and ENOMEM, which pass, it may
                        * be tried again: rota_job_process() does */
    int exit_code;     /* -1 if it did not exit */
    int signal;        /* that ended it; 0: none */
    bool core_dumped;
    bool told, killed; /* by us, as ctx ended: to end, by SIGTERM or by the
                        * line on descriptor 3; SIGKILL was sent */
    int strays;        /* processes it left behind, which were ended */
    int64_t max_rss;   /* bytes; of it and the descendants it waited for */
    int64_t user_time, system_time; /* nanoseconds, the same */
    struct rota_process_output out, err;
};
#define ROTA_PROCESS_RESULT_INIT                                               \
    { sizeof(struct rota_process_result), 0, -1, 0, false, false, false, 0, 0, \
      0, 0, { 0, NULL, NULL, 0, 0 }, { 0, NULL, NULL, 0, 0 } }

/* Run a child and wait until it has ended and nothing of it is left. ROTA_OK:
 * it ended by itself, and *ret_result says how. ctx_err(ctx): ctx ended first,
 * and the child after it (if it had been started). Errors: ROTA_SYSTEM (it
 * could not be started, or not be waited for), ROTA_INVALID, ROTA_NOMEM. The
 * result is to be given to rota_process_result_fini() in any case. */
ROTA_API ROTA_MUST_USE enum rota_error
rota_process_run(struct ctx *ctx, const struct rota_process *process,
                 struct rota_process_result *ret_result);

/* Free what a result holds, and make it as ROTA_PROCESS_RESULT_INIT. */
ROTA_API void rota_process_result_fini(struct rota_process_result *result);

#ifdef __cplusplus
}
#endif
#endif
