/*
 * Failures on order: the n-th call of malloc, calloc, realloc, eventfd or
 * pthread_create in this process fails. Linked with
 *   -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=eventfd
 *   -Wl,--wrap=pthread_create
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdbool.h>

/* Let the n-th call from here on fail, the first being 0. */
void faults_arm(int n);

/* Let none fail; true if one has. */
bool faults_disarm(void);

#endif
