/* What is text, and what only claims to be. Any thread; nothing is kept. */
#ifndef UTF8_H
#define UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Decode one character of the size > 0 bytes at text into *ret_char. Returns
 * its length, or 0 if there is no well-formed one: overlong forms, surrogates
 * and what is beyond U+10FFFF are not. */
static inline size_t
utf8_decode(const char *text, size_t size, uint32_t *ret_char)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t n = s[0] < 0x80   ? 1
               : s[0] < 0xc2 ? 0
               : s[0] < 0xe0 ? 2
               : s[0] < 0xf0 ? 3
               : s[0] < 0xf5 ? 4
                             : 0;
    uint32_t c = n > 1 ? s[0] & (0x7fu >> n) : s[0];

    if (n == 0 || n > size)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3fu);
    }
    if ((n == 3 && c < 0x800) || (n == 4 && c < 0x10000) || c > 0x10ffff ||
        (c >= 0xd800 && c <= 0xdfff))
        return 0;
    *ret_char = c;
    return n;
}

/* True if all of text is UTF-8 without a NUL. */
static inline bool
utf8_is_text(const char *text, size_t size)
{
    size_t at = 0;

    while (at < size) {
        uint64_t eight;
        uint32_t c;
        size_t n;

        if (size - at >= sizeof(eight)) {
            memcpy(&eight, text + at, sizeof(eight));
            /* no byte with its top bit set, and none that is 0 */
            if (((eight | (eight - 0x0101010101010101u)) &
                 0x8080808080808080u) == 0) {
                at += sizeof(eight);
                continue;
            }
        }
        n = utf8_decode(text + at, size - at, &c);
        if (n == 0 || c == 0)
            return false;
        at += n;
    }
    return true;
}

#endif
