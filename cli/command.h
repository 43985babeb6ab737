/*
 * The command of `each`: words with places in them, filled with an item, and
 * said the way the kind exec takes it (jobs/exec.c). No shell sees any of it.
 */
#ifndef COMMAND_H
#define COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A command and its arguments, run in folder, as exec's arguments: malloc'd;
 * NULL without memory. item, unless NULL, is kept beside them for who looks. */
char *command_encode(const char *folder, char *const *argv, size_t n,
                     const char *item, size_t *ret_size);

/* Whether word has a place for an item, or for something of it. */
bool command_has_place(const char *word);

/* Whether an item would become part of a shell's program, not an argument of
 * it: sh -c 'echo {}'. *ret_word is the program. */
bool command_is_splice(char *const *words, size_t n, const char **ret_word);

/* Whether name can be run: it is in PATH, or a path to a file that may be. */
bool command_exists(const char *name);

/* Fill the places of n words with item, the number-th one: an argv, ending in
 * NULL, in one block to free. Without a place the item goes to the end. NULL
 * without memory. */
char **command_fill(char *const *words, size_t n, const char *item,
                    int64_t number, size_t *ret_n);

#endif
