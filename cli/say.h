/*
 * What is said to a person on stderr, "rota: ...", and the code that the
 * process ends with because of it. Any thread; no lock. While a progress line
 * is drawn, progress_log() is for that instead.
 */
#ifndef SAY_H
#define SAY_H

#include <rota/error.h>
#include <rota/scheduler.h>

/* Say one line. Whatever words of others are in it, it is safe for a
 * terminal. */
void say(const char *format, ...) ROTA_PRINTF(1, 2);

/* The same, and give CLI_USAGE. */
int say_usage(const char *format, ...) ROTA_PRINTF(1, 2);

/* Say what rota's last error was, and give the code for error. rota is NULL
 * where there is none. */
int say_error(struct rota *rota, enum rota_error error);

#endif
