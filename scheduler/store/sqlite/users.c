#define _GNU_SOURCE
#include "store/sqlite/users.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "store/sqlite/lockfile.h"

/* Bytes of the -shm file: who writes; who reads, as of five moments at most;
 * who has it open. */
#define SHM_WRITE      120
#define SHM_READ       123
#define SHM_LAST_READ  127
#define SHM_CONNECTION 128

static void
pids_add(struct pids *pids, int64_t pid)
{
    if (pids->n < USERS_MAX && !pids_have(pids, pid))
        pids->all[pids->n++] = pid;
}

bool
pids_have(const struct pids *pids, int64_t pid)
{
    for (size_t i = 0; i < pids->n; i++)
        if (pids->all[i] == pid)
            return true;
    return false;
}

/* A lock on the -shm file's bytes from first to last. */
static void
shm_note(struct users *users, int64_t pid, uintmax_t first, uintmax_t last)
{
    if (first <= SHM_WRITE && last >= SHM_WRITE)
        pids_add(&users->writers, pid);
    if (first <= SHM_LAST_READ && last >= SHM_READ)
        pids_add(&users->readers, pid);
    if (first <= SHM_CONNECTION && last >= SHM_CONNECTION)
        pids_add(&users->open, pid);
}

bool
users_read(const char *shm_path, const char *lock_path, struct users *ret_users)
{
    struct stat shm, lock;
    char buffer[16384], line[256], kind[16];
    uintmax_t inode, first, last;
    int64_t pid;
    FILE *file;

    *ret_users = (struct users){.open.n = 0};
    if (stat(shm_path, &shm) != 0 || stat(lock_path, &lock) != 0)
        return false;
    file = descriptor_file("/proc/locks");
    if (file == NULL)
        return false;
    /* a page of it is of one moment, the whole is not */
    (void)setvbuf(file, buffer, _IOFBF, sizeof(buffer));
    while (fgets(line, sizeof(line), file) != NULL) {
        /* who only waits for a lock has an arrow here */
        if (sscanf(line, "%*d: %15s %*s %*s %jd %*x:%*x:%ju %ju %ju", kind,
                   &pid, &inode, &first, &last) < 4)
            continue;
        if (strstr(line, " EOF") != NULL)
            last = UINTMAX_MAX;
        if (inode == shm.st_ino && strcmp(kind, "POSIX") == 0)
            shm_note(ret_users, pid, first, last);
        else if (inode == lock.st_ino && first >= LOCKFILE_PIDS)
            pids_add(&ret_users->rotas, (int64_t)(first - LOCKFILE_PIDS));
    }
    (void)fclose(file);
    return true;
}

/* The name of a process's program, "?" if it has gone. */
static void
program_name(int64_t pid, char *name, size_t size)
{
    char path[64];
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%jd/comm", (intmax_t)pid);
    (void)snprintf(name, size, "?");
    file = descriptor_file(path);
    if (file == NULL)
        return;
    if (fgets(name, (int)size, file) != NULL)
        name[strcspn(name, "\n")] = '\0';
    (void)fclose(file);
}

void
pids_say(const struct pids *pids, char *text, size_t size)
{
    int64_t first = 0;
    size_t others = 0;
    char name[64], more[40] = "";

    for (size_t i = 0; i < pids->n; i++)
        if (pids->all[i] != getpid() && first == 0)
            first = pids->all[i];
        else if (pids->all[i] != getpid())
            others++;
    text[0] = '\0';
    if (first == 0)
        return;
    program_name(first, name, sizeof(name));
    if (others > 0)
        (void)snprintf(more, sizeof(more), " and %zu other%s", others,
                       others > 1 ? "s" : "");
    (void)snprintf(text, size, "process %jd (%s)%s", (intmax_t)first, name,
                   more);
}
