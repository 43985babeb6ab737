/* Which arguments a batch has had already, told by 128 bits of each. */
#ifndef SEEN_H
#define SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seen_key {
    uint64_t low, high; /* both 0: a free slot */
};

struct seen {
    struct seen_key *slots;
    size_t n, room; /* room is a power of two */
};

/* Add; false without memory. */
bool seen_add(struct seen *seen, const void *data, size_t size);

bool seen_has(const struct seen *seen, const void *data, size_t size);

void seen_fini(struct seen *seen);

#endif
