/*
 * What others do to the file: store.h's watch. One thread, the listener's.
 */
#ifndef WATCH_H
#define WATCH_H

#include "store/ops.h"

enum rota_error sqlite_watch_open(struct store *store,
                                  struct watch **ret_watch);
void sqlite_watch_close(struct watch *watch);
size_t sqlite_watch_descriptors(const struct watch *watch, struct pollfd *fds,
                                size_t n);
void sqlite_watch_heard(struct watch *watch, const struct pollfd *fds,
                        size_t n);
void sqlite_watch_look(struct watch *watch, const struct scope *scope,
                       watch_cancel_fn *fn, void *arg, struct news *ret_news);
int64_t sqlite_watch_next(const struct watch *watch);

#endif
