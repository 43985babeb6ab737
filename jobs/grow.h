/*
 * One way to grow an array, for jobs/ and cli/, which see nothing of
 * scheduler/. Whoever owns the array holds what guards it.
 */
#ifndef GROW_H
#define GROW_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Have room for need items in array, a pointer to the first of room: both are
 * set. It at least doubles each time, so that n items cost about 2 n copies. On
 * false, which means no memory, errno is ENOMEM and all is as it was. */
#define GROW(array, room, need) \
    (grow_array(&(array), &(room), (need), sizeof(*(array))))

/* array is the address of the pointer: of whatever type, hence the memcpy(). */
static inline bool
grow_array(void *array, size_t *room, size_t need, size_t item_size)
{
    size_t new_room = *room < 64 ? 64 : *room;
    void *items;

    if (need <= *room)
        return true;
    while (new_room < need && new_room <= SIZE_MAX / 2)
        new_room *= 2;
    if (new_room < need || new_room > SIZE_MAX / item_size) {
        errno = ENOMEM;
        return false;
    }
    memcpy(&items, array, sizeof(items));
    items = realloc(items, new_room * item_size);
    if (items == NULL)
        return false;
    memcpy(array, &items, sizeof(items));
    *room = new_room;
    return true;
}

#endif
