/*
 * The one way to grow an array. No state.
 */
#ifndef GROW_H
#define GROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Make sure that array (malloc'd, or NULL), of which room elements are there
 * and n are in use, has room for one more. False without memory: it is as it
 * was. */
#define GROW(array, n, room) \
    ((n) < (room) || array_grow(&(array), &(room), sizeof(*(array))))

/* Make room for at least one more, and for half as many again as there were, so
 * that n of them cost O(n) copies. array is the address of the pointer: of
 * whichever type that is, hence the copies. */
static inline bool
array_grow(void *array, size_t *room, size_t size)
{
    size_t more = *room + *room / 2 + 4;
    void *old, *grown;

    if (more < *room || more > SIZE_MAX / size)
        return false;
    memcpy(&old, array, sizeof(old));
    grown = realloc(old, more * size);
    if (grown == NULL)
        return false;
    memcpy(array, &grown, sizeof(grown));
    *room = more;
    return true;
}

#endif
