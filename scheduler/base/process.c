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

/* Of /proc/PID/stat what comes after the name, which may hold anything, also
 * ")": " S 1 ..."; NULL: there is no such process. */
static const char *
stat_read(int64_t pid, char line[1024])
{
    char path[64];
    const char *after = NULL;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
    file = descriptor_file(path);
    if (file == NULL)
        return NULL;
    if (fgets(line, 1024, file) != NULL)
        after = strrchr(line, ')');
    (void)fclose(file);
    return after == NULL ? NULL : after + 1;
}

int64_t
process_start_ticks(int64_t pid)
{
    char line[1024];
    const char *after = stat_read(pid, line);
    long long ticks = -1;

    /* field 22 */
    if (after != NULL &&
        sscanf(after,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d"
               " %*d %*d %*d %*d %lld",
               &ticks) != 1)
        ticks = -1;
    return ticks;
}

bool
process_is_stopped(int64_t pid)
{
    char line[1024];
    const char *after = stat_read(pid, line);

    return after != NULL && (after[1] == 'T' || after[1] == 't');
}
