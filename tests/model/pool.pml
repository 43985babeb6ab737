/*
 * A model of scheduler/pool/pool.c: who sleeps, who is called, and whether a
 * task can be left behind. Another thread submits to the shared queue; a task
 * may queue one more with its worker; and one of the tasks blocks until all
 * others have run. Each step that another thread can see by itself is a step
 * here; what happens under a lock is written with the lock.
 *
 * What must hold, whatever the order: when nobody can go on, every task has run
 * and every worker sleeps.
 */

#define WORKERS 2
#define SUBMITS 3
#define SPAWNS  3 /* tasks that tasks queue */

bool pool_lock, worker_lock[WORKERS];
byte shared;
byte own[WORKERS];
byte idle, calls;
bool asleep[WORKERS];

byte made, ran;      /* tasks */
byte submitted;
byte spawns = SPAWNS;
bool has_blocker = true; /* the one that blocks has not begun */

#define TAKE(lock) atomic { !lock -> lock = true }
#define DROP(lock) lock = false

/* pthread_cond_signal(): one of those that sleep, if there is one */
inline signal()
{
    atomic {
        if
        :: asleep[0] -> asleep[0] = false
        :: asleep[1] -> asleep[1] = false
        :: !asleep[0] && !asleep[1] -> skip
        fi
    }
}

/* call_is_due(); pool_lock is held */
inline call(is_due)
{
    if
    :: idle > 0 -> idle--; calls++; is_due = true
    :: else -> is_due = false
    fi
}

/* worker_fill(); pool_lock is held */
inline fill(me, is_filled)
{
    if
    :: shared > 0 ->
        own[me] = (shared + 1) / 2;
        shared = shared - own[me];
        is_filled = true
    :: else ->
        TAKE(worker_lock[1 - me]);
        own[me] = (own[1 - me] + 1) / 2;
        own[1 - me] = own[1 - me] - own[me];
        DROP(worker_lock[1 - me]);
        is_filled = own[me] > 0
    fi
}

/* worker_fetch(); nobody closes the pool */
inline fetch(me, is_filled, is_due)
{
    TAKE(pool_lock);
    fill(me, is_filled);
    do
    :: is_filled -> break
    :: else ->
        idle++;
        fill(me, is_filled);
        if
        :: is_filled -> idle--; break
        :: else -> skip
        fi;
        if
        :: calls == 0 ->
            atomic { asleep[me] = true; DROP(pool_lock) }
end_asleep: !asleep[me];
            TAKE(pool_lock)
        :: else -> skip
        fi;
        if
        :: calls > 0 -> calls--
        :: else -> idle--
        fi;
        fill(me, is_filled)
    od;
    is_due = false;
    if
    :: idle > 0 && (shared > 0 || own[me] > 1 || own[1 - me] > 0) ->
        call(is_due)
    :: else -> skip
    fi;
    DROP(pool_lock);
    if
    :: is_due -> signal()
    :: else -> skip
    fi
}

/* pool_put() on the worker's own queue */
inline put(me, is_due)
{
    TAKE(worker_lock[me]);
    own[me]++;
    DROP(worker_lock[me]);
    if
    :: idle > 0 ->
        TAKE(pool_lock);
        call(is_due);
        DROP(pool_lock);
        if
        :: is_due -> signal()
        :: else -> skip
        fi
    :: else -> skip
    fi
}

inline execute(me, is_due)
{
    if
    :: atomic { has_blocker -> has_blocker = false };
        submitted == SUBMITS && ran == made - 1
    :: do
        :: atomic { spawns > 0 -> spawns--; made++ };
            put(me, is_due)
        :: break
        od
    fi;
    ran++
}

active [WORKERS] proctype worker()
{
    byte me = _pid;
    bool has, is_due;

    do
    :: TAKE(worker_lock[me]);
        has = own[me] > 0;
        if
        :: has -> own[me]--
        :: else -> skip
        fi;
        DROP(worker_lock[me]);
        if
        :: has -> execute(me, is_due)
        :: else -> fetch(me, has, is_due)
        fi
    od
}

active proctype submitter()
{
    bool is_due;
    byte i;

    for (i : 1 .. SUBMITS) {
        TAKE(pool_lock);
        made++;
        submitted++;
        is_due = false;
        if
        :: shared == 0 -> call(is_due)
        :: else -> skip
        fi;
        shared++;
        DROP(pool_lock);
        if
        :: is_due -> signal()
        :: else -> skip
        fi
    }
}

active proctype judge()
{
    timeout -> assert(ran == made && made >= SUBMITS && shared == 0 &&
                      asleep[0] && asleep[1])
}
