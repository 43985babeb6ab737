/*
 * The feeder of `each`: a thread that takes the items as they come, makes each
 * a job and submits them, many at once. It ends with the items, with the
 * context, or at the first error, which it leaves for main to say. No lock:
 * what it writes in struct each is its own or atomic (each.h).
 */
#include <stdio.h>
#include <stdlib.h>

#include "cli/command.h"
#include "cli/each.h"
#include "jobs/excerpt.h"

/* Items that are submitted at once, at most. */
enum { CHUNK = 500 };

/* The submission of an item. False: the batch has it already. */
static enum rota_error
make_submission(struct each *each, const char *item, int64_t number,
                struct rota_submission *submission, bool *ret_new)
{
    size_t n = 0, size = 0;
    char **argv = command_fill(each->words, each->n_words, item, number, &n);
    char *args = NULL;

    if (argv != NULL)
        args = command_encode(each->folder, argv, n, item, &size);
    free(argv);
    if (args == NULL)
        return ROTA_NOMEM;
    if (item_set_has(&each->done, args, size))
        (void)atomic_fetch_add(&each->skipped, 1);
    else
        *ret_new = !item_set_has(&each->waiting, args, size);
    if (!*ret_new) {
        free(args);
        return ROTA_OK;
    }
    *submission = (struct rota_submission)ROTA_SUBMISSION_INIT("exec");
    submission->args = args;
    submission->args_size = size;
    submission->queue = each->queue;
    submission->batch = each->batch;
    submission->timeout = each->cli->timeout;
    submission->max_attempts = (int)each->cli->retries + 1;
    return ROTA_OK;
}

/* Submit, for as long as somebody else has the file locked. */
static enum rota_error
submit_patiently(struct each *each, const struct rota_submission *submissions,
                 size_t n, int64_t *ids)
{
    enum rota_error error;

    do {
        error = rota_submit_many(each->rota, submissions, n, ids);
    } while (error == ROTA_BUSY &&
             ctx_sleep(each->ctx, ROTA_MS(200)) == ROTA_OK);
    return error;
}

static enum rota_error
feed_some(struct each *each, const char *const *items, size_t n, int64_t number)
{
    struct rota_submission submissions[CHUNK];
    int64_t ids[CHUNK];
    enum rota_error error = ROTA_OK;
    size_t used = 0;

    for (size_t i = 0; i < n && error == ROTA_OK; i++) {
        bool is_new = false;

        error = make_submission(each, items[i], number + (int64_t)i,
                                &submissions[used], &is_new);
        used += is_new;
    }
    if (error == ROTA_OK && used > 0)
        error = submit_patiently(each, submissions, used, ids);
    if (error == ROTA_OK) {
        spool_expect(&each->spool, ids, used);
        (void)atomic_fetch_add(&each->given, (int64_t)used);
    }
    for (size_t i = 0; i < used; i++)
        free((void *)(uintptr_t)submissions[i].args);
    return error;
}

void *
each_feed(void *arg)
{
    struct each *each = arg;
    const char *items[CHUNK];
    enum rota_error error = ROTA_OK;
    size_t n;

    do {
        int64_t number = each->items.n + 1;

        n = items_take(&each->items, each->ctx, items, CHUNK);
        if (n > 0)
            error = feed_some(each, items, n, number);
    } while (n > 0 && error == ROTA_OK);
    if (error != ROTA_OK) /* the words are this thread's */
        excerpt_print(each->feed_message, sizeof(each->feed_message), "%s",
                      rota_errmsg(each->rota));
    each->feed_error = error;
    atomic_store(&each->is_fed, true);
    spool_expect_no_more(&each->spool);
    return NULL;
}
