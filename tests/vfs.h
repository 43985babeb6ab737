/*
 * What SQLite stands on, its file system and its memory, as a test has it be:
 * watched, and refused on order. Over the default ones, for every connection
 * that this process opens.
 */
#ifndef VFS_H
#define VFS_H

#include <stdbool.h>

/* Once, before anything is opened; the memory even before SQLite is used. */
void vfs_install(void);
void memory_install(void);

/* -- Watched -------------------------------------------------------------- */

enum vfs_call {
    VFS_OPEN,
    VFS_DELETE,
    VFS_ACCESS,
    VFS_READ,
    VFS_WRITE,
    VFS_TRUNCATE,
    VFS_SYNC,
    VFS_SIZE,
    VFS_LOCK,
    VFS_SHM_MAP,
    VFS_SHM_LOCK,
    VFS_SHM_UNLOCK
};

/* Have fn called before each call, on whichever thread. NULL: none. */
void vfs_watch(void (*fn)(enum vfs_call call));

/* Whether all that was written to write-ahead logs has been synced. */
bool vfs_is_synced(void);

/* -- Refused -------------------------------------------------------------- */

#define VFS(call)  (1U << (call))
#define VFS_ALL    (VFS(VFS_SHM_UNLOCK) - 1U) /* but unlocking cannot fail */
#define VFS_WRITES (VFS(VFS_WRITE) | VFS(VFS_SHM_MAP))
#define VFS_LOCKS  (VFS(VFS_LOCK) | VFS(VFS_SHM_LOCK))

/* Let the n-th of these calls from here on, the first being 0, answer code; 0
 * is the I/O error that it has. goes_on: and all after it. Nobody sleeps
 * meanwhile. A write that is refused for want of room leaves half of it. */
void vfs_refuse(unsigned calls, int code, int n, bool goes_on);

/* Likewise SQLite's allocations. */
void memory_refuse(int n, bool goes_on);

/* Refuse nothing any more; true if something was. */
bool vfs_relent(void);
bool memory_relent(void);

/* How many there were before. */
int vfs_let_through(void);
int memory_let_through(void);

#endif
