#include "store/sqlite/candidates.h"

#include <stdlib.h>
#include <string.h>

#include "base/grow.h"

enum rota_error
candidates_add(struct candidates *candidates, const struct candidate *candidate)
{
    if (!grow(candidates->all, candidates->n, candidates->room))
        return no_memory();
    candidates->all[candidates->n++] = *candidate;
    return ROTA_OK;
}

enum rota_error
candidates_join(struct candidates *candidates, struct candidates *from)
{
    for (size_t i = 0; i < from->n; i++) {
        if (!grow(candidates->all, candidates->n, candidates->room)) {
            /* what has been moved is theirs by now: do not free it twice */
            memmove(from->all, &from->all[i],
                    (from->n - i) * sizeof(*from->all));
            from->n -= i;
            return no_memory();
        }
        candidates->all[candidates->n++] = from->all[i];
    }
    from->n = 0;
    return ROTA_OK;
}

int
candidates_order(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    if (x->sort_key != y->sort_key)
        return x->sort_key < y->sort_key ? -1 : 1;
    return x->claim.id < y->claim.id ? -1 : x->claim.id > y->claim.id;
}

void
candidates_sort(struct candidates *candidates)
{
    if (candidates->n > 1)
        qsort(candidates->all, candidates->n, sizeof(*candidates->all),
              candidates_order);
}

void
candidates_clear(struct candidates *candidates)
{
    for (size_t i = 0; i < candidates->n; i++) {
        free(candidates->all[i].claim.args);
        free(candidates->all[i].limit_key);
    }
    candidates->n = 0;
}
