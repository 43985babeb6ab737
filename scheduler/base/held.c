/*
 * Descriptors that keepers hold on to (held.h). The list is under held_lock,
 * which is held across every fork(), whoever calls it, so that a child finds
 * the list whole.
 */
#define _GNU_SOURCE
#include "base/held.h"

#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/base.h"

static pthread_mutex_t held_lock = PTHREAD_MUTEX_INITIALIZER;
static struct link all = {&all, &all}; /* from the lowest to the highest */
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

/* Whether the fork() that this thread is in is to make a keeper. */
static _Thread_local bool makes_keeper;

static void
fork_prepare(void)
{
    lock_take(&held_lock);
}

static void
fork_parent(void)
{
    lock_drop(&held_lock);
}

static void
fork_child(void)
{
    for (struct link *l = all.next; l != &all && !makes_keeper; l = l->next) {
        struct held *held = OWNER_OF(l, struct held, on_held);

        (void)close(held->fd);
        held->fd = -1;
    }
    if (!makes_keeper)
        list_init(&all);
    lock_drop(&held_lock);
}

static void
fork_handlers(void)
{
    MUST(pthread_atfork(fork_prepare, fork_parent, fork_child));
}

void
held_add(struct held *held, int fd)
{
    struct link *next;

    MUST(pthread_once(&fork_once, fork_handlers));
    lock_take(&held_lock);
    next = all.next;
    while (next != &all && OWNER_OF(next, struct held, on_held)->fd < fd)
        next = next->next;
    held->fd = fd;
    list_append(next, &held->on_held); /* before next: it is a ring */
    lock_drop(&held_lock);
}

void
held_drop(struct held *held)
{
    lock_take(&held_lock);
    if (held->fd >= 0) {
        list_remove(&held->on_held);
        (void)close(held->fd);
    }
    held->fd = -1;
    lock_drop(&held_lock);
}

pid_t
held_fork(void)
{
    pid_t pid;

    makes_keeper = true;
    pid = fork();
    makes_keeper = false;
    return pid;
}

void
held_close_others(void)
{
    int n = 0;

    /* They rise, so that the n-th is n or more, and none is put over one that
     * has yet to be moved. */
    for (struct link *l = all.next; l != &all; l = l->next)
        (void)dup2(OWNER_OF(l, struct held, on_held)->fd, n++);
    closefrom(n);
}
