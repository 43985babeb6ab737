/*
 * Who a process is, and what may be stored as text. No state but a cache that
 * is made once. Any thread.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base.h"
#include "store/store.h"

static char boot[64];
static pthread_once_t boot_once = PTHREAD_ONCE_INIT;

static void
boot_read(void)
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

    if (file == NULL)
        return;
    if (fgets(boot, sizeof(boot), file) != NULL)
        boot[strcspn(boot, "\n")] = '\0';
    (void)fclose(file);
}

const char *
process_boot(void)
{
    MUST(pthread_once(&boot_once, boot_read));
    return boot;
}

int64_t
process_start_ticks(int64_t pid)
{
    char path[64], line[1024];
    const char *after;
    long long ticks = -1;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return -1;
    /* field 22; the name, field 2, may hold anything, also ")" */
    if (fgets(line, sizeof(line), file) != NULL &&
        (after = strrchr(line, ')')) != NULL &&
        sscanf(after + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d"
               " %*d %*d %*d %*d %lld",
               &ticks) != 1)
        ticks = -1;
    (void)fclose(file);
    return ticks;
}

/* The length of the UTF-8 sequence at s, of n bytes at most; 0 if there is
 * none: overlong forms, surrogates and what is past U+10FFFF are not UTF-8. */
static size_t
utf8_sequence(const unsigned char *s, size_t n)
{
    unsigned low = 0x80, high = 0xbf;
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
