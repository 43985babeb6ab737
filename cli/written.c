/*
 * See written.h. A stream is in memory until it is more than IN_MEMORY bytes,
 * and then in a file that has no name: it goes when the process does, however
 * that ends. Who holds the struct written is the only one to touch it; no lock.
 */
#define _GNU_SOURCE /* O_TMPFILE */
#include "cli/written.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "jobs/grow.h"

/* More than this of a stream goes to a file. */
#define IN_MEMORY 65536

/* -- Files without a name -------------------------------------------------- */

static int
nameless_file(void)
{
    const char *folder = getenv("TMPDIR");
    char path[4096];
    int fd;

    if (folder == NULL || folder[0] != '/')
        folder = "/tmp";
    fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
        return fd;
    if (snprintf(path, sizeof(path), "%s/rota.XXXXXX", folder) >=
        (int)sizeof(path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        (void)unlink(path);
    return fd;
}

static bool
write_all(int fd, const char *data, size_t size, int64_t at)
{
    ssize_t n;

    for (; size > 0; data += n, size -= (size_t)n, at += n) {
        n = pwrite(fd, data, size, at);
        if (n < 0 && errno != EINTR)
            return false;
        if (n < 0)
            n = 0;
    }
    return true;
}

/* -- One run --------------------------------------------------------------- */

struct written *
written_new(int64_t job)
{
    struct written *written = calloc(1, sizeof(*written));

    if (written == NULL)
        return NULL;
    written->job = job;
    written->out.fd = written->err.fd = -1;
    return written;
}

static void
stream_clear(struct stream *stream)
{
    if (stream->fd >= 0 && !stream->is_shared)
        (void)close(stream->fd);
    free(stream->data);
    *stream = (struct stream){.fd = -1};
}

void
written_forget(struct written *written)
{
    stream_clear(&written->out);
    stream_clear(&written->err);
}

void
written_free(struct written *written)
{
    if (written == NULL)
        return;
    written_forget(written);
    free(written);
}

/* Have the stream in fd, from at on; what comes later goes there, too. False:
 * fd is -1, or something failed, and the stream stays where it was. */
static bool
stream_move(struct stream *stream, int fd, int64_t at, bool is_shared)
{
    char data[65536];
    int64_t moved = 0;
    ssize_t n;

    if (fd < 0 || !write_all(fd, stream->data, stream->size, at))
        return false;
    while (stream->fd >= 0 && moved < stream->all) {
        n = pread(stream->fd, data, sizeof(data), stream->at + moved);
        if (n <= 0 || !write_all(fd, data, (size_t)n, at + moved))
            return false;
        moved += n;
    }
    moved = stream->all;
    stream_clear(stream);
    *stream = (struct stream){
        .fd = fd, .at = at, .all = moved, .is_shared = is_shared};
    return true;
}

void
written_add(struct written *written, int fd, const char *data, size_t size)
{
    struct stream *stream = fd == STDOUT_FILENO ? &written->out : &written->err;
    int file = -1;
    bool ok = written->error == 0;

    if (ok && stream->fd < 0 && stream->size + size > IN_MEMORY) {
        file = nameless_file();
        ok = stream_move(stream, file, 0, false);
        if (!ok && file >= 0)
            (void)close(file);
    }
    if (ok && stream->fd >= 0)
        ok = write_all(stream->fd, data, size, stream->all);
    else if (ok &&
             (ok = GROW(stream->data, stream->room, stream->size + size))) {
        memcpy(stream->data + stream->size, data, size);
        stream->size += size;
    }
    if (ok)
        stream->all += (int64_t)size;
    else if (written->error == 0)
        written->error = errno;
}

/* 0, or errno. */
static int
stream_print(const struct stream *stream, FILE *file)
{
    char data[65536];
    int64_t done = 0;
    ssize_t n;

    if (stream->size > 0)
        (void)fwrite(stream->data, 1, stream->size, file);
    while (stream->fd >= 0 && done < stream->all) {
        size_t want = stream->all - done < (int64_t)sizeof(data)
                          ? (size_t)(stream->all - done)
                          : sizeof(data);

        n = pread(stream->fd, data, want, stream->at + done);
        if (n <= 0)
            return n == 0 ? EIO : errno;
        (void)fwrite(data, 1, (size_t)n, file);
        done += n;
    }
    return 0;
}

int
written_print(struct written *written)
{
    int error = stream_print(&written->out, stdout);

    if (error == 0)
        error = stream_print(&written->err, stderr);
    return error != 0 ? error : written->error;
}

bool
written_move(struct written *written, int *fd, int64_t *end)
{
    struct stream *streams[] = {&written->out, &written->err};

    for (int i = 0; i < 2; i++) {
        int64_t size = streams[i]->all;

        if (size == 0)
            continue;
        if (*fd < 0)
            *fd = nameless_file();
        if (!stream_move(streams[i], *fd, *end, true))
            return false;
        *end += size;
    }
    return true;
}
