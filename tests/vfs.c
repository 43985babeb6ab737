#define _GNU_SOURCE
#include "vfs.h"

#include <sched.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stddef.h>

#include "base/base.h"
#include "countdown.h"

static struct countdown files = COUNTDOWN_INIT, memory = COUNTDOWN_INIT;
static atomic_uint refused_calls;
static atomic_int refused_code;
static atomic_bool is_unsynced;
static void (*_Atomic watcher)(enum vfs_call call);

/* -- Orders --------------------------------------------------------------- */

void
vfs_watch(void (*fn)(enum vfs_call call))
{
    atomic_store(&watcher, fn);
}

bool
vfs_is_synced(void)
{
    return !atomic_load(&is_unsynced);
}

void
vfs_refuse(unsigned calls, int code, int n, bool goes_on)
{
    atomic_store(&refused_calls, calls);
    atomic_store(&refused_code, code);
    countdown_start(&files, n, goes_on);
}

void
memory_refuse(int n, bool goes_on)
{
    countdown_start(&memory, n, goes_on);
}

bool
vfs_relent(void)
{
    return countdown_stop(&files);
}

bool
memory_relent(void)
{
    return countdown_stop(&memory);
}

int
vfs_let_through(void)
{
    return atomic_load(&files.at);
}

int
memory_let_through(void)
{
    return atomic_load(&memory.at);
}

/* What comes before any call: its answer, if it is refused. */
static int
answer(enum vfs_call call)
{
    static const int errors[] = {[VFS_OPEN] = SQLITE_CANTOPEN,
                                 [VFS_DELETE] = SQLITE_IOERR_DELETE,
                                 [VFS_ACCESS] = SQLITE_IOERR_ACCESS,
                                 [VFS_READ] = SQLITE_IOERR_READ,
                                 [VFS_WRITE] = SQLITE_IOERR_WRITE,
                                 [VFS_TRUNCATE] = SQLITE_IOERR_TRUNCATE,
                                 [VFS_SYNC] = SQLITE_IOERR_FSYNC,
                                 [VFS_SIZE] = SQLITE_IOERR_FSTAT,
                                 [VFS_LOCK] = SQLITE_IOERR_LOCK,
                                 [VFS_SHM_MAP] = SQLITE_IOERR_SHMMAP,
                                 [VFS_SHM_LOCK] = SQLITE_IOERR_SHMLOCK};
    void (*fn)(enum vfs_call) = atomic_load(&watcher);
    int code = atomic_load(&refused_code);

    if (fn != NULL)
        fn(call);
    if ((atomic_load(&refused_calls) & VFS(call)) == 0 ||
        !countdown_is_due(&files))
        return SQLITE_OK;
    return code != 0 ? code : errors[call];
}

/* -- Files ---------------------------------------------------------------- */

/* SQLite has one set of methods for databases, another for their logs. They are
 * made when the first of its kind is opened, under the lock. */
static pthread_mutex_t methods_lock = PTHREAD_MUTEX_INITIALIZER;
static sqlite3_io_methods ours[2];
static const sqlite3_io_methods *theirs[2];
static sqlite3_vfs *below;

static bool
is_log(const sqlite3_file *file)
{
    return file->pMethods == &ours[1];
}

static const sqlite3_io_methods *
real(const sqlite3_file *file)
{
    return theirs[is_log(file)];
}

static int
file_read(sqlite3_file *file, void *data, int size, sqlite3_int64 at)
{
    int code = answer(VFS_READ);

    return code != SQLITE_OK ? code : real(file)->xRead(file, data, size, at);
}

static int
file_write(sqlite3_file *file, const void *data, int size, sqlite3_int64 at)
{
    int code = answer(VFS_WRITE);

    if (is_log(file))
        atomic_store(&is_unsynced, true);
    if (code == SQLITE_FULL)
        (void)real(file)->xWrite(file, data, size / 2, at);
    return code != SQLITE_OK ? code : real(file)->xWrite(file, data, size, at);
}

static int
file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    int code = answer(VFS_TRUNCATE);

    return code != SQLITE_OK ? code : real(file)->xTruncate(file, size);
}

/* The power stays on: that it was asked for is enough. */
static int
file_sync(sqlite3_file *file, int flags)
{
    int code = answer(VFS_SYNC);

    (void)flags;
    if (code == SQLITE_OK && is_log(file))
        atomic_store(&is_unsynced, false);
    return code;
}

static int
file_size(sqlite3_file *file, sqlite3_int64 *ret_size)
{
    int code = answer(VFS_SIZE);

    return code != SQLITE_OK ? code : real(file)->xFileSize(file, ret_size);
}

static int
file_lock(sqlite3_file *file, int level)
{
    int code = answer(VFS_LOCK);

    return code != SQLITE_OK ? code : real(file)->xLock(file, level);
}

static int
file_shm_map(sqlite3_file *file, int region, int size, int extend,
             void volatile **ret_region)
{
    int code = answer(VFS_SHM_MAP);

    return code != SQLITE_OK
               ? code
               : real(file)->xShmMap(file, region, size, extend, ret_region);
}

static int
file_shm_lock(sqlite3_file *file, int at, int n, int flags)
{
    int code = answer((flags & SQLITE_SHM_UNLOCK) != 0 ? VFS_SHM_UNLOCK
                                                       : VFS_SHM_LOCK);

    return code != SQLITE_OK ? code : real(file)->xShmLock(file, at, n, flags);
}

static void
methods_make(int which, const sqlite3_io_methods *methods)
{
    theirs[which] = methods;
    ours[which] = *methods;
    ours[which].xRead = file_read;
    ours[which].xWrite = file_write;
    ours[which].xTruncate = file_truncate;
    ours[which].xSync = file_sync;
    ours[which].xFileSize = file_size;
    ours[which].xLock = file_lock;
    ours[which].xShmMap = file_shm_map;
    ours[which].xShmLock = file_shm_lock;
}

static int
vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
         int *ret_flags)
{
    int which = (flags & SQLITE_OPEN_MAIN_DB) == 0, code = answer(VFS_OPEN);

    (void)vfs;
    file->pMethods = NULL;
    if (code == SQLITE_OK)
        code = below->xOpen(below, name, file, flags, ret_flags);
    if (code != SQLITE_OK || file->pMethods == NULL)
        return code;
    lock_take(&methods_lock);
    if (theirs[which] == NULL)
        methods_make(which, file->pMethods);
    MUST_BE(theirs[which] == file->pMethods);
    lock_drop(&methods_lock);
    file->pMethods = &ours[which];
    return SQLITE_OK;
}

static int
vfs_delete(sqlite3_vfs *vfs, const char *name, int syncs)
{
    int code = answer(VFS_DELETE);

    (void)vfs;
    return code != SQLITE_OK ? code : below->xDelete(below, name, syncs);
}

static int
vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret_answer)
{
    int code = answer(VFS_ACCESS);

    (void)vfs;
    return code != SQLITE_OK ? code
                             : below->xAccess(below, name, flags, ret_answer);
}

static int
vfs_sleep(sqlite3_vfs *vfs, int microseconds)
{
    (void)vfs;
    if (atomic_load(&files.left) < 0)
        return below->xSleep(below, microseconds);
    (void)sched_yield();
    return microseconds;
}

void
vfs_install(void)
{
    static sqlite3_vfs vfs;

    if (below != NULL)
        return;
    below = sqlite3_vfs_find(NULL);
    vfs = *below;
    vfs.zName = "watched";
    vfs.xOpen = vfs_open;
    vfs.xDelete = vfs_delete;
    vfs.xAccess = vfs_access;
    vfs.xSleep = vfs_sleep;
    MUST(sqlite3_vfs_register(&vfs, 1));
}

/* -- Memory --------------------------------------------------------------- */

static sqlite3_mem_methods allocator;

static void *
memory_malloc(int size)
{
    return countdown_is_due(&memory) ? NULL : allocator.xMalloc(size);
}

static void *
memory_realloc(void *old, int size)
{
    return countdown_is_due(&memory) ? NULL : allocator.xRealloc(old, size);
}

void
memory_install(void)
{
    sqlite3_mem_methods watched;

    MUST(sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0)); /* faster */
    MUST(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &allocator));
    watched = allocator;
    watched.xMalloc = memory_malloc;
    watched.xRealloc = memory_realloc;
    MUST(sqlite3_config(SQLITE_CONFIG_MALLOC, &watched));
}
