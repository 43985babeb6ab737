/*
 * What every rota call answers. The set is closed and the numbers are frozen:
 * they are stored in the file, so they are appended to and never renumbered.
 */
#ifndef ROTA_ERROR_H
#define ROTA_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define ROTA_API __attribute__((visibility("default")))
#define ROTA_MUST_USE __attribute__((warn_unused_result))
#define ROTA_PRINTF(string, first)                                             \
    __attribute__((format(printf, string, first)))
#else
#define ROTA_API
#define ROTA_MUST_USE
#define ROTA_PRINTF(string, first)
#endif

/* X(name, number, text): the one list behind the enum and rota_strerror(). */
#define ROTA_ERRORS(X)                                                         \
    X(ROTA_OK, 0, "ok")                                                        \
    /* a context's two ends */                                                 \
    X(ROTA_CANCELED, 1, "context canceled")                                    \
    X(ROTA_DEADLINE, 2, "context deadline exceeded")                           \
    /* this call's own deadline passed; the context lives */                   \
    X(ROTA_TIMEOUT, 3, "timed out")                                            \
    X(ROTA_NOMEM, 4, "out of memory")                                          \
    X(ROTA_INVALID, 5, "invalid argument")                                     \
    X(ROTA_NOTFOUND, 6, "not found")                                           \
    X(ROTA_EXISTS, 7, "exists already")                                        \
    X(ROTA_FULL, 8, "full")                                                    \
    X(ROTA_CLOSED, 9, "closed")                                                \
    X(ROTA_BUSY, 10, "busy")                                                   \
    X(ROTA_STORE, 11, "the store failed")                                      \
    X(ROTA_CORRUPT, 12, "the file is damaged or not a rota file")              \
    X(ROTA_VERSION, 13, "the file was made by a newer rota")                   \
    X(ROTA_SYSTEM, 14, "the system refused")                                   \
    /* what a job may return besides */                                        \
    X(ROTA_FAILED, 20, "failed")                                               \
    X(ROTA_FATAL, 21, "failed for good")                                       \
    X(ROTA_SNOOZE, 22, "snoozed")                                              \
    X(ROTA_LOST, 23, "this worker lost the job")

#define ROTA_ERROR_ENUMERATOR_(name, number, text) name = number,
enum rota_error { ROTA_ERRORS(ROTA_ERROR_ENUMERATOR_) };
#undef ROTA_ERROR_ENUMERATOR_

/* Name error in a few words. Static text, never NULL. Any thread. */
ROTA_API const char *rota_strerror(enum rota_error error);

#ifdef __cplusplus
}
#endif
#endif
