/*
 * Failures and encounters on order. The calls in faults.c are its own for the
 * programs that are linked with FAULTS, see Makefile.am; the library carries no
 * hook.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdbool.h>

/* -- What a process can run out of ----------------------------------------
 * malloc, calloc, realloc, strdup, pthread_create, eventfd, epoll_create1,
 * epoll_ctl to add, fcntl to duplicate: counted together, on all threads. */

/* Let the n-th call from here on fail, the first being 0. */
void faults_arm(int n);

/* Let it fail, and all after it. */
void faults_arm_from(int n);

/* Let none fail, of those that faults_answer() names neither; true if one
 * has. */
bool faults_disarm(void);

/* How many calls there were from one to the other. */
int faults_let_through(void);

/* -- What a system call can answer ---------------------------------------- */

/* Let the n-th call of the one so named ("recv") fail with errno error, on
 * whichever thread it is made. One at a time. */
void faults_answer(const char *call, int n, int error);

/* True once that call has been made. */
bool faults_have_answered(void);

/* -- What may happen in between -------------------------------------------- */

/* Have fn(arg) called before this thread's n-th call of the one so named, but
 * after it if it is pthread_mutex_unlock. One at a time. */
void faults_meet(const char *call, int n, void (*fn)(void *arg), void *arg);

#endif
