/*
 * Which jobs may run beside which, once processes have died: pure, for every
 * kind of store and for the engine alike. Any thread.
 *
 * When a process dies, all that is known is which jobs ran in it, and each of
 * them is charged with the death (outcome.h). One may be to blame, a stranger's
 * kill -9 may be; the others must not be given up for it, and nobody is to
 * stand idle for long to find out. So suspicion rises by steps, with the deaths
 * in a row that a job was there at without getting any further:
 *
 *   once           nothing follows: most deaths are no job's doing
 *   twice          a suspect. Beside jobs that are none it runs as ever, but
 *                  never beside another suspect: of those that were there at
 *                  the same two deaths no two are there at a third
 *   three times    the third time it was beside jobs that were no suspects,
 *                  one of which may have killed the process: if one job in a
 *                  hundred kills, that is about as likely as that this one did.
 *                  So from now on it runs only where nothing else does, and
 *                  nothing joins it: a death then is its own
 *
 * A job is given up for the third death, or a later one, at which it was the
 * only one there: never for what another may have done. Nothing is stopped for
 * a suspect, and nobody waits for his turn: he is passed over until he may run.
 * In a worker that is never without other jobs who must be alone waits for ever;
 * it takes a worker of his own.
 *
 * What a kind does in a process of its own (rota_defaults.is_isolated) cannot
 * bring down this one from inside: its jobs are nobody's danger, and count as
 * nobody's company. They are charged too, and given up after many deaths, since
 * a command can still kill its worker by number.
 */
#ifndef SUSPICION_H
#define SUSPICION_H

#include <stdbool.h>
#include <stdint.h>

/* Deaths in a row that make a suspect, and after which he runs alone; and the
 * most of a job whose kind is isolated. The views have the first two. */
#define CRASHES_SUSPECT      2
#define CRASHES_MAX          3
#define CRASHES_MAX_ISOLATED 10

enum suspicion {
    SUSPICION_NEVER, /* its kind is isolated */
    SUSPICION_NONE,
    SUSPICION_SOME, /* a suspect */
    SUSPICION_ALONE /* one that runs alone */
};

enum suspicion suspicion_of(int64_t crashes, bool is_isolated);

/* How many jobs run in a process, but for those of SUSPICION_NEVER. */
struct aboard {
    int64_t jobs, suspects, loners; /* loners: of SUSPICION_ALONE */
};

/* n more, or fewer. */
void aboard_add(struct aboard *aboard, enum suspicion suspicion, int64_t n);

/* Whether one more may run beside them. */
bool aboard_admits(const struct aboard *aboard, enum suspicion suspicion);

#endif
