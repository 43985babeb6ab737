/* See decoder.h. iconv(3) decodes. */
#define _GNU_SOURCE
#include "jobs/decoder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { RAW = 64 << 10 };

bool
decoder_knows(const char *encoding)
{
    iconv_t it = iconv_open("UTF-8", encoding);

    return it != (iconv_t)-1 && iconv_close(it) == 0;
}

void
decoder_init(struct decoder *decoder, int fd, const char *encoding)
{
    *decoder = (struct decoder){.fd = fd, .encoding = encoding};
}

void
decoder_fini(struct decoder *decoder)
{
    if (decoder->is_open)
        (void)iconv_close(decoder->iconv);
    free(decoder->raw);
}

/* Be at the beginning of the text, in the encoding's first state. */
static bool
begin(struct decoder *decoder)
{
    if (decoder->raw == NULL)
        decoder->raw = malloc(RAW);
    if (decoder->raw == NULL)
        return false;
    if (decoder->is_open)
        (void)iconv_close(decoder->iconv);
    decoder->iconv = iconv_open("UTF-8", decoder->encoding);
    decoder->is_open = decoder->iconv != (iconv_t)-1;
    decoder->raw_size = 0;
    decoder->at_end = false;
    return decoder->is_open;
}

bool
decoder_seek(struct decoder *decoder, int64_t offset, int64_t *ret_ahead)
{
    bool is_plain = decoder->encoding == NULL;

    *ret_ahead = is_plain ? 0 : offset;
    return lseek(decoder->fd, is_plain ? (off_t)offset : 0, SEEK_SET) >= 0 &&
           (is_plain || begin(decoder));
}

static ssize_t
read_some(const struct decoder *decoder, char *to, size_t room)
{
    ssize_t n;

    do
        n = read(decoder->fd, to, room);
    while (n < 0 && errno == EINTR);
    return n;
}

/* How many bytes are passed over where nothing can be decoded. */
static size_t
unit(const struct decoder *decoder)
{
    static const struct {
        const char *name;
        size_t unit;
    } wide[] = {{"UTF-16", 2}, {"UTF16", 2}, {"UCS-2", 2}, {"UCS2", 2},
                {"UTF-32", 4}, {"UTF32", 4}, {"UCS-4", 4}, {"UCS4", 4}};

    for (size_t i = 0; i < sizeof(wide) / sizeof(wide[0]); i++)
        if (strncasecmp(decoder->encoding, wide[i].name,
                        strlen(wide[i].name)) == 0)
            return wide[i].unit;
    return 1;
}

/* Decode what was read, as far as there is room. How many bytes came of it. */
static size_t
decode(struct decoder *decoder, char *to, size_t room)
{
    char *in = decoder->raw, *out = to;
    size_t in_left = decoder->raw_size, out_left = room, wrong;

    while (in_left > 0 && iconv(decoder->iconv, &in, &in_left, &out,
                                &out_left) == (size_t)-1) {
        if (errno == E2BIG || out_left == 0)
            break;
        if (errno == EINVAL && !decoder->at_end)
            break; /* half a character */
        wrong = unit(decoder);
        wrong = wrong < in_left ? wrong : in_left;
        *out++ = DECODER_WRONG;
        out_left--;
        in += wrong;
        in_left -= wrong;
    }
    if (in_left == 0 && decoder->at_end) /* some keep back the last character */
        (void)iconv(decoder->iconv, NULL, NULL, &out, &out_left);
    memmove(decoder->raw, in, in_left);
    decoder->raw_size = in_left;
    return room - out_left;
}

ssize_t
decoder_read(struct decoder *decoder, char *to, size_t room)
{
    size_t size;
    ssize_t n;

    if (decoder->encoding == NULL)
        return read_some(decoder, to, room);
    if (!decoder->is_open && !begin(decoder))
        return -1;
    for (;;) {
        size = decode(decoder, to, room);
        if (size > 0 || decoder->at_end)
            return (ssize_t)size;
        n = read_some(decoder, decoder->raw + decoder->raw_size,
                      RAW - decoder->raw_size);
        if (n < 0)
            return n;
        decoder->raw_size += (size_t)n;
        decoder->at_end = n == 0;
    }
}
