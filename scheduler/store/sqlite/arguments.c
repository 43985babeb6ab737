#include "store/sqlite/arguments.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"

/* Another job's are a step of the same blob, which costs a tenth of opening it;
 * but not where somebody has written in between. */
static enum rota_error
seek(struct arguments *arguments, struct connection *connection, int64_t id)
{
    if (arguments->blob != NULL &&
        sqlite3_blob_reopen(arguments->blob, id) == SQLITE_OK)
        return ROTA_OK;
    arguments_end(arguments);
    if (sqlite3_blob_open(connection->db, "main", "_job", "args", id, 0,
                          &arguments->blob) == SQLITE_OK)
        return ROTA_OK;
    arguments_end(arguments);
    return connection_error(connection);
}

/* The bytes that have been sought; a NUL after them. */
static enum rota_error
read_all(struct arguments *arguments, struct connection *connection,
         struct claim *claim)
{
    char *args = malloc(claim->args_size + 1);

    if (args == NULL)
        return no_memory();
    args[claim->args_size] = '\0';
    if (arguments->blob != NULL &&
        sqlite3_blob_read(arguments->blob, args, (int)claim->args_size, 0) !=
            SQLITE_OK) {
        free(args);
        return connection_error(connection);
    }
    claim->args = args;
    return ROTA_OK;
}

enum rota_error
arguments_read(struct arguments *arguments, struct connection *connection,
               struct claim *claim)
{
    struct arguments none = {NULL};
    enum rota_error error;

    if (!claim->has_args)
        return read_all(&none, connection, claim);
    error = seek(arguments, connection, claim->id);
    if (error != ROTA_OK)
        return error;
    claim->args_size = (size_t)sqlite3_blob_bytes(arguments->blob);
    return claim->args_size < ARGUMENTS_LARGE
               ? read_all(arguments, connection, claim)
               : ROTA_OK;
}

void
arguments_end(struct arguments *arguments)
{
    (void)sqlite3_blob_close(arguments->blob);
    arguments->blob = NULL;
}

void
arguments_read_large(struct connection *connection, struct work *work)
{
    struct arguments arguments = {NULL};

    for (size_t i = 0; i < work->n_claims; i++) {
        struct claim *claim = &work->claims[i];

        if (claim->args != NULL)
            continue;
        claim->args_error = seek(&arguments, connection, claim->id);
        if (claim->args_error == ROTA_OK)
            claim->args_error = read_all(&arguments, connection, claim);
    }
    arguments_end(&arguments);
}
