/* See pairs.h. */
#include "cli/pairs.h"

#include "jobs/grow.h"

bool
pairs_keep(void *arg, int n, const char *const *names,
           const struct rota_value *values)
{
    struct pairs *pairs = arg;

    (void)n, (void)names;
    if (values == NULL)
        return true;
    if (!GROW(pairs->all, pairs->room, pairs->n + 1))
        return false;
    pairs->all[pairs->n++] =
        (struct pair){values[0].integer, values[1].integer};
    return true;
}

void
pairs_fini(struct pairs *pairs)
{
    free(pairs->all);
}
