/*
 * A model of scheduler/context/: a parent that is cancelled, its child, whose
 * deadline passes at the same time, and the child's owner, who takes its hook
 * back and drops it. Each step that another thread can see by itself is a step
 * here; what happens under a lock is written with the lock.
 *
 *   OWNER 1   stops the hook and waits for it, frees what it touches, and drops
 *             the child
 *   OWNER 2   waits on the child, with or without a time of its own, and then
 *             drops it; the callback is left to run
 *   OWNER 3   stops the hook if it can, drops the child, and then cancels the
 *             parent, too; there is no deadline
 *
 * What must hold, whatever the order:
 *   - nothing of the child is touched after it was freed
 *   - the callback runs at most once; never if it was stopped; never while or
 *     after what it touches is freed; and once, if it was not stopped
 *   - when a cancel of the parent returns, a child that still hangs on it is done
 *   - who waits comes back, and finds the child done unless its own time was up
 *   - everybody ends, and the child is freed
 */

#ifndef OWNER
#define OWNER 1
#endif

/* hook.c */
#define ARMED 1
#define RUNNING 2
#define WAITED 3
#define DONE 4
#define STOPPED 5

bool tree_lock, timers_lock;
bool parent_done, child_done;
byte child_refs = 2;          /* the owner's, and the hook's */
bool child_linked = true;     /* in the parent's list; under tree_lock */
bool child_freed;
bool in_heap = true;          /* under timers_lock */

byte hook_state = ARMED;
bool hook_in_ring = true;     /* the child's; under tree_lock */
bool in_pending[2];           /* the canceller's, the deadline's; likewise */
byte callbacks;               /* how often it was begun */
bool callback_runs, resource_gone, was_stopped;

bool waiter_in_ring;          /* under tree_lock while the child is live */
bool waiter_claimed[2];       /* by the canceller, by the deadline */
bool wake_done;               /* WAKE_DONE: the ender's last touch */
bool waiter_gone;             /* its stack is */

#define TAKE(lock) atomic { !lock -> lock = true }
#define DROP(lock) lock = false
#define TOUCH_CHILD assert(!child_freed)

/* -- node_unref(), node_free() --------------------------------------------- */

inline child_unref(is_last)
{
    TOUCH_CHILD;
    atomic { child_refs--; is_last = (child_refs == 0) }
    if
    :: is_last ->
        TAKE(timers_lock);          /* timed_node_fini() */
        in_heap = false;
        DROP(timers_lock);
        TAKE(tree_lock);            /* the sweep may be at it right now */
        child_linked = false;
        DROP(tree_lock);
        assert(!hook_in_ring);      /* it holds a reference */
        child_freed = true
    :: else
    fi
}

/* -- hooks_run() ------------------------------------------------------------ */

inline hook_run(is_last)
{
    callbacks++;
    assert(callbacks == 1 && !was_stopped);
    callback_runs = true;
    assert(!resource_gone);         /* what it does */
    callback_runs = false;
    atomic {
        if
        :: hook_state == RUNNING -> hook_state = DONE
        :: hook_state == WAITED -> hook_state = DONE /* and wake */
        fi
    }
    child_unref(is_last)
}

/* Its claim is under tree_lock: see hook_claim_next(). */
inline hooks_run(me, claimed, is_last)
{
    TAKE(tree_lock);
    claimed = false;
    if
    :: in_pending[me] ->
        in_pending[me] = false;
        atomic {
            if
            :: hook_state == ARMED -> hook_state = RUNNING; claimed = true
            :: else
            fi
        }
    :: else
    fi;
    DROP(tree_lock);
    if
    :: claimed -> hook_run(is_last)
    :: else
    fi
}

/* -- node_end() -------------------------------------------------------------- */

/* Flip the child, under tree_lock. */
inline sweep_child(me)
{
    TOUCH_CHILD;
    if
    :: !child_done ->
        child_done = true;
        if
        :: hook_in_ring -> hook_in_ring = false; in_pending[me] = true
        :: else
        fi;
        if
        :: waiter_in_ring -> waiter_in_ring = false; waiter_claimed[me] = true
        :: else
        fi
    :: else
    fi
}

inline waiters_wake(me)
{
    if
    :: waiter_claimed[me] ->
        assert(!waiter_gone);
        waiter_claimed[me] = false;
        wake_done = true            /* the last touch */
    :: else
    fi
}

/* ctx_cancel() of the parent. */
inline cancel_parent(me, claimed, is_last, hung)
{
    TAKE(tree_lock);
    hung = child_linked;
    if
    :: !parent_done ->
        parent_done = true;
        if
        :: child_linked -> sweep_child(me)
        :: else
        fi
    :: else
    fi;
    DROP(tree_lock);
    waiters_wake(me);
    assert(!hung || child_done);    /* when it returns, and before */
    hooks_run(me, claimed, is_last)
}

/* -- The threads ------------------------------------------------------------- */

proctype canceller()
{
    bool claimed, is_last, hung;

    cancel_parent(0, claimed, is_last, hung)
}

/* rota-deadline, and then rota-hooks for it. */
proctype deadline()
{
    bool claimed, is_last, has_ref;

    TAKE(timers_lock);
    if
    :: in_heap ->
        TOUCH_CHILD;
        in_heap = false;
        atomic {                    /* node_ref_unless_freed() */
            if
            :: child_refs > 0 -> child_refs++; has_ref = true
            :: else
            fi
        }
    :: else
    fi;
    DROP(timers_lock);
    if
    :: has_ref ->
        TAKE(tree_lock);
        sweep_child(1);
        DROP(tree_lock);
        waiters_wake(1);
        hooks_run(1, claimed, is_last);
        child_unref(is_last)
    :: else
    fi
}

/* ctx_hook_stop(). */
inline hook_stop(stopped, is_last)
{
    stopped = false;
    atomic {
        if
        :: hook_state == ARMED -> hook_state = STOPPED; stopped = true
        :: else
        fi
    }
    if
    :: stopped ->
        TAKE(tree_lock);
        hook_in_ring = false;
        in_pending[0] = false;
        in_pending[1] = false;
        DROP(tree_lock);
        was_stopped = true;
        child_unref(is_last)
    :: else
    fi
}

/* ctx_hook_stop_wait(). */
inline hook_stop_wait(stopped, is_last)
{
    hook_stop(stopped, is_last);
    if
    :: !stopped ->
        do
        :: hook_state == RUNNING ->
            atomic {
                if
                :: hook_state == RUNNING -> hook_state = WAITED
                :: else
                fi
            }
        :: hook_state == WAITED -> hook_state != WAITED /* futex */
        :: hook_state == DONE || hook_state == STOPPED -> break
        od
    :: else
    fi
}

/* wait_in_tree(), with a time of its own that may be up at any moment. */
inline wait_on_child(joined, timed_out)
{
    TAKE(tree_lock);
    TOUCH_CHILD;
    joined = !child_done;
    if
    :: joined -> waiter_in_ring = true
    :: else
    fi;
    DROP(tree_lock);
    timed_out = false;
    if
    :: joined ->
        if
        :: wake_done
        :: timed_out = true
        fi;
        TAKE(tree_lock);            /* waiter_leave() */
        if
        :: !child_done -> waiter_in_ring = false; joined = false
        :: else
        fi;
        DROP(tree_lock);
        if
        :: joined -> wake_done      /* the ender has it */
        :: else
        fi
    :: else
    fi;
    waiter_gone = true;
    assert(child_done || timed_out)
}

proctype owner()
{
    bool stopped, is_last, joined, timed_out;
#if OWNER == 1
    hook_stop_wait(stopped, is_last);
    assert(!callback_runs);
    resource_gone = true;
    child_unref(is_last)
#elif OWNER == 2
    wait_on_child(joined, timed_out);
    child_unref(is_last)
#else
    bool claimed, hung;
    hook_stop(stopped, is_last);
    child_unref(is_last);
    cancel_parent(1, claimed, is_last, hung)
#endif
}

init
{
    atomic {
        run canceller();
#if OWNER != 3
        run deadline();
#endif
        run owner()
    }
    _nr_pr == 1;                    /* all have ended */
    assert(child_freed);
    assert(callbacks + was_stopped == 1);
    assert(parent_done)
}
