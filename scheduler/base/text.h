/*
 * Which bytes may be stored as text. No state. Any thread.
 */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Whether size bytes are UTF-8 without a NUL. */
bool text_is_utf8(const void *data, size_t size);

#endif
