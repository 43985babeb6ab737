/*
 * Lanes: a queue's jobs of one kind that are ready. Claims, and looks whether
 * there is something to claim, go from lane to lane, so that jobs that are not
 * for us are never stepped over.
 */
#ifndef LANE_H
#define LANE_H

#include <sqlite3.h>

#include "store/store.h"

/* The first lane behind queue ?1 and kind ?2: its queue, its kind, and who may
 * claim in it: NULL is anybody, -1 nobody.
 * (queue, kind) > (?1, ?2), but two seeks: SQLite would use a row value's first
 * column only and step over every job of the queue. */
#define LANE_NEXT                                                              \
    "SELECT l.queue, l.kind, (SELECT iif(paused_at IS NULL, owner, -1)"        \
    "  FROM _queue q WHERE q.id = l.queue)"                                    \
    " FROM (SELECT * FROM (SELECT queue, kind FROM _ready"                     \
    "  WHERE queue = ?1 AND kind > ?2 ORDER BY kind LIMIT 1)"                  \
    " UNION ALL SELECT * FROM (SELECT queue, kind FROM _ready"                 \
    "  WHERE queue > ?1 ORDER BY queue, kind LIMIT 1) LIMIT 1) l"

/* Whether the lane that a row of it names is one of the scope's. */
bool scope_has_lane(const struct scope *scope, sqlite3_stmt *lane);

#endif
