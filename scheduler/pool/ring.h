/*
 * A ring: items of one kind that wait, the oldest first, and whose room grows.
 *
 * The queues of the pool are rings. pool.c and shared.h use this. There is no
 * lock in it: whoever calls anything here holds the lock of the queue that the
 * ring is. All of it is inline, for a task costs a few nanoseconds in all.
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

/* Grow, so that there is room for n more, of size bytes each. */
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

/* Room for n more. False without memory, and nothing has changed. */
static inline bool
ring_reserve(struct ring *ring, size_t n, size_t size)
{
    return n <= ring->capacity - ring->count || ring_grow(ring, n, size);
}

static inline void
ring_drop_oldest(struct ring *ring)
{
    ring->first = ring_index(ring, 1);
    ring->count--;
}

/* Make room vanish between the i-th item, which has been taken, and the
 * nearer end, by moving the others up to it. */
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
