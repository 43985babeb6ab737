/*
 * Text for people: nothing that came from a file may control their terminal,
 * and columns line up whatever the language.
 */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum text_style {
    TEXT_SCREEN, /* for eyes: control characters and broken bytes escaped */
    TEXT_FIELD   /* the same, and backslashes too: it can be undone */
};

/* Write size bytes of data to out, safely. */
void text_put(FILE *out, const char *data, size_t size, enum text_style style);

/* How many columns of a terminal the text takes. */
int text_width(const char *text);

/* How many bytes of text fit into width columns; *ret_width is what they
 * take. */
size_t text_fit(const char *text, int width, int *ret_width);

/* A number with its thousands apart: 4,123. */
void text_number(char *text, size_t size, int64_t number);

/* A time in one or two units: 41s, 3m12s, 2h05m, 3d. */
void text_duration(char *text, size_t size, double seconds);

/* May colour go to this stream? It is a terminal, and nobody said no. */
bool text_has_colour(FILE *stream);

/* Can the terminal draw what is not ASCII? */
bool text_has_unicode(void);

/* The columns of the terminal behind stream; 80 if it does not say. */
int text_columns(FILE *stream);

#endif
