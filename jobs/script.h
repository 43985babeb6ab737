/*
 * The statements of a SQL script, one after another, however long it is. For
 * the kind sql; one thread, and no lock.
 */
#ifndef SCRIPT_H
#define SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct ctx;

struct script {
    struct ctx *ctx;
    FILE *file;
    int64_t line;  /* of what is read next */
    bool is_begin; /* nothing has been read yet */
    /* the current statement */
    char *text; /* with its semicolon and what stood before it; ends in NUL */
    size_t size, room;
    int64_t begins; /* its line */
};

enum script_read {
    SCRIPT_STATEMENT,
    SCRIPT_END,
    SCRIPT_STOPPED, /* ctx has ended */
    SCRIPT_IO,
    SCRIPT_NO_MEMORY
};

/* Read file, which is at its beginning and becomes the script's. */
void script_init(struct script *script, struct ctx *ctx, FILE *file);
void script_fini(struct script *script);

/* Go to the beginning of the file; false if it cannot be read. */
bool script_rewind(struct script *script);

/* Read the next statement. What holds no more than blanks and comments is
 * none. */
enum script_read script_next(struct script *script);

/* What the current statement means for the transactions of a script. */
enum script_role {
    SCRIPT_PLAIN,
    SCRIPT_BEGIN,
    SCRIPT_COMMIT,
    SCRIPT_ROLLBACK,
    SCRIPT_SAVEPOINT, /* SAVEPOINT, RELEASE, ROLLBACK TO */
    SCRIPT_OUTSIDE,   /* it cannot be in a transaction */
    SCRIPT_CONNECTION /* the same, and its effect is the connection's: it has to
                       * be repeated on the next one */
};

enum script_role script_role(const struct script *script);

/* Whether the current statement makes a table whose name begins with _rota_, as
 * the dump of a target does; *name is that. */
bool script_makes_private(const struct script *script, char *name, size_t size);

#endif
