#include "cli/item_set.h"

#include <stdlib.h>
#include <xxhash.h>

static struct seen_key
key_of(const void *data, size_t size)
{
    XXH128_hash_t hash = XXH3_128bits(data, size);

    return (struct seen_key){hash.low64 | 1, hash.high64};
}

/* Where key is, or would go. */
static struct seen_key *
slot_of(struct seen_key *slots, size_t room, struct seen_key key)
{
    size_t i = key.high & (room - 1);

    while (slots[i].low != 0 &&
           (slots[i].low != key.low || slots[i].high != key.high))
        i = (i + 1) & (room - 1);
    return &slots[i];
}

static bool
grow(struct seen *seen)
{
    size_t room = seen->room == 0 ? 1024 : seen->room * 2;
    struct seen_key *slots = calloc(room, sizeof(*slots));

    if (slots == NULL)
        return false;
    for (size_t i = 0; i < seen->room; i++)
        if (seen->slots[i].low != 0)
            *slot_of(slots, room, seen->slots[i]) = seen->slots[i];
    free(seen->slots);
    seen->slots = slots;
    seen->room = room;
    return true;
}

bool
seen_add(struct seen *seen, const void *data, size_t size)
{
    struct seen_key key = key_of(data, size), *slot;

    if (seen->n >= seen->room / 2 && !grow(seen))
        return false;
    slot = slot_of(seen->slots, seen->room, key);
    seen->n += slot->low == 0;
    *slot = key;
    return true;
}

bool
seen_has(const struct seen *seen, const void *data, size_t size)
{
    return seen->n > 0 &&
           slot_of(seen->slots, seen->room, key_of(data, size))->low != 0;
}

void
seen_fini(struct seen *seen)
{
    free(seen->slots);
}
