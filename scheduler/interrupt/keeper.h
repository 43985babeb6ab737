/*
 * The keeper: a small process of ours between us and a command, so that nothing
 * that the command starts gets away.
 *
 *   we ──fork──> the keeper ──spawn──> the command ──> its descendants
 *
 * The kernel gives an orphan to the nearest ancestor that is a subreaper, and
 * the keeper is one: whoever descends from the command, in whatever session,
 * group, or environment, is the keeper's child as soon as its own parent has
 * ended. So when the command has ended, or we have, the keeper ends its
 * children until it has none, and then itself. No number is signalled that is
 * not a child's, and a child's is nobody else's until it is reaped.
 *
 * We and the keeper share a page of memory, which it fills in; it has ended
 * when pidfd is readable. What it does is in keeping.c; for child.c and
 * spawn.c. No lock: a keeper belongs to the one thread that sees its child
 * through, and that must not end before it.
 */
#ifndef KEEPER_H
#define KEEPER_H

#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <rota/process.h>

/* What a keeper is to start. Nothing is copied but by its fork(). */
struct order {
    const struct rota_process *process; /* the limits, the grace, argv */
    const char *const *env;
    const posix_spawn_file_actions_t *actions;
    const posix_spawnattr_t *attributes;
};

/* The page. What we want of the keeper is said here, and a signal only wakes
 * it: one that is pending swallows another of its number, whoever sent it. The
 * rest is the keeper's until it has ended. */
struct kept {
    atomic_bool may_start; /* release by us, acquire by the keeper; set once */
    atomic_bool shall_end; /* the same */
    bool is_over;          /* it has ended because nothing was left to keep */
    int error;   /* errno of what kept the command from starting, or 0 */
    int status;  /* the command's, as of wait() */
    bool told;   /* the command was told to end, or was about to be; */
    bool killed; /* and this was not enough */
    int strays;  /* processes that the command had left, and were ended */
    struct rusage usage; /* of the command and what it waited for */
};

struct keeper {
    pid_t pid; /* 0: not started */
    int pidfd; /* readable once it has ended; -1: not started */
    struct kept *kept;
};
#define KEEPER_NONE \
    {               \
        0, -1, NULL \
    }

/* What wakes it: it may start, now that we are ready; it is to end the command,
 * with the time of grace. And what the kernel says when our thread has ended.
 */
#define KEEPER_START SIGUSR1
#define KEEPER_TELL  SIGTERM
#define KEEPER_GONE  SIGHUP

/* Start a keeper, which then starts the command: whether that succeeded is in
 * kept->error when the keeper has ended. Returns an errno number, or 0. */
int keeper_start(struct keeper *keeper, const struct order *order);

/* Say in the page that the command is to end; keeper_tell() is to follow. What
 * tells the command by another way comes in between: if it ends by that, it was
 * told all the same. */
void keeper_announce(const struct keeper *keeper);

/* Have it end the command. */
void keeper_tell(const struct keeper *keeper);

/* Wait for its end, if it was started, and fetch what it has to say. */
struct kept keeper_end(struct keeper *keeper);

/* Be the keeper of the command, in its process, whose parent is host. */
__attribute__((noreturn)) void keep(struct kept *kept, pid_t host,
                                    const struct order *order);

#endif
