#include "countdown.h"

static atomic_bool are_held;

void
countdown_start(struct countdown *countdown, int n, bool goes_on)
{
    atomic_store(&countdown->has_failed, false);
    atomic_store(&countdown->goes_on, goes_on);
    atomic_store(&countdown->at, n);
    atomic_store(&countdown->left, n);
}

bool
countdown_stop(struct countdown *countdown)
{
    int left = atomic_exchange(&countdown->left, -1);

    atomic_store(&countdown->at, atomic_load(&countdown->at) - left);
    return atomic_exchange(&countdown->has_failed, false);
}

bool
countdown_is_due(struct countdown *countdown)
{
    int left = atomic_load(&countdown->left);

    do {
        if (left < 0 || atomic_load(&are_held))
            return false;
        if (left == 0 && atomic_load(&countdown->goes_on))
            break;
    } while (!atomic_compare_exchange_weak(&countdown->left, &left, left - 1));
    if (left == 0)
        atomic_store(&countdown->has_failed, true);
    return left == 0;
}

void
countdowns_hold(bool held)
{
    atomic_store(&are_held, held);
}
