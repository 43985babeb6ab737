/* See descriptor.h. */
#define _GNU_SOURCE
#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static void
close_quietly(int fd)
{
    int saved = errno;

    (void)close(fd);
    errno = saved;
}

int
descriptor_above(int fd)
{
    int above;

    if (fd < 0 || fd >= DESCRIPTOR_FIRST)
        return fd;
    above = fcntl(fd, F_DUPFD_CLOEXEC, DESCRIPTOR_FIRST);
    close_quietly(fd);
    return above;
}

bool
descriptor_pair_above(int pair[2])
{
    for (int i = 0; i < 2; i++) {
        pair[i] = descriptor_above(pair[i]);
        if (pair[i] >= 0)
            continue;
        close_quietly(pair[1 - i]);
        pair[1 - i] = -1;
        return false;
    }
    return true;
}

FILE *
descriptor_file(const char *path)
{
    int fd = descriptor_above(open(path, O_RDONLY | O_CLOEXEC));
    FILE *file = fd < 0 ? NULL : fdopen(fd, "r");

    if (file == NULL && fd >= 0)
        close_quietly(fd);
    return file;
}
