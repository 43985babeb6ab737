/*
 * A wake: one thread sleeps on it, others set it. It lives on the sleeper's
 * stack. Bits are set, and none is cleared while the sleeper has yet to see it,
 * so no wake-up is lost between checking and sleeping. Any thread; no lock.
 */
#ifndef WAKE_H
#define WAKE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <rota/ctx.h>

#define WAKE_SET  1u /* what the sleeper waits for has happened */
#define WAKE_DONE 2u /* the sleeper's context has ended */

struct wake {
    _Atomic uint32_t word; /* release by wake_up(), acquire by the sleeper */
};

#define WAKE_INIT { 0 }

/* Set bits and wake the sleeper. The store is the last touch of *wake: the
 * sleeper may free it as soon as it sees a bit. Any thread. */
void wake_up(struct wake *wake, uint32_t bits);

/* Sleep until a bit is set or deadline (monotonic). The bits, 0 at deadline.
 * The second waits for those of bits only. */
uint32_t wake_wait(struct wake *wake, int64_t deadline);
uint32_t wake_wait_for(struct wake *wake, uint32_t bits, int64_t deadline);

/* Sleep until wake is set (ROTA_OK), ctx ends (ctx_err) or deadline
 * (ROTA_TIMEOUT). A wake that is set wins over both. Reaching the context's
 * own deadline ends the context. (wait.c) */
enum rota_error wake_wait_ctx(struct wake *wake, struct ctx *ctx,
                              int64_t deadline);

#endif
