/*
 * Who a process is, as /proc tells it (process.h). Any thread; no lock: the one
 * text that is kept is read once, and then read-only.
 */
#define _GNU_SOURCE
#include "base/process.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "base/descriptor.h"

static char boot[64];
static pthread_once_t boot_once = PTHREAD_ONCE_INIT;

static void
boot_read(void)
{
    FILE *file = descriptor_file("/proc/sys/kernel/random/boot_id");

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
    file = descriptor_file(path);
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
