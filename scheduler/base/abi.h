/*
 * Structs that callers fill, and that may grow: each begins with its size. A
 * program that was compiled against another version of a header has another
 * one:
 *
 *   an older struct is one of a size that was released; what it lacks is
 *   the default, 0;
 *   a newer one is taken if what we do not know of it is 0, so that
 *   nothing that was asked for is passed over.
 *
 * No state. Any thread.
 */
#ifndef ABI_H
#define ABI_H

#include <stdbool.h>
#include <stddef.h>

/* The size of a struct whose last field was that one: in version 0.1, say. */
#define SIZE_UP_TO(type, field) \
    (offsetof(type, field) + sizeof(((type *)NULL)->field))

/* Copy given to ours, of our_size bytes. released: the sizes that it ever had
 * and that are not ours, 0 behind them. False: it is not such a struct; ours is
 * as it was. given may be NULL: false. */
bool abi_take(void *ours, size_t our_size, const void *given,
              const size_t *released);

/* Whether a struct has a size that may be taken, whatever is in it. */
bool abi_knows(size_t size, size_t our_size, const size_t *released);

#endif
