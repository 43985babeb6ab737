/*
 * See format.h. The rule for texts: what a job, a file or a user has written is
 * never trusted, so that each character that could move the cursor, change a
 * colour or turn the direction of writing is spelled out instead of printed.
 */
#define _GNU_SOURCE /* wcwidth */
#include "cli/format.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <wchar.h>

#include "jobs/utf8.h"

/* Control characters, and those that turn the direction of what follows. */
static bool
is_unsafe(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x061c ||
           (c >= 0x200e && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

static void
put_escape(FILE *out, uint32_t c, bool is_byte)
{
    static const char named[] = "\n\t\r\\", letters[] = "ntr\\";
    const char *name = c != 0 && c < 0x80 ? strchr(named, (int)c) : NULL;

    if (name != NULL)
        (void)fprintf(out, "\\%c", letters[name - named]);
    else if (is_byte || c < 0x80)
        (void)fprintf(out, "\\x%02" PRIx32, c);
    else
        (void)fprintf(out, "\\u%04" PRIx32, c);
}

void
format_text(FILE *out, const char *data, size_t size, enum format_style style)
{
    size_t at = 0;

    while (at < size) {
        uint32_t c;
        size_t n = utf8_decode(data + at, size - at, &c);

        if (n == 0) {
            put_escape(out, (unsigned char)data[at], true);
            n = 1;
        } else if (is_unsafe(c) || (c == '\\' && style == FORMAT_FIELD)) {
            put_escape(out, c, false);
        } else {
            (void)fwrite(data + at, 1, n, out);
        }
        at += n;
    }
}

void
format_json(FILE *out, const char *text)
{
    size_t size = strlen(text), at = 0;

    while (at < size) {
        uint32_t c;
        size_t n = utf8_decode(text + at, size - at, &c);

        if (n == 0) /* which JSON is not */
            return;
        if (is_unsafe(c)) /* and so it stands in a text; none is above U+FFFF */
            (void)fprintf(out, "\\u%04" PRIx32, c);
        else
            (void)fwrite(text + at, 1, n, out);
        at += n;
    }
}

size_t
format_fit(const char *text, int width, int *ret_width)
{
    size_t size = strlen(text), at = 0;
    int used = 0;

    while (at < size) {
        uint32_t c;
        size_t n = utf8_decode(text + at, size - at, &c);
        int w = n > 0 ? wcwidth((wchar_t)c) : 1;

        if (w < 0)
            w = 1;
        if (used + w > width)
            break;
        used += w;
        at += n > 0 ? n : 1;
    }
    *ret_width = used;
    return at;
}

int
format_width(const char *text)
{
    int width;

    (void)format_fit(text, 1 << 24, &width);
    return width;
}

void
format_number(char *text, size_t size, int64_t number)
{
    char plain[32];
    size_t n, at = 0;

    (void)snprintf(plain, sizeof(plain), "%" PRId64, number);
    n = strlen(plain);
    for (size_t i = 0; i < n && at + 2 < size; i++) {
        text[at++] = plain[i];
        if ((n - i) % 3 == 1 && i + 1 < n && plain[i] != '-')
            text[at++] = ',';
    }
    text[at] = '\0';
}

void
format_duration(char *text, size_t size, double seconds)
{
    int64_t s = seconds < 0      ? 0
                : seconds > 1e12 ? (int64_t)1e12
                                 : (int64_t)seconds;

    if (seconds >= 0 && seconds < 10)
        (void)snprintf(text, size, "%.1fs", seconds);
    else if (s < 60)
        (void)snprintf(text, size, "%" PRId64 "s", s);
    else if (s < 3600)
        (void)snprintf(text, size, "%" PRId64 "m%02" PRId64 "s", s / 60,
                       s % 60);
    else if (s < 86400)
        (void)snprintf(text, size, "%" PRId64 "h%02" PRId64 "m", s / 3600,
                       s / 60 % 60);
    else
        (void)snprintf(text, size, "%" PRId64 "d", s / 86400);
}

void
format_time(char *text, size_t size, int64_t unix_ms)
{
    time_t seconds = (time_t)(unix_ms / 1000);
    char zone[8] = "";
    struct tm local;

    (void)localtime_r(&seconds, &local);
    (void)strftime(zone, sizeof(zone), "%z", &local); /* +0100 */
    if (size == 0 || strftime(text, size, "%Y-%m-%dT%H:%M:%S", &local) == 0)
        return;
    (void)snprintf(text + strlen(text), size - strlen(text), "%.3s:%s", zone,
                   zone + strnlen(zone, 3));
}

void
format_counts(char *text, size_t size, const struct format_count *counts,
              size_t n)
{
    char number[40];
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < n && used < size; i++) {
        if (counts[i].n <= 0)
            continue;
        format_number(number, sizeof(number), counts[i].n);
        used += (size_t)snprintf(text + used, size - used, "%s%s %s",
                                 used > 0 ? ", " : "", number, counts[i].what);
    }
}
