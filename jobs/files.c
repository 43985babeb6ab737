/* See files.h. */
#include "jobs/files.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

enum rota_error
files_fail(struct rota_job *job, enum rota_error error, const char *verb,
           const char *path)
{
    int code = errno;

    /* what the system is short of for a moment is no fault of the job's */
    if (code == EMFILE || code == ENFILE || code == ENOMEM) {
        rota_job_log(job, "cannot %s %s: %s; it is tried again in a second",
                     verb, path, strerror(code));
        return rota_job_snooze(job, ROTA_SEC(1));
    }
    return rota_job_fail(job, error, "cannot %s %s: %s", verb, path,
                         strerror(code));
}

bool
files_name_ends(const char *path, const char *extension)
{
    size_t n = strlen(path), m = strlen(extension);

    return n >= m && strcasecmp(path + n - m, extension) == 0;
}

bool
files_is(const struct stat *file, const char *path)
{
    struct stat other;

    return stat(path, &other) == 0 && other.st_dev == file->st_dev &&
           other.st_ino == file->st_ino;
}

struct question {
    const char *path;
    bool is_queue;
};

static bool
compare(void *arg, int n, const char *const *names,
        const struct rota_value *values)
{
    struct question *question = arg;

    (void)n, (void)names;
    if (values != NULL && values[0].type == ROTA_TEXT &&
        rota_sqlite_owns(values[0].data, question->path))
        question->is_queue = true;
    return true;
}

enum rota_error
files_refuse_databases(struct ctx *ctx, struct rota_job *job, const char *key,
                       const char *path, const char *target)
{
    struct question question = {.path = path};
    enum rota_error error;

    error = rota_query(ctx, rota_job_rota(job),
                       "SELECT file FROM pragma_database_list"
                       " WHERE name = 'main'",
                       NULL, 0, compare, &question);
    if (error != ROTA_OK)
        return error;
    if (question.is_queue)
        return rota_job_fail(job, ROTA_FATAL, "%s=%s is the queue's own file",
                             key, path);
    if (rota_sqlite_owns(target, path))
        return rota_job_fail(job, ROTA_FATAL, "%s=%s is the file to write", key,
                             path);
    return ROTA_OK;
}
