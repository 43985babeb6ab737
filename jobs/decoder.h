/*
 * The bytes of a file, decoded to UTF-8 where it is in another encoding. On the
 * thread that runs the job; no lock.
 */
#ifndef DECODER_H
#define DECODER_H

#include <iconv.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What comes out in the place of what cannot be decoded: no byte of UTF-8. */
#define DECODER_WRONG '\xff'

struct decoder {
    int fd;
    const char *encoding; /* NULL: the bytes come as they are */
    bool is_open;
    iconv_t iconv;
    char *raw; /* what was read and is not decoded yet */
    size_t raw_size;
    bool at_end;
};

/* Whether there is such an encoding. */
bool decoder_knows(const char *encoding);

/* Read from fd, which stays the caller's, as does encoding. */
void decoder_init(struct decoder *decoder, int fd, const char *encoding);
void decoder_fini(struct decoder *decoder);

/* Like read(2), of what was decoded; room is 16 or more. */
ssize_t decoder_read(struct decoder *decoder, char *to, size_t room);

/* Go to offset, in bytes of what was decoded, or before it: *ret_ahead is how
 * many come first then, for what was decoded can only be gone through. False:
 * errno says why. */
bool decoder_seek(struct decoder *decoder, int64_t offset, int64_t *ret_ahead);

#endif
