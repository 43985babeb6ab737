/* See nearest.h. */
#include "cli/nearest.h"

#include <string.h>

/* How many letters must be changed, added, dropped or swapped. */
static size_t
distance(const char *a, const char *b)
{
    enum { MAX = 32 };
    size_t d[MAX + 1][MAX + 1];
    size_t n = strlen(a), m = strlen(b);

    if (n > MAX || m > MAX)
        return MAX;
    for (size_t i = 0; i <= n; i++)
        d[i][0] = i;
    for (size_t j = 0; j <= m; j++)
        d[0][j] = j;
    for (size_t i = 1; i <= n; i++)
        for (size_t j = 1; j <= m; j++) {
            size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

            best = d[i - 1][j] + 1 < best ? d[i - 1][j] + 1 : best;
            best = d[i][j - 1] + 1 < best ? d[i][j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
                a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

const char *
nearest_name(const char *word, const char *(*next)(int i))
{
    size_t limit = strlen(word) < 4 ? 1 : 2, best = limit + 1;
    const char *nearest = NULL, *name;

    for (int i = 0; (name = next(i)) != NULL; i++) {
        size_t d = distance(word, name);

        if (d < best) {
            best = d;
            nearest = name;
        }
    }
    return nearest;
}
