/* See kinds.h. Main thread, before the workers begin. */
#define _GNU_SOURCE /* realpath */
#include "cli/kinds.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/nearest.h"
#include "cli/say.h"

typedef enum rota_error register_fn(struct rota *rota);

static const char *
kind_name(int i)
{
    return job_kinds[i] != NULL ? job_kinds[i]->name : NULL;
}

const struct job_kind *
kinds_find(const char *name)
{
    for (int i = 0; job_kinds[i] != NULL; i++)
        if (strcmp(job_kinds[i]->name, name) == 0)
            return job_kinds[i];
    return NULL;
}

int
kinds_complain(const char *name)
{
    const char *nearest = nearest_name(name, kind_name);

    if (nearest != NULL)
        return say_usage("no kind %s: did you mean %s?", name, nearest);
    return say_usage("no kind %s: `rota help` lists what is built in, --load "
                     "brings your own",
                     name);
}

/* -- Shared objects ------------------------------------------------------- */

/* The object at path, never closed: its code runs until the process ends. */
static int
load(struct rota *rota, const char *path)
{
    /* dlopen() would look for a name without a slash elsewhere */
    char *whole = realpath(path, NULL);
    register_fn *fn;
    enum rota_error error;
    void *object;

    if (whole == NULL) {
        int code = errno;

        say("cannot load %s: %s", path, strerror(code));
        return code == ENOENT ? CLI_NOTFOUND : CLI_BROKEN;
    }
    object = dlopen(whole, RTLD_NOW | RTLD_LOCAL);
    free(whole);
    if (object == NULL)
        return say_usage("cannot load %s: %s", path, dlerror());
    fn = (register_fn *)(uintptr_t)dlsym(object, "rota_register");
    if (fn == NULL)
        return say_usage("cannot load %s: it exports no rota_register(), which "
                         "registers its kinds",
                         path);
    error = fn(rota);
    if (error == ROTA_OK)
        return CLI_OK;
    return say_usage("cannot use %s: %s", path,
                     rota_errmsg(rota)[0] != '\0' ? rota_errmsg(rota)
                                                  : rota_strerror(error));
}

int
kinds_load(const struct cli *cli, struct rota *rota)
{
    int code = CLI_OK;

    for (size_t i = 0; i < cli->n_loads && code == CLI_OK; i++)
        code = load(rota, cli->loads[i]);
    return code;
}

int
kinds_handle(const struct cli *cli, struct rota *rota)
{
    enum rota_error error = ROTA_OK;

    for (int i = 0; job_kinds[i] != NULL && error == ROTA_OK; i++)
        error = rota_handle(rota, job_kinds[i]->name, job_kinds[i]->fn, NULL,
                            &job_kinds[i]->defaults);
    return error == ROTA_OK ? kinds_load(cli, rota) : say_error(rota, error);
}
