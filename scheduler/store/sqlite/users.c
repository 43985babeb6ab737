#define _GNU_SOURCE
#include "store/sqlite/users.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "base/process.h"
#include "store/sqlite/lockfile.h"
#include "store/sqlite/turn.h"

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
    if (stat(lock_path, &lock) != 0)
        return false;
    if (stat(shm_path, &shm) != 0)
        shm.st_ino = 0; /* a queue that is being made: nobody's */
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
    (void)snprintf(text, size, "process %jd (%s%s)%s", (intmax_t)first, name,
                   process_is_stopped(first) ? ", stopped" : "", more);
}

/* -- Whose turn it is ------------------------------------------------------ */

/* Whether the process has locked that byte of the file, as far as we may see
 * it: the kernel tells of such a lock only beside the descriptor that has it.
 */
static bool
file_locks(const char *path, ino_t inode, uintmax_t byte)
{
    char line[256];
    uintmax_t number, first, last;
    bool locks = false;
    FILE *file = descriptor_file(path);

    if (file == NULL)
        return false;
    while (!locks && fgets(line, sizeof(line), file) != NULL)
        locks =
            sscanf(line, "lock: %*d: OFDLCK %*s WRITE %*d %*x:%*x:%ju %ju %ju",
                   &number, &first, &last) == 3 &&
            number == inode && first <= byte && byte <= last;
    (void)fclose(file);
    return locks;
}

static bool
process_locks(int64_t pid, ino_t inode, uintmax_t byte)
{
    char folder[64], path[sizeof(folder) + 256];
    const struct dirent *entry;
    bool locks = false;
    DIR *entries;
    int fd;

    (void)snprintf(folder, sizeof(folder), "/proc/%jd/fdinfo", (intmax_t)pid);
    fd = descriptor_above(open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    entries = fd < 0 ? NULL : fdopendir(fd);
    if (entries == NULL && fd >= 0)
        (void)close(fd);
    if (entries == NULL)
        return false;
    while (!locks && (entry = readdir(entries)) != NULL) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        locks = entry->d_name[0] != '.' && file_locks(path, inode, byte);
    }
    (void)closedir(entries);
    return locks;
}

/* The first of those that are not this one for which that holds; 0: none. */
static int64_t
pids_find(const struct pids *pids, ino_t inode, uintmax_t byte)
{
    for (size_t i = 0; i < pids->n; i++)
        if (pids->all[i] != getpid() &&
            process_locks(pids->all[i], inode, byte))
            return pids->all[i];
    return 0;
}

int64_t
users_turn(const char *shm, const char *lock)
{
    struct users users;
    struct stat file;
    int64_t pid;

    if (stat(lock, &file) != 0 || !users_read(shm, lock, &users))
        return 0;
    pid = pids_find(&users.rotas, file.st_ino, GATE);
    if (pid == 0)
        pid = pids_find(&users.rotas, file.st_ino, TURNSTILE);
    for (size_t i = 0; i < users.rotas.n && pid == 0; i++)
        if (process_is_stopped(users.rotas.all[i]))
            pid = users.rotas.all[i]; /* somebody else's, and so likely */
    return pid;
}
