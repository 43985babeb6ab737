/*
 * A context and a pair of sockets, for the tests of what waits for descriptors.
 */
#ifndef PAIR_H
#define PAIR_H

#include <rota.h>

#include "support.h"

struct sockaddr_in;
struct Suite;
struct TCase;

extern struct ctx *ctx;
extern int pair[2]; /* -1: the test has closed it */

/* A case of suite that has them anew for each test, and a minute. */
struct TCase *pair_case(struct Suite *suite, const char *name);

/* A socket that listens, on the loopback. */
int listener(struct sockaddr_in *address);

/* A thread's body: cancel ctx once the gate is open. */
void *cancel_when_open(void *gate);

#endif
