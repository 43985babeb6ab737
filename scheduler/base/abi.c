#include "base/abi.h"

#include <stdint.h>
#include <string.h>

bool
abi_knows(size_t size, size_t our_size, const size_t *released)
{
    if (size >= our_size)
        return true;
    while (*released != 0 && *released != size)
        released++;
    return *released != 0;
}

static bool
is_zero(const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

bool
abi_take(void *ours, size_t our_size, const void *given, const size_t *released)
{
    const unsigned char *bytes = given;
    size_t size, shared;

    if (given == NULL)
        return false;
    memcpy(&size, given, sizeof(size));
    /* no struct of ours will ever be so large: it is no size at all */
    if (size > 1U << 16 || !abi_knows(size, our_size, released))
        return false;
    shared = size < our_size ? size : our_size;
    if (!is_zero(bytes + shared, size - shared))
        return false;
    memset(ours, 0, our_size);
    memcpy(ours, given, shared);
    memcpy(ours, &our_size, sizeof(our_size));
    return true;
}
