/*
 * The one way to grow an array: three variables of the caller's, which are the
 * array, how many items are in it, and how many there is room for.
 *
 *   struct item *all = NULL;
 *   size_t n = 0, room = 0;
 *
 *   if (!grow(all, n, room))
 *       return no_memory();
 *   all[n++] = item;
 *
 * Room at least doubles each time, so that n items cost n copies in all and not
 * n * n. Without memory, or if the size would overflow, the answer is false,
 * and array and room are as they were: what is in the array is kept, and still
 * to be freed by the caller, with free(). The array's owner guards it.
 */
#ifndef GROW_H
#define GROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Make room for one more item. array and room, a size_t, are lvalues; all three
 * may be looked at more than once. */
#define grow(array, n, room) grow_to(array, (n) + 1, room)

/* Make room for so many items in all. */
#define grow_to(array, needed, room) \
    ((needed) <= (room) ||           \
     grow_items(&(array), sizeof(*(array)), (needed), &(room)))

/* What an array has room for at first. */
#define GROW_FIRST 16

/* For the macros. array points to the caller's pointer, whatever it points to:
 * so it is copied out and in, not read as a void *. needed is more than
 * *room. */
static inline bool
grow_items(void *array, size_t size, size_t needed, size_t *room)
{
    size_t larger = *room < GROW_FIRST ? GROW_FIRST : *room, bytes;
    void *items;

    while (larger < needed)
        larger = larger > SIZE_MAX / 2 ? needed : 2 * larger;
    if (__builtin_mul_overflow(larger, size, &bytes))
        return false;
    memcpy(&items, array, sizeof(items));
    items = realloc(items, bytes);
    if (items == NULL)
        return false;
    memcpy(array, &items, sizeof(items));
    *room = larger;
    return true;
}

#endif
