/*
 * Lanes: a queue's jobs of one kind that are ready. Claims, and looks whether
 * there is something to claim, go from lane to lane, so that jobs that are not
 * for us are never stepped over.
 */
#ifndef LANE_H
#define LANE_H

#include <sqlite3.h>

#include "store/store.h"

/* The lane l: its queue, its kind, who may claim in it (NULL is anybody, -1
 * nobody), and how many more (NULL: any number). */
#define LANE                                                                   \
    "SELECT l.queue, l.kind, (SELECT iif(paused_at IS NULL, owner, -1)"        \
    "  FROM _queue q WHERE q.id = l.queue),"                                   \
    " (SELECT max_running - (SELECT count(*) FROM _running r"                  \
    "   WHERE r.queue = q.id) FROM _queue q"                                   \
    "  WHERE q.id = l.queue AND q.max_running IS NOT NULL)"

/* The first one behind queue ?1 and kind ?2. (queue, kind) > (?1, ?2), but two
 * seeks: SQLite would use a row value's first column only and step over every
 * job of the queue. */
#define LANE_NEXT                                                              \
    LANE                                                                       \
    " FROM (SELECT * FROM (SELECT queue, kind FROM _ready"                     \
    "  WHERE queue = ?1 AND kind > ?2 ORDER BY kind LIMIT 1)"                  \
    " UNION ALL SELECT * FROM (SELECT queue, kind FROM _ready"                 \
    "  WHERE queue > ?1 ORDER BY queue, kind LIMIT 1) LIMIT 1) l"

/* Whether the lane that a row of it names is one of the scope's, and whether
 * its queue runs as many jobs as it may. */
bool scope_has_lane(const struct scope *scope, sqlite3_stmt *lane);
bool lane_is_full(sqlite3_stmt *lane);

/* The first lane behind queue ?2 and kind ?3 of which jobs with the key ?1 are
 * held. */
#define HELD_LANE_NEXT                                                         \
    "SELECT * FROM (SELECT queue, kind FROM _held WHERE key = ?1"              \
    "  AND queue = ?2 AND kind > ?3 ORDER BY kind LIMIT 1)"                    \
    " UNION ALL SELECT * FROM (SELECT queue, kind FROM _held WHERE key = ?1"   \
    "  AND queue > ?2 ORDER BY queue, kind LIMIT 1) LIMIT 1"

/* When something is to be done that no commit tells of: a scheduled job is
 * due, a deadline passes. NULL: nothing. */
#define DUE_NEXT                                                               \
    "SELECT min(at) FROM (SELECT min(run_at) AS at FROM _scheduled"            \
    " UNION ALL SELECT min(at) FROM _deadline)"

#endif
