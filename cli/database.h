/*
 * The file of --db: opened, or said why not; and closed. Called by the main
 * thread of each command.
 */
#ifndef DATABASE_H
#define DATABASE_H

#include "cli/cli.h"

/* Open it, or say why not and give a code. The file must be there already if
 * flags has ROTA_READONLY or must_exist is set. */
int database_open(const struct cli *cli, struct rota_options *options,
                  bool must_exist, struct rota **ret_rota);

/* Close it, which may have been worked on, and give code. While a job does not
 * stop, its thread would trip over what goes when main() returns: then the
 * process ends here. */
int database_close(struct rota *rota, int code);

#endif
