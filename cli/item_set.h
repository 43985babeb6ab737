/*
 * Which items a batch has had already, told by 128 bits of each one's
 * arguments. each.c fills the sets before there is a second thread; then the
 * feeder asks, and nobody changes them. No lock.
 */
#ifndef ITEM_SET_H
#define ITEM_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct item_key {
    uint64_t low, high; /* both 0: a free slot */
};

struct item_set {
    struct item_key *slots;
    size_t n, room; /* room is a power of two */
};

/* Add; false without memory. */
bool item_set_add(struct item_set *set, const void *data, size_t size);

bool item_set_has(const struct item_set *set, const void *data, size_t size);

void item_set_fini(struct item_set *set);

#endif
