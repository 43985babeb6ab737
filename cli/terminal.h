/*
 * What the terminal behind a stream is and can do: whether there is one, how
 * wide it is, and whether it takes colours and characters beyond ASCII.
 *
 * Called by whoever prints for people: out.c, progress.c. Any thread; no lock.
 */
#ifndef TERMINAL_H
#define TERMINAL_H

#include <stdbool.h>
#include <stdio.h>

/* Whether stream is a terminal that obeys escape sequences, such as the one
 * that wipes a line. */
bool terminal_is_live(FILE *stream);

/* Whether colours may go to stream: it is such a terminal, and nobody has set
 * NO_COLOR. */
bool terminal_has_colour(FILE *stream);

/* Whether characters that are not ASCII may be printed: the locale's encoding
 * is UTF-8. */
bool terminal_has_unicode(void);

/* The columns of the terminal behind stream; 80 if it does not say. */
int terminal_columns(FILE *stream);

#endif
