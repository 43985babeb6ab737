/*
 * The rota command: one process, one command. Data goes to stdout, everything
 * said to a person goes to stderr. Every file of the command includes this one;
 * in the order to read them, they are:
 *
 *   main.c      which command, and how the process ends
 *   options.c   the command line, read into struct cli
 *   value.c     numbers, durations, times and ids in it
 *   wallclock.c   local times, where the clocks are changed
 *   database.c  the file of --db: opened, closed
 *   say.c       what is said on stderr, and the exit code that goes with it
 *   nearest.c   the name that a mistyped one may have meant
 *   signals.c   the signals that stop a command softly
 *   help.c      `help`
 *   kinds.c     the kinds there are, and those that --load brings
 *   submit.c    KIND key=value... made into a submission; `add`
 *   run.c       `run`
 *   work.c      `work`, `resume`
 *   failures.c  what failed, listed at the end
 *   each.c      `each`
 *   each_feed.c   its items submitted, on a thread of their own
 *   each_ends.c   what has ended, counted, printed, summed up
 *   command.c     its words, with an item in their places
 *   items.c       its items
 *   item_set.c    which items a batch has had
 *   written.c     what one of its commands has written
 *   spool.c       what all have, until it is printed
 *   list.c      `ls`, `show`, `sql`
 *   cancel.c    `cancel`
 *   retry.c     `retry`
 *   out.c       rows as a table, as plain lines or as JSON
 *   pairs.c     pairs of numbers that a query gives
 *   progress.c  the live line on stderr
 *   rate.c      how fast it is, and how long the rest takes
 *   format.c    how numbers, times and texts are printed
 *   terminal.c  what the terminal is, and what it can do
 */
#ifndef CLI_H
#define CLI_H

#include <stdbool.h>
#include <stdint.h>

#include <rota.h>

/* How the process ends; the table is in rota(1). Besides: 128 + the number of
 * the signal that stopped it. */
enum cli_code {
    CLI_OK = 0,
    CLI_FAILED = 1,     /* the job failed */
    CLI_USAGE = 2,      /* the command line, or the SQL, is wrong */
    CLI_CANCELLED = 4,  /* the job was cancelled */
    CLI_NOTFOUND = 5,   /* no such job, no such file */
    CLI_BUSY = 75,      /* locked by somebody else, or a job does not stop */
    CLI_DEADLINE = 124, /* the job's deadline or timeout passed */
    CLI_BROKEN = 125    /* the file, the disk, the system */
};

/* A set of commands, for the options that they take. */
enum cli_commands {
    CLI_RUN = 1 << 0,
    CLI_ADD = 1 << 1,
    CLI_WORK = 1 << 2,
    CLI_RESUME = 1 << 3,
    CLI_LS = 1 << 4,
    CLI_SHOW = 1 << 5,
    CLI_CANCEL = 1 << 6,
    CLI_SQL = 1 << 7,
    CLI_HELP = 1 << 8,
    CLI_EACH = 1 << 9,
    CLI_RETRY = 1 << 10,
    CLI_ADOPT = 1 << 11
};

struct cli;

struct cli_command {
    const char *name;
    unsigned bit;             /* enum cli_commands */
    const char *synopsis;     /* the words after it */
    int min_words, max_words; /* of these; max_words < 0: no limit */
    const char *summary;
    int (*fn)(struct cli *cli); /* returns enum cli_code, or 128 + a signal */
};

/* All of them; the last one's name is NULL. */
extern const struct cli_command cli_commands[];

struct cli_option {
    const char *name;
    char letter;          /* 0: only the long form */
    const char *argument; /* NULL: takes none */
    unsigned commands;    /* which commands take it */
    const char *help;
};

/* All of them; the last one's name is NULL. */
extern const struct cli_option cli_options[];

/* The command line. */
struct cli {
    const struct cli_command *command;
    char **words; /* after the command */
    int n_words;
    unsigned given; /* a bit for each option, as in cli_options */
    const char *db;
    bool is_json;
    bool is_help;
    bool is_version;
    bool is_all;
    bool is_null;     /* items end in NUL */
    bool is_in_order; /* what they print comes in the items' order */
    const char *queue;
    const char *batch;
    const char *state;
    int64_t priority;
    int64_t limit;    /* -n; 0: not given */
    int64_t attempts; /* 0: the kind's */
    int64_t retries;
    int64_t workers;    /* -j; 0: one for each CPU */
    int64_t timeout;    /* nanoseconds; 0: none */
    int64_t deadline;   /* Unix milliseconds; 0: none */
    int64_t run_at;     /* Unix milliseconds; 0: at once */
    int64_t grace;      /* nanoseconds */
    const char **loads; /* --load, each; main() frees it */
    size_t n_loads, room_loads;
};

/* Read the command line. CLI_OK, or CLI_USAGE after saying why. */
int cli_parse(struct cli *cli, int argc, char **argv);

/* Check that the command takes the options that were given. */
int cli_check(const struct cli *cli);

int cli_run(struct cli *cli);
int cli_each(struct cli *cli);
int cli_add(struct cli *cli);
int cli_work(struct cli *cli);
int cli_resume(struct cli *cli);
int cli_ls(struct cli *cli);
int cli_show(struct cli *cli);
int cli_cancel(struct cli *cli);
int cli_retry(struct cli *cli);
int cli_adopt(struct cli *cli);
int cli_sql(struct cli *cli);
int cli_help(struct cli *cli);

#endif
