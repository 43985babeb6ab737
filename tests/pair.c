#define _GNU_SOURCE
#include "pair.h"

#include <check.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

struct ctx *ctx;
int pair[2];

static void
pair_set(void)
{
    ctx = ctx_with_cancel(NULL);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
}

static void
pair_clear(void)
{
    ctx_end(ctx);
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0)
            ck_assert_int_eq(close(pair[i]), 0);
}

TCase *
pair_case(Suite *suite, const char *name)
{
    TCase *tcase = case_new(suite, name);

    tcase_add_checked_fixture(tcase, pair_set, pair_clear);
    return tcase;
}

int
listener(struct sockaddr_in *address)
{
    socklen_t size = sizeof(*address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    *address = (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ck_assert_int_eq(bind(fd, (struct sockaddr *)address, size), 0);
    ck_assert_int_eq(listen(fd, 0), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)address, &size), 0);
    return fd;
}

void *
cancel_when_open(void *gate)
{
    gate_pass(gate);
    ctx_cancel(ctx);
    return NULL;
}
