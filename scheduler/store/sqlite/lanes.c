#include "store/sqlite/lanes.h"

#include "base/base.h"

/* The lane l: its queue, its kind, who may claim in it (NULL is anybody, -1
 * nobody), and how many more (NULL: any number). A limit that is no integer is
 * damage, and is handed on as it is, to be noticed: less a count it would be a
 * number. */
#define LANE                                                            \
    "SELECT l.queue, l.kind, (SELECT iif(paused_at IS NULL, owner, -1)" \
    "  FROM _queue q WHERE q.id = l.queue),"                            \
    " (SELECT iif(typeof(max_running) = 'integer',"                     \
    "   max_running - (SELECT count(*) FROM _running r"                 \
    "   WHERE r.queue = q.id), max_running) FROM _queue q"              \
    "  WHERE q.id = l.queue AND q.max_running IS NOT NULL)"
enum { LANE_QUEUE, LANE_KIND, LANE_OWNER, LANE_ROOM };

/* The first one behind queue ?1 and kind ?2. (queue, kind) > (?1, ?2), but two
 * seeks: SQLite would use a row value's first column only and step over every
 * job of the queue. */
STATEMENT(NEXT_LANE) = {
    LANE " FROM (SELECT * FROM (SELECT queue, kind FROM _ready"
         "  WHERE queue = ?1 AND kind > ?2 ORDER BY kind LIMIT 1)"
         " UNION ALL SELECT * FROM (SELECT queue, kind FROM _ready"
         "  WHERE queue > ?1 ORDER BY queue, kind LIMIT 1) LIMIT 1) l"};
STATEMENT(ONE_LANE) = {LANE " FROM _job l WHERE l.id = ?1"};

static bool
is_among(const int64_t *kinds, size_t n, int64_t kind)
{
    for (size_t i = 0; i < n; i++)
        if (kinds[i] == kind)
            return true;
    return false;
}

bool
scope_has_kind(const struct scope *scope, int64_t kind)
{
    return is_among(scope->kinds, scope->n_kinds, kind);
}

bool
scope_isolates(const struct scope *scope, int64_t kind)
{
    return is_among(scope->kinds, scope->n_isolated, kind);
}

struct lane
lane_first(const struct scope *scope)
{
    return (struct lane){.queue = scope->queue != 0 ? scope->queue : INT64_MIN,
                         .kind = INT64_MIN};
}

/* Read the only row of one of the statements. */
static enum rota_error
lane_read(struct stmt *stmt, const struct scope *scope, struct lane *lane,
          bool *ret_exists)
{
    int64_t owner; /* nobody's is anybody's */

    *ret_exists = stmt_next(stmt);
    if (!*ret_exists)
        return stmt_end(stmt);
    owner = stmt_integer_or(stmt, LANE_OWNER, scope->process);
    *lane = (struct lane){
        .queue = stmt_integer(stmt, LANE_QUEUE),
        .kind = stmt_integer(stmt, LANE_KIND),
        .is_limited = sqlite3_column_type(stmt->s, LANE_ROOM) != SQLITE_NULL,
        .room = stmt_integer_or(stmt, LANE_ROOM, 0)};
    lane->is_ours = owner == scope->process &&
                    (scope->queue == 0 || scope->queue == lane->queue) &&
                    scope_has_kind(scope, lane->kind);
    return stmt_end(stmt);
}

enum rota_error
lane_next(struct connection *connection, const struct scope *scope,
          struct lane *lane, bool *ret_exists)
{
    struct stmt stmt = stmt_of(connection, &NEXT_LANE);
    enum rota_error error;

    (void)sqlite3_bind_int64(stmt.s, 1, lane->queue);
    (void)sqlite3_bind_int64(stmt.s, 2, lane->kind);
    error = lane_read(&stmt, scope, lane, ret_exists);
    if (scope->queue != 0 && lane->queue != scope->queue)
        *ret_exists = false; /* behind the only queue */
    return error;
}

enum rota_error
lane_of_job(struct connection *connection, const struct scope *scope,
            int64_t job, struct lane *ret_lane, bool *ret_exists)
{
    struct stmt stmt = stmt_of(connection, &ONE_LANE);

    (void)sqlite3_bind_int64(stmt.s, 1, job);
    return lane_read(&stmt, scope, ret_lane, ret_exists);
}
