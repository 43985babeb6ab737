/*
 * What is UTF-8 (text.h). Any thread; no state.
 */
#include "base/text.h"

/* The length of the UTF-8 sequence at s, of n bytes at most; 0 if there is
 * none: overlong forms, surrogates and what is past U+10FFFF are not UTF-8. */
static size_t
utf8_sequence(const unsigned char *s, size_t n)
{
    unsigned low = 0x80, high = 0xbf; /* of the second byte */
    size_t length = s[0] < 0x80                    ? 1
                    : s[0] >= 0xc2 && s[0] <= 0xdf ? 2
                    : s[0] >= 0xe0 && s[0] <= 0xef ? 3
                    : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                                   : 0;

    if (length == 0 || length > n)
        return 0;
    if (s[0] == 0xe0)
        low = 0xa0;
    else if (s[0] == 0xed)
        high = 0x9f;
    else if (s[0] == 0xf0)
        low = 0x90;
    else if (s[0] == 0xf4)
        high = 0x8f;
    for (size_t i = 1; i < length; i++) {
        if (s[i] < low || s[i] > high)
            return 0;
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

bool
text_is_utf8(const void *data, size_t size)
{
    const unsigned char *s = data;
    size_t at = 0, length;

    while (at < size) {
        length = s[at] == '\0' ? 0 : utf8_sequence(s + at, size - at);
        if (length == 0)
            return false;
        at += length;
    }
    return true;
}
