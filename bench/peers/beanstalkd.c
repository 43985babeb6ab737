/*
 * beanstalkd with its log, on its own for as long as this program runs: the
 * whole lives of jobs, which are put, reserved and deleted.
 *
 * One thread is the client of all connections, and each has DEPTH commands on
 * their way at a time: the server, which is one thread too, then never waits.
 * All jobs are put before the first is reserved: with 1.12 on two cores, both
 * at once were not quicker, nor were more connections, more commands, or a log
 * in larger files.
 *
 * lives is over TCP, as it is mostly used; lives-tuned over a Unix socket, of
 * which more connections are worth having.
 */
#define _GNU_SOURCE
#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECTIONS_MAX 32
#define DEPTH           64
#define BODY            64
#define PATIENCE_MS     5000 /* until the server answers */

static const char body[BODY + 1] =
    "{\"path\":\"/srv/archive/0000000000000000000.csv\","
    "\"table\":\"orders\"}";

__attribute__((noreturn)) static void
die(const char *what)
{
    (void)fprintf(stderr, "beanstalkd: %s\n", what);
    exit(1);
}

/* -- The server ------------------------------------------------------------ */

static struct server {
    FILE *keeper;
    struct sockaddr_in loopback;
    struct sockaddr_un local;
    struct sockaddr *address; /* one of the two */
    socklen_t address_size;
} server;

/* A port that is free, or was just now. */
static void
tcp_address(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    server.loopback.sin_family = AF_INET;
    server.loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server.address = (struct sockaddr *)&server.loopback;
    server.address_size = sizeof(server.loopback);
    if (bind(fd, server.address, server.address_size) != 0 ||
        getsockname(fd, server.address, &server.address_size) != 0)
        die("no port is free");
    (void)close(fd);
}

/* In the folder that we shall be in: a path in full may be too long. */
static void
unix_address(void)
{
    server.local.sun_family = AF_UNIX;
    (void)strcpy(server.local.sun_path, "socket");
    server.address = (struct sockaddr *)&server.local;
    server.address_size = sizeof(server.local);
}

static void
server_start(bool is_tcp)
{
    const char *parent = getenv("BENCH_DIR");
    char folder[4096], command[2 * sizeof(folder)], listen[64] = "unix:socket";

    (void)snprintf(folder, sizeof(folder), "%s/beanstalkd-XXXXXX",
                   parent != NULL ? parent : ".");
    if (mkdtemp(folder) == NULL)
        die("no folder can be made");
    if (is_tcp) {
        tcp_address();
        (void)snprintf(listen, sizeof(listen), "127.0.0.1 -p %d",
                       ntohs(server.loopback.sin_port));
    } else {
        unix_address();
    }
    (void)snprintf(command, sizeof(command),
                   "exec '%s' '%s' beanstalkd -b . -l %s", KEEP, folder,
                   listen);
    server.keeper = popen(command, "we");
    if (server.keeper == NULL || chdir(folder) != 0)
        die("the server cannot be run");
}

static int
server_connect(void)
{
    const int on = 1;

    for (int i = 0; i < PATIENCE_MS; i++) {
        int fd = socket(server.address->sa_family, SOCK_STREAM, 0);

        if (connect(fd, server.address, server.address_size) == 0) {
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
            return fd;
        }
        (void)close(fd);
        (void)usleep(1000);
    }
    (void)system("cat log >&2");
    die("the server does not answer");
}

/* -- A connection ---------------------------------------------------------- */

enum phase { PUT, WORK };

static enum phase phase;
static size_t to_ask; /* so many jobs are still to be put, or reserved */
static size_t ended;  /* so many are put, or deleted */

struct conn {
    int fd;
    size_t awaited; /* answers to puts, or to reserves */
    size_t out_size, out_sent, in_size;
    char out[4 * DEPTH * BODY], in[4 * DEPTH * BODY];
};

static void
conn_say(struct conn *conn, const char *format, size_t id)
{
    size_t space = sizeof(conn->out) - conn->out_size;
    int n = snprintf(conn->out + conn->out_size, space, format, id, body);

    if (n < 0 || (size_t)n >= space)
        die("more was said than should be");
    conn->out_size += (size_t)n;
}

/* The next DEPTH commands, when those before are answered. */
static void
conn_ask(struct conn *conn)
{
    while (conn->awaited < DEPTH && to_ask > 0) {
        conn_say(conn,
                 phase == PUT ? "put 0 0 600 %zu\r\n%s\r\n" : "reserve\r\n",
                 BODY);
        conn->awaited++;
        to_ask--;
    }
}

static void
conn_send(struct conn *conn)
{
    while (conn->out_sent < conn->out_size) {
        ssize_t n =
            send(conn->fd, conn->out + conn->out_sent,
                 conn->out_size - conn->out_sent, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            die("the server hung up");
        conn->out_sent += (size_t)n;
    }
    conn->out_size = conn->out_sent = 0;
}

/* Returns its size; 0: there is more to come of it. */
static size_t
conn_answer(struct conn *conn, const char *answer, size_t size)
{
    const char *end = memchr(answer, '\n', size);
    size_t line = end == NULL ? 0 : (size_t)(end - answer) + 1;

    if (line == 0)
        return 0;
    if (phase == PUT && strncmp(answer, "INSERTED ", 9) == 0) {
        conn->awaited--;
        ended++;
        return line;
    }
    if (strncmp(answer, "DELETED\r", 8) == 0) {
        ended++;
        return line;
    }
    if (strncmp(answer, "RESERVED ", 9) != 0)
        die("the server gave an answer that is none");
    if (size < line + BODY + 2)
        return 0;
    conn_say(conn, "delete %zu\r\n", strtoul(answer + 9, NULL, 10));
    conn->awaited--;
    return line + BODY + 2;
}

static void
conn_receive(struct conn *conn)
{
    ssize_t n = recv(conn->fd, conn->in + conn->in_size,
                     sizeof(conn->in) - conn->in_size, MSG_DONTWAIT);
    size_t taken = 0, size;

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        die("the server hung up");
    conn->in_size += (size_t)n;
    while ((size = conn_answer(conn, conn->in + taken, conn->in_size - taken)) >
           0)
        taken += size;
    conn->in_size -= taken;
    memmove(conn->in, conn->in + taken, conn->in_size);
    if (conn->awaited == 0)
        conn_ask(conn);
}

/* -- The measure ----------------------------------------------------------- */

static void
run_phase(enum phase which, struct conn *conns, size_t n_conns, size_t jobs)
{
    struct pollfd ready[CONNECTIONS_MAX];

    phase = which;
    to_ask = jobs;
    ended = 0;
    for (size_t i = 0; i < n_conns; i++) {
        conn_ask(&conns[i]);
        conn_send(&conns[i]);
    }
    while (ended < jobs) {
        for (size_t i = 0; i < n_conns; i++)
            ready[i] = (struct pollfd){
                conns[i].fd,
                (short)(conns[i].out_size > 0 ? POLLIN | POLLOUT : POLLIN), 0};
        if (poll(ready, n_conns, -1) < 0)
            die("no connection can be polled");
        for (size_t i = 0; i < n_conns; i++) {
            if ((ready[i].revents & ~POLLOUT) != 0)
                conn_receive(&conns[i]);
            if (ready[i].revents != 0)
                conn_send(&conns[i]);
        }
    }
}

static int
lives(bool is_tcp, size_t n_conns, size_t jobs)
{
    static struct conn conns[CONNECTIONS_MAX];
    int64_t start;
    int status;

    server_start(is_tcp);
    for (size_t i = 0; i < n_conns; i++)
        conns[i].fd = server_connect();
    start = now();
    run_phase(PUT, conns, n_conns, jobs);
    run_phase(WORK, conns, n_conns, jobs);
    status = say_rate(start, jobs);
    (void)pclose(server.keeper);
    return status;
}

int
main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    if (strcmp(argv[1], "lives") == 0)
        return lives(true, 16, strtoul(argv[2], NULL, 10));
    if (strcmp(argv[1], "lives-tuned") == 0)
        return lives(false, 32, strtoul(argv[2], NULL, 10));
    return NO_MEASURE;
}
