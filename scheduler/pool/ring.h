/*
 * A ring: items of one kind that wait, the oldest first, and whose room grows.
 *
 * The queues of the pool are rings; pool.c and shared.h use this. There is no
 * lock in it: whoever calls anything here holds the lock of the queue that the
 * ring is. It is a header so that all but ring_grow(), which is seldom wanted,
 * is inlined: giving a task and taking it costs a few nanoseconds in all.
 */
#ifndef RING_H
#define RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The ring does not know what its items are. Its user gives their size where
 * room is made, and has a function of its own, say task_at(), which casts
 * items. */
struct ring {
    void *items;
    size_t capacity; /* 0 or a power of two */
    size_t first;    /* where the oldest is in items */
    size_t count;
};

/* Where the i-th oldest is in items. */
static inline size_t
ring_index(const struct ring *ring, size_t i)
{
    return (ring->first + i) & (ring->capacity - 1);
}

/* Make room for n more items of size bytes each. The oldest comes to the
 * beginning, which is why this is not grow(). False without memory: the
 * ring is as it was. Do not call it, call ring_reserve(). */
static bool
ring_grow(struct ring *ring, size_t n, size_t size)
{
    size_t capacity = ring->capacity ? ring->capacity : 64;
    size_t to_end = ring->capacity - ring->first;
    char *items, *old = ring->items;

    while (capacity - ring->count < n) {
        if (capacity > SIZE_MAX / size / 2)
            return false;
        capacity *= 2;
    }
    items = malloc(capacity * size);
    if (items == NULL)
        return false;
    if (to_end > ring->count)
        to_end = ring->count;
    if (ring->count > 0) {
        memcpy(items, old + ring->first * size, to_end * size);
        memcpy(items + to_end * size, old, (ring->count - to_end) * size);
    }
    free(old);
    *ring = (struct ring){items, capacity, 0, ring->count};
    return true;
}

/* See to it that there is room for n more items of size bytes each. False
 * without memory: the ring is as it was. */
static inline bool
ring_reserve(struct ring *ring, size_t n, size_t size)
{
    return n <= ring->capacity - ring->count || ring_grow(ring, n, size);
}

/* Forget the oldest item. There is one. */
static inline void
ring_drop_oldest(struct ring *ring)
{
    ring->first = ring_index(ring, 1);
    ring->count--;
}

/* Take the i-th item out of the middle, after the caller has copied it: those
 * between it and the nearer end move up by one. at is the user's task_at(). */
#define RING_CLOSE(ring, i, at)                             \
    do {                                                    \
        size_t i_ = (i);                                    \
                                                            \
        if (i_ < (ring)->count / 2) {                       \
            for (; i_ > 0; i_--)                            \
                *at(ring, i_) = *at(ring, i_ - 1);          \
            ring_drop_oldest(ring);                         \
        } else {                                            \
            for ((ring)->count--; i_ < (ring)->count; i_++) \
                *at(ring, i_) = *at(ring, i_ + 1);          \
        }                                                   \
    } while (0)

#endif
