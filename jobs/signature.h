/*
 * What a file says by its first bytes that it is. Any thread; nothing is kept.
 */
#ifndef SIGNATURE_H
#define SIGNATURE_H

#include <stddef.h>

#include <rota.h>

struct signature {
    const char *what;     /* "a gzip file"; NULL: the file says nothing */
    const char *advice;   /* what to do with what is no text; NULL: it is one */
    const char *encoding; /* what the text is in, by its byte order mark or, if
                           * is_guess, by the place of its zeros */
    int is_guess;
};

/* What a file that begins with these bytes is; 16 are enough. */
struct signature signature_of(const char *data, size_t size);

/* The same of the file at path. One that cannot be read says nothing: who opens
 * it will say why. */
struct signature signature_read(const char *path);

/* Fail job for good if key=path says that it is anything but UTF-8. */
enum rota_error signature_refuse(struct rota_job *job, const char *key,
                                 const char *path);

#endif
