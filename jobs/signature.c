/*
 * See signature.h. The file may be a database that another job of this process
 * has open, and to close a descriptor of it would drop that one's locks. So
 * its first bytes are read through SQLite, which puts such a close off.
 */
#include "jobs/signature.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#define UNPACK "unpack it first"
#define EXPORT "export it as CSV first"

/* The longer ones before those that they begin with. */
static const struct {
    const char *bytes;
    size_t size;
    struct signature is;
} known[] = {
    {"\xff\xfe\0\0", 4, {"text in UTF-32LE", NULL, "UTF-32LE", 0}},
    {"\0\0\xfe\xff", 4, {"text in UTF-32BE", NULL, "UTF-32BE", 0}},
    {"\xff\xfe", 2, {"text in UTF-16LE", NULL, "UTF-16LE", 0}},
    {"\xfe\xff", 2, {"text in UTF-16BE", NULL, "UTF-16BE", 0}},
    {"\x1f\x8b", 2, {"a gzip file", UNPACK, NULL, 0}},
    {"\x1f\x9d", 2, {"a file of compress", UNPACK, NULL, 0}},
    {"\xfd"
     "7zXZ\0",
     6,
     {"an xz file", UNPACK, NULL, 0}},
    {"\x28\xb5\x2f\xfd", 4, {"a zstd file", UNPACK, NULL, 0}},
    {"\x04\x22\x4d\x18", 4, {"an lz4 file", UNPACK, NULL, 0}},
    {"7z\xbc\xaf\x27\x1c", 6, {"a 7z archive", UNPACK, NULL, 0}},
    {"PK\3\4", 4, {"a zip archive, or a spreadsheet", EXPORT, NULL, 0}},
    {"PK\5\6", 4, {"an empty zip archive", UNPACK, NULL, 0}},
    {"\xd0\xcf\x11\xe0", 4, {"a spreadsheet of Excel", EXPORT, NULL, 0}},
    {"PAR1\x15", 5, {"a Parquet file", EXPORT, NULL, 0}},
    {"SQLite format 3\0", 16, {"a SQLite database", EXPORT, NULL, 0}},
};

/* Texts begin with ASCII as a rule: where its zeros are tells the width of a
 * character, and which byte of it comes first. */
static struct signature
guess(const char *data, size_t size)
{
    static const char *const encodings[] = {[1] = "UTF-32LE",
                                            [5] = "UTF-16LE",
                                            [8] = "UTF-32BE",
                                            [10] = "UTF-16BE"};
    struct signature is = {NULL, NULL, NULL, 0};
    unsigned set = 0; /* bit i: byte i is not 0 */

    for (unsigned i = 0; size >= 4 && i < 4; i++)
        set |= (data[i] != '\0' ? 1u : 0u) << i;
    if (set <= 10 && encodings[set] != NULL) {
        is.what = "text in UTF-16 or UTF-32, without a byte order mark";
        is.encoding = encodings[set];
        is.is_guess = 1;
    }
    return is;
}

struct signature
signature_of(const char *data, size_t size)
{
    if (size >= 10 && memcmp(data, "BZh", 3) == 0 &&
        memcmp(data + 4, "1AY&SY", 6) == 0)
        return (struct signature){"a bzip2 file", UNPACK, NULL, 0};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (size >= known[i].size &&
            memcmp(data, known[i].bytes, known[i].size) == 0)
            return known[i].is;
    return guess(data, size);
}

/* The first bytes of the file at path; how many. */
static size_t
read_head(const char *path, char *data, size_t size)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    sqlite3_file *file = calloc(1, (size_t)vfs->szOsFile);
    char *name = calloc(1, strlen(path) + 2); /* it ends in two zeros */
    sqlite3_int64 all = 0;

    if (file != NULL && name != NULL &&
        vfs->xOpen(vfs, strcpy(name, path), file,
                   SQLITE_OPEN_READONLY | SQLITE_OPEN_MAIN_DB,
                   NULL) == SQLITE_OK) {
        if (file->pMethods->xFileSize(file, &all) != SQLITE_OK)
            all = 0;
        size = all < (sqlite3_int64)size ? (size_t)all : size;
        if (file->pMethods->xRead(file, data, (int)size, 0) != SQLITE_OK)
            size = 0;
        (void)file->pMethods->xClose(file);
    } else {
        size = 0;
    }
    free(name);
    free(file);
    return size;
}

struct signature
signature_read(const char *path)
{
    char data[16];

    return signature_of(data, read_head(path, data, sizeof(data)));
}

enum rota_error
signature_refuse(struct rota_job *job, const char *key, const char *path)
{
    struct signature is = signature_read(path);

    if (is.what == NULL)
        return ROTA_OK;
    return rota_job_fail(job, ROTA_FATAL, "%s=%s is %s, not UTF-8: %s", key,
                         path, is.what,
                         is.advice != NULL ? is.advice : "convert it first");
}
