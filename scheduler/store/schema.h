#ifndef SCHEMA_H
#define SCHEMA_H

#define SCHEMA_APPLICATION_ID 0x726f7461 /* "rota" */
#define SCHEMA_VERSION 1

/* SQL scripts that make version SCHEMA_VERSION in an empty file, in order;
 * ends in NULL. Run in one transaction. */
extern const char *const schema_parts[];

#endif
