/*
 * A template for kinds of your own, to be loaded into the rota command:
 *
 *   cc -shared -fPIC -o libmine.so template.c \
 *       $(pkg-config --cflags --libs rota jansson)
 *   rota work --db queue.db --load ./libmine.so
 *
 * and in another terminal, or from any SQLite client:
 *
 *   rota add --db queue.db --load ./libmine.so compress folder=/tmp/logs
 *   INSERT INTO submit(kind, args)
 *       VALUES('compress', '{"folder":"/tmp/logs"}');
 *
 * This one compresses the files of a folder, one after the other, each into a
 * file beside it. Cancelled, it stops in the midst of a file; stopped and
 * resumed, it begins with that file.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include <rota.h>

static int
is_ours(const struct dirent *file)
{
    const char *end = strrchr(file->d_name, '.');

    return file->d_type == DT_REG && (end == NULL || strcmp(end, ".gz") != 0);
}

/* A gzip that ends when the job is told to, whatever it is doing. */
static enum rota_error
compress_file(struct rota_job *job, const char *folder, const char *name)
{
    const char *argv[] = {"gzip", "--keep", "--force", "--", name, NULL};
    struct rota_process process = ROTA_PROCESS_INIT(argv);
    struct rota_process_result result = ROTA_PROCESS_RESULT_INIT;
    enum rota_error error;

    process.dir = folder;
    error = rota_job_process(job, &process, &result);
    if (error == ROTA_OK && result.exit_code != 0)
        error = rota_job_fail(job, ROTA_FAILED, "%s: gzip ended with %d: %.*s",
                              name, result.exit_code, (int)result.err.head_size,
                              result.err.head);
    rota_process_result_fini(&result);
    return error;
}

/* The job: a loop over items that polls its context. */
static enum rota_error
compress_folder(struct ctx *ctx, struct rota_job *job, const char *folder)
{
    struct dirent **files;
    int n = scandir(folder, &files, is_ours, alphasort);
    enum rota_error error = ROTA_OK;

    if (n < 0)
        return rota_job_fail(job, ROTA_FATAL, "%s: %m", folder);
    rota_job_total(job, n);
    for (int64_t i = rota_job_cursor(job); i < n && error == ROTA_OK; i++) {
        error = ctx_done(ctx) ? ctx_err(ctx)
                              : compress_file(job, folder, files[i]->d_name);
        if (error == ROTA_OK)
            rota_job_advance(job, i + 1);
    }
    for (int i = 0; i < n; i++)
        free(files[i]);
    free(files);
    return error;
}

/* What a worker calls: the arguments, then the work. */
static enum rota_error
compress(struct ctx *ctx, struct rota_job *job)
{
    json_t *args = json_loads(rota_job_args(job, NULL), 0, NULL);
    const char *folder = json_string_value(json_object_get(args, "folder"));
    enum rota_error error =
        folder != NULL ? compress_folder(ctx, job, folder)
                       : rota_job_fail(job, ROTA_FATAL, "folder= is missing");

    json_decref(args);
    return error;
}

/* What `rota work --load` calls, once. */
enum rota_error
rota_register(struct rota *rota)
{
    struct rota_defaults defaults = ROTA_DEFAULTS_INIT;

    defaults.max_attempts = 3;
    return rota_handle(rota, "compress", compress, NULL, &defaults);
}
