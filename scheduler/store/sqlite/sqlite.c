/*
 * The table of this kind of store, for store.c: who does which call of store.h.
 */
#include "store/sqlite/sqlite.h"

#include "store/sqlite/reader.h"
#include "store/sqlite/watch.h"

const struct store_ops sqlite_ops = {
    .open = sqlite_open,
    .close = sqlite_close,
    .is_inherited = sqlite_is_inherited,
    .cycle = sqlite_cycle,
    .reader_open = sqlite_reader_open,
    .reader_close = sqlite_reader_close,
    .reader_outcome = sqlite_reader_outcome,
    .reader_waiting = sqlite_reader_waiting,
    .reader_dead = sqlite_reader_dead,
    .reader_query = sqlite_reader_query,
    .reader_retaining = sqlite_reader_retaining,
    .reader_prunable = sqlite_reader_prunable,
    .watch_open = sqlite_watch_open,
    .watch_close = sqlite_watch_close,
    .watch_descriptors = sqlite_watch_descriptors,
    .watch_heard = sqlite_watch_heard,
    .watch_look = sqlite_watch_look,
    .watch_next = sqlite_watch_next,
};
