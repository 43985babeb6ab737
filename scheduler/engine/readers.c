#include "engine/readers.h"

struct reader *
reader_acquire(struct rota *rota, enum rota_error *error)
{
    struct reader *reader = NULL;

    *error = ROTA_INVALID;
    if (store_is_inherited(rota->store))
        return NULL;
    lock_take(&rota->lock);
    if (rota->n_idle > 0)
        reader = rota->idle[--rota->n_idle];
    lock_drop(&rota->lock);
    *error = reader != NULL ? ROTA_OK : reader_open(rota->store, &reader);
    return reader;
}

void
reader_release(struct rota *rota, struct reader *reader)
{
    lock_take(&rota->lock);
    if (rota->n_idle < READERS_IDLE) {
        rota->idle[rota->n_idle++] = reader;
        reader = NULL;
    }
    lock_drop(&rota->lock);
    reader_close(reader);
}

void
readers_close(struct rota *rota)
{
    while (rota->n_idle > 0)
        reader_close(rota->idle[--rota->n_idle]);
}
