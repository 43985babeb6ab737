/* Reals as text. Any thread; nothing is kept. */
#ifndef REAL_H
#define REAL_H

#include <stdio.h>
#include <stdlib.h>

/* Print real into text, with as few digits as give the same one back: 15 as a
 * rule, which read well, 0.1 and not 0.10000000000000001; never more than 17.
 * What is printed has less than 32 bytes. */
static inline void
real_print(char text[32], double real)
{
    int digits = 15;
    double back;

    do {
        (void)snprintf(text, 32, "%.*g", digits, real);
        back = strtod(text, NULL);
    } while (digits++ < 17 && (back < real || back > real));
}

#endif
