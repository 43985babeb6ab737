/*
 * What a child writes: reading it, and keeping its first and its last bytes.
 *
 * kept.head grows as it is needed, up to head_max. Behind it kept.tail is a
 * ring of tail_max bytes, which is allocated when the head is full;
 * output_end() puts it in order. kept.size counts every byte, whether it was
 * kept or not.
 *
 * child.c and spawn.c call this. There is no lock: an output belongs to the one
 * thread that sees its child through.
 */
#define _GNU_SOURCE
#include "interrupt/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/grow.h"

void
output_init(struct output *output, int fd, size_t max)
{
    *output = (struct output){
        .head_max = max - max / 2, .tail_max = max / 2, .fd = fd};
}

static size_t
min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Put size bytes where they belong: what the head has room for behind it, the
 * rest into the ring. False without memory: they are only counted. */
static bool
keep(struct output *output, const char *data, size_t size)
{
    struct rota_process_output *kept = &output->kept;
    size_t n = min(size, output->head_max - kept->head_size);

    kept->size += (int64_t)size;
    if (n > 0) {
        if (!grow_to(kept->head, kept->head_size + n, output->head_room))
            return false;
        memcpy(kept->head + kept->head_size, data, n);
        kept->head_size += n;
        data += n;
        size -= n;
    }
    if (size == 0 || output->tail_max == 0)
        return true;
    if (kept->tail == NULL && (kept->tail = malloc(output->tail_max)) == NULL)
        return false;
    if (size > output->tail_max) { /* the rest would be written over */
        data += size - output->tail_max;
        size = output->tail_max;
    }
    n = min(size, output->tail_max - output->tail_at);
    memcpy(kept->tail + output->tail_at, data, n);
    memcpy(kept->tail, data + n, size - n);
    output->tail_at = (output->tail_at + size) % output->tail_max;
    kept->tail_size = min(kept->tail_size + size, output->tail_max);
    return true;
}

bool
output_read(struct output *output)
{
    char data[65536]; /* what a pipe holds */
    bool ok = true;
    ssize_t n;

    if (output->fd < 0)
        return true;
    n = read(output->fd, data, sizeof(data));
    if (n > 0) {
        ok = keep(output, data, (size_t)n);
        if (output->fn != NULL)
            output->fn(output->arg, output->number, data, (size_t)n);
    } else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
        (void)close(output->fd);
        output->fd = -1;
    }
    return ok;
}

/* Reverse the order of the bytes between from and to. Reversing both parts of a
 * full ring, and then all of it, puts its oldest byte first without a copy. */
static void
reverse(char *from, char *to)
{
    while (from < to) {
        char c = *--to;

        *to = *from;
        *from++ = c;
    }
}

struct rota_process_output
output_end(struct output *output)
{
    struct rota_process_output *kept = &output->kept;

    if (output->fd >= 0)
        (void)close(output->fd);
    output->fd = -1;
    if (kept->tail_size == output->tail_max && output->tail_max > 0) {
        reverse(kept->tail, kept->tail + output->tail_at);
        reverse(kept->tail + output->tail_at, kept->tail + kept->tail_size);
        reverse(kept->tail, kept->tail + kept->tail_size);
    }
    return *kept;
}
