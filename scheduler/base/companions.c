#define _GNU_SOURCE
#include "base/companions.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "base/descriptor.h"

/* What others than its owner, and whom he lets in, may do with a file. */
#define MODES 0777

static const char *const suffixes[] = {"-wal", "-shm", "-journal", "-lock"};

/* The file, or the one that would be made. */
static void
queue_look(const char *path, struct stat *ret_queue)
{
    if (stat(path, ret_queue) == 0)
        return;
    memset(ret_queue, 0, sizeof(*ret_queue));
    ret_queue->st_mode = 0600;
    ret_queue->st_uid = geteuid();
    ret_queue->st_gid = getegid();
}

/* Whether who made the companion could have written to the queue as well: its
 * owner, root, or one of those that its mode lets in. */
static bool
is_trusted(const struct stat *companion, const struct stat *queue)
{
    return companion->st_uid == queue->st_uid || companion->st_uid == 0 ||
           ((queue->st_mode & S_IWGRP) != 0 &&
            companion->st_gid == queue->st_gid) ||
           (queue->st_mode & S_IWOTH) != 0;
}

/* What is wrong with it, and what is to be done; NULL: nothing. */
static const char *
fault_of(const struct stat *companion, const struct stat *queue)
{
    if (!S_ISREG(companion->st_mode))
        return "is no regular file; remove it";
    if (companion->st_nlink > 1)
        return "has another name (hard link); remove all but one";
    if (!is_trusted(companion, queue))
        return "belongs to somebody else; remove it, or do not use this folder";
    if ((companion->st_mode & MODES & ~queue->st_mode) != 0)
        return "lets in more people than the queue itself does; see who wrote "
               "it, and remove it or give it the queue's mode";
    return NULL;
}

enum rota_error
companions_check(const char *path)
{
    struct stat queue, companion;
    const char *fault;
    char name[PATH_MAX + 16];

    queue_look(path, &queue);
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++) {
        (void)snprintf(name, sizeof(name), "%s%s", path, suffixes[i]);
        if (lstat(name, &companion) != 0)
            continue; /* what cannot be looked at cannot be opened either */
        fault = fault_of(&companion, &queue);
        if (fault != NULL) {
            message_set("%s, which would be taken for a part of the queue, %s",
                        name, fault);
            return ROTA_INVALID;
        }
    }
    return ROTA_OK;
}

/* -- What is one ----------------------------------------------------------- */

/* The folder that path is in, "" if its name is too long, and its last part. */
static const char *
folder_of(const char *path, char folder[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    size_t n = slash == NULL ? 0 : (size_t)(slash - path);

    if (n < PATH_MAX)
        (void)snprintf(folder, PATH_MAX, "%.*s", (int)n, path);
    if (n == 0)
        (void)strcpy(folder, slash == NULL ? "." : "/");
    return slash == NULL ? path : slash + 1;
}

static bool
is_same_file(const char *a, const char *b)
{
    struct stat one, other;

    return stat(a, &one) == 0 && stat(b, &other) == 0 &&
           one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

/* Whether a file made as a would be where b is, or would be. */
static bool
is_same_place(const char *a, const char *b)
{
    char one[PATH_MAX] = "", other[PATH_MAX] = "";
    const char *name = folder_of(a, one);

    return strcmp(name, folder_of(b, other)) == 0 && is_same_file(one, other);
}

bool
companions_have(const char *database, const char *path)
{
    char real[PATH_MAX], name[PATH_MAX + 16];

    if (realpath(database, real) != NULL)
        database = real; /* they are beside what a link leads to */
    if (is_same_file(database, path) || is_same_place(database, path))
        return true;
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++) {
        (void)snprintf(name, sizeof(name), "%s%s", database, suffixes[i]);
        if (is_same_file(name, path) || is_same_place(name, path))
            return true;
    }
    return false;
}

/* -- The lock file --------------------------------------------------------- */

void
companions_make_lock(const char *path, const char *lock)
{
    struct stat queue;
    int fd;

    if (stat(path, &queue) != 0)
        return;
    fd = descriptor_above(
        open(lock, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (fd < 0)
        return;
    /* as SQLite does with those that it makes: what root has made must not shut
     * the owner out */
    if (geteuid() == 0)
        (void)!fchown(fd, queue.st_uid, queue.st_gid);
    (void)fchmod(fd, queue.st_mode & 0666);
    (void)close(fd);
}
