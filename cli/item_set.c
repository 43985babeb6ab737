/*
 * See item_set.h. A table with open addressing, at most half full, so that a
 * search is short. Two items with the same 128 bits would be taken for one:
 * among a thousand million items the chance of that is about 1 in 10^21.
 */
#include "cli/item_set.h"

#include <stdlib.h>
#include <xxhash.h>

static struct item_key
key_of(const void *data, size_t size)
{
    XXH128_hash_t hash = XXH3_128bits(data, size);

    return (struct item_key){hash.low64 | 1, hash.high64};
}

/* Where key is, or would go. */
static struct item_key *
slot_of(struct item_key *slots, size_t room, struct item_key key)
{
    size_t i = key.high & (room - 1);

    while (slots[i].low != 0 &&
           (slots[i].low != key.low || slots[i].high != key.high))
        i = (i + 1) & (room - 1);
    return &slots[i];
}

static bool
grow(struct item_set *set)
{
    size_t room = set->room == 0 ? 1024 : set->room * 2;
    struct item_key *slots = calloc(room, sizeof(*slots));

    if (slots == NULL)
        return false;
    for (size_t i = 0; i < set->room; i++)
        if (set->slots[i].low != 0)
            *slot_of(slots, room, set->slots[i]) = set->slots[i];
    free(set->slots);
    set->slots = slots;
    set->room = room;
    return true;
}

bool
item_set_add(struct item_set *set, const void *data, size_t size)
{
    struct item_key key = key_of(data, size), *slot;

    if (set->n >= set->room / 2 && !grow(set))
        return false;
    slot = slot_of(set->slots, set->room, key);
    set->n += slot->low == 0;
    *slot = key;
    return true;
}

bool
item_set_has(const struct item_set *set, const void *data, size_t size)
{
    return set->n > 0 &&
           slot_of(set->slots, set->room, key_of(data, size))->low != 0;
}

void
item_set_fini(struct item_set *set)
{
    free(set->slots);
}
