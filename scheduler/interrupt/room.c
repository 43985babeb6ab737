/*
 * Waiting for room for another child (children.h). room_lock guards the counts
 * of this process's children.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "base/base.h"
#include "interrupt/children.h"

/* What may be there again at any time, though no child of ours gives it back,
 * is tried after so long, and after twice as long each time, up to the second.
 */
#define PAUSE_MIN ROTA_MS(10)
#define PAUSE_MAX ROTA_SEC(1)

static pthread_mutex_t room_lock = PTHREAD_MUTEX_INITIALIZER;
static struct ctx_cond has_room;
static pthread_once_t room_once = PTHREAD_ONCE_INIT;
static int taken;
static uint64_t given;

static void
room_init(void)
{
    ctx_cond_init(&has_room);
}

bool
room_is_short(int error)
{
    return error == EMFILE || error == ENFILE || error == EAGAIN ||
           error == ENOMEM;
}

void
room_take(void)
{
    lock_take(&room_lock);
    taken++;
    lock_drop(&room_lock);
}

void
room_give(void)
{
    MUST(pthread_once(&room_once, room_init));
    lock_take(&room_lock);
    taken--;
    given++;
    ctx_cond_signal(&has_room); /* what one had is enough for one */
    lock_drop(&room_lock);
}

int
room_taken(void)
{
    int n;

    lock_take(&room_lock);
    n = taken;
    lock_drop(&room_lock);
    return n;
}

uint64_t
room_given(void)
{
    uint64_t n;

    lock_take(&room_lock);
    n = given;
    lock_drop(&room_lock);
    return n;
}

enum rota_error
room_await(struct ctx *ctx, uint64_t seen, int64_t *pause)
{
    enum rota_error error = ROTA_OK;
    int64_t deadline;

    *pause = *pause == 0               ? PAUSE_MIN
             : *pause >= PAUSE_MAX / 2 ? PAUSE_MAX
                                       : *pause * 2;
    deadline = ctx_now() + *pause;
    MUST(pthread_once(&room_once, room_init));
    lock_take(&room_lock);
    while (error == ROTA_OK && given == seen)
        error = ctx_cond_wait(ctx, &has_room, &room_lock, deadline);
    lock_drop(&room_lock);
    return error == ROTA_TIMEOUT ? ROTA_OK : error;
}
