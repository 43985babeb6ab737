/*
 * The name that somebody may have meant who mistyped one. main.c asks for a
 * command's, kinds.c for a kind's. One thread; nothing is kept.
 */
#ifndef NEAREST_H
#define NEAREST_H

/* The name nearest to word in a list of names; NULL if none is near. next
 * gives the i-th name, NULL after the last. */
const char *nearest_name(const char *word, const char *(*next)(int i));

#endif
