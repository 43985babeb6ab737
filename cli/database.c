/* See database.h. */
#define _GNU_SOURCE
#include "cli/database.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/say.h"

int
database_close(struct rota *rota, int code)
{
    if (rota_close(rota) == ROTA_OK)
        return code;
    say("quitting all the same; what did not stop will be run again");
    (void)fflush(stdout);
    _exit(code != CLI_OK ? code : CLI_BUSY);
}

int
database_open(const struct cli *cli, struct rota_options *options,
              bool must_exist, struct rota **ret_rota)
{
    enum rota_error error;
    struct stat file;

    /* stat() and no more: to open and close the file by ourselves would drop
     * SQLite's locks on it */
    if ((must_exist || (options->flags & ROTA_READONLY) != 0) &&
        stat(cli->db, &file) != 0 && errno == ENOENT) {
        say("no queue at %s: `rota add` or `rota run` makes one", cli->db);
        return CLI_NOTFOUND;
    }
    error = rota_open(cli->db, options, ret_rota);
    if (error == ROTA_OK)
        return CLI_OK;
    return say_error(NULL, error);
}
