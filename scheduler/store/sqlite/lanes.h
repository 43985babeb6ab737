/*
 * Lanes: a queue's jobs of one kind that are ready. Claims, and looks whether
 * there is something to claim, go from lane to lane, so that jobs that are not
 * for us are never stepped over. On any connection, for its thread.
 */
#ifndef LANES_H
#define LANES_H

#include "store/sqlite/statement.h"
#include "store/work.h"

struct lane {
    int64_t queue, kind;
    bool is_ours;    /* the scope's process may claim in it */
    bool is_limited; /* its queue has a limit, and by that */
    int64_t room;    /* so many more jobs may run; <= 0: it is full */
};

/* Where a walk over the lanes of the scope's queue, or of all, begins. */
struct lane lane_first(const struct scope *scope);

/* Go on to the next lane behind *lane, ours or not; *ret_exists false
 * behind the last. */
ROTA_MUST_USE enum rota_error lane_next(struct connection *connection,
                                        const struct scope *scope,
                                        struct lane *lane, bool *ret_exists);

/* The lane of a job, wherever that is; *ret_exists false if it is not there. */
ROTA_MUST_USE enum rota_error lane_of_job(struct connection *connection,
                                          const struct scope *scope,
                                          int64_t job, struct lane *ret_lane,
                                          bool *ret_exists);

static inline bool
lane_is_full(const struct lane *lane)
{
    return lane->is_limited && lane->room <= 0;
}

/* Whether jobs of that kind are the scope's; and of a kind that is isolated. */
bool scope_has_kind(const struct scope *scope, int64_t kind);
bool scope_isolates(const struct scope *scope, int64_t kind);

#endif
