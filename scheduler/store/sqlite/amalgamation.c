/*
 * SQLite itself, when configure was told --with-sqlite=DIR: then DIR is where
 * this is found, and librota needs no other. Not compiled otherwise.
 */
#include <sqlite3.c>
