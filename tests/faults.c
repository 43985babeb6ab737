#define _GNU_SOURCE
#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "countdown.h"

static struct countdown resources = COUNTDOWN_INIT, answer = COUNTDOWN_INIT;
static const char *_Atomic answering;
static atomic_int answer_error;

static _Thread_local struct {
    const char *call;
    int left;
    void (*fn)(void *arg);
    void *arg;
} meeting;

/* -- The orders ------------------------------------------------------------ */

void
faults_arm(int n)
{
    countdown_start(&resources, n, false);
}

void
faults_arm_from(int n)
{
    countdown_start(&resources, n, true);
}

bool
faults_disarm(void)
{
    bool has_failed = countdown_stop(&resources);

    return countdown_stop(&answer) || has_failed;
}

int
faults_let_through(void)
{
    return atomic_load(&resources.at);
}

void
faults_answer(const char *call, int n, int error)
{
    atomic_store(&answer_error, error);
    atomic_store(&answering, call);
    countdown_start(&answer, n, false);
}

bool
faults_have_answered(void)
{
    return atomic_load(&answer.has_failed);
}

void
faults_meet(const char *call, int n, void (*fn)(void *arg), void *arg)
{
    meeting.call = call;
    meeting.left = n;
    meeting.fn = fn;
    meeting.arg = arg;
}

/* -- Whether it is time ---------------------------------------------------- */

/* What comes before any call of that name; whether it then fails. */
static bool
fails(const char *call, bool takes_resource, int error)
{
    void (*fn)(void *) = meeting.fn;
    const char *expected = atomic_load(&answering);

    if (fn != NULL && strcmp(call, meeting.call) == 0 && meeting.left-- == 0) {
        meeting.fn = NULL; /* it may order another */
        fn(meeting.arg);
    }
    if (expected != NULL && strcmp(call, expected) == 0 &&
        countdown_is_due(&answer))
        error = atomic_load(&answer_error);
    else if (!takes_resource || !countdown_is_due(&resources))
        return false;
    errno = error;
    return true;
}

/* -- The calls ------------------------------------------------------------- */

#define WRAP(type, name, parameters, takes_resource, error, failed, arguments) \
    type __real_##name parameters;                                             \
    type __wrap_##name parameters;                                             \
    type __wrap_##name parameters                                              \
    {                                                                          \
        return fails(#name, takes_resource, error) ? (failed)                  \
                                                   : __real_##name arguments;  \
    }

/* One that fails by order of faults_answer() only. */
#define WRAP_CALL(type, name, parameters, arguments) \
    WRAP(type, name, parameters, false, 0, -1, arguments)

WRAP(void *, malloc, (size_t size), true, ENOMEM, NULL, (size))
WRAP(void *, calloc, (size_t n, size_t size), true, ENOMEM, NULL, (n, size))
WRAP(void *, realloc, (void *old, size_t size), true, ENOMEM, NULL, (old, size))
WRAP(char *, strdup, (const char *text), true, ENOMEM, NULL, (text))
WRAP(int, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attr, void *(*body)(void *),
      void *arg),
     true, EAGAIN, EAGAIN, (thread, attr, body, arg))
WRAP(int, eventfd, (unsigned n, int flags), true, EMFILE, -1, (n, flags))
WRAP(int, epoll_create1, (int flags), true, EMFILE, -1, (flags))
WRAP(int, epoll_ctl, (int epoll, int what, int fd, struct epoll_event *event),
     what == EPOLL_CTL_ADD, ENOMEM, -1, (epoll, what, fd, event))

WRAP_CALL(int, accept4,
          (int fd, struct sockaddr *peer, socklen_t *size, int flags),
          (fd, peer, size, flags))
WRAP_CALL(int, connect, (int fd, const struct sockaddr *peer, socklen_t size),
          (fd, peer, size))
WRAP_CALL(int, epoll_wait,
          (int epoll, struct epoll_event *events, int n, int timeout),
          (epoll, events, n, timeout))
WRAP_CALL(int, getsockopt,
          (int fd, int level, int name, void *value, socklen_t *size),
          (fd, level, name, value, size))
WRAP_CALL(ssize_t, read, (int fd, void *data, size_t size), (fd, data, size))
WRAP_CALL(ssize_t, recv, (int fd, void *data, size_t size, int flags),
          (fd, data, size, flags))
WRAP_CALL(ssize_t, send, (int fd, const void *data, size_t size, int flags),
          (fd, data, size, flags))
WRAP_CALL(int, sigaction,
          (int number, const struct sigaction *action, struct sigaction *old),
          (number, action, old))
WRAP_CALL(pid_t, waitpid, (pid_t pid, int *status, int options),
          (pid, status, options))

/* Its third argument, if there is one, is as good as a long. */
int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int
__wrap_fcntl(int fd, int command, ...)
{
    va_list args;
    long arg;

    va_start(args, command);
    arg = va_arg(args, long);
    va_end(args);
    return fails("fcntl", command == F_DUPFD_CLOEXEC, EMFILE)
               ? -1
               : __real_fcntl(fd, command, arg);
}

/* Locks do not fail; threads meet there. */
int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int
__wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    (void)fails("pthread_mutex_lock", false, 0);
    return __real_pthread_mutex_lock(mutex);
}

int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int
__wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    int error = __real_pthread_mutex_unlock(mutex);

    (void)fails("pthread_mutex_unlock", false, 0);
    return error;
}
