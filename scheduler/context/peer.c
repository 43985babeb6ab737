/*
 * Contexts that end when the peer of a socket, whoever is at its other end,
 * hangs up. Any thread, with no lock of ours held.
 *
 * The thread "rota-peers" waits for all of them on one epoll descriptor. It is
 * started with the first and lives as long as the process.
 *
 * Locking: peers.lock is a leaf, and no context is ended or freed under it. The
 * hard case is an event that names a node which is being freed. A node takes
 * its descriptor out of the epoll under the lock before its memory goes, and
 * the thread fetches events one by one under the lock: so the node that an
 * event names is still there.
 */
#define _GNU_SOURCE
#include "base/descriptor.h"
#include "context/node.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

struct peer_node {
    struct node node;
    int fd; /* a duplicate, in the epoll; -1: not in it. Under peers.lock */
};

static struct {
    pthread_mutex_t lock;
    bool is_served;
    int epoll; /* read-only once it is served */
} peers = {.lock = PTHREAD_MUTEX_INITIALIZER, .epoll = -1};

/* -- The thread ------------------------------------------------------------ */

/* Stop watching. peers.lock held. */
static void
peer_drop(struct peer_node *peer)
{
    if (peer->fd < 0)
        return;
    MUST(epoll_ctl(peers.epoll, EPOLL_CTL_DEL, peer->fd, NULL));
    MUST(close(peer->fd));
    peer->fd = -1;
}

/* A context whose peer has hung up, with a reference, and no longer watched;
 * NULL if there is none. */
static struct peer_node *
peer_take(void)
{
    struct epoll_event event;
    struct peer_node *peer = NULL;

    lock_take(&peers.lock);
    if (epoll_wait(peers.epoll, &event, 1, 0) == 1) {
        peer = event.data.ptr;
        if (!node_ref_unless_freed(&peer->node))
            peer = NULL; /* about to be freed, it takes itself out */
        else
            peer_drop(peer);
    }
    lock_drop(&peers.lock);
    return peer;
}

static void *
peers_body(void *arg)
{
    struct epoll_event event;
    struct peer_node *peer;

    (void)arg;
    for (;;) {
        if (epoll_wait(peers.epoll, &event, 1, -1) < 0)
            MUST_BE(errno == EINTR);
        while ((peer = peer_take()) != NULL) {
            (void)ctx_cancel_cause(&peer->node.pub, "the peer hung up");
            node_unref(&peer->node);
        }
    }
    return NULL;
}

/* Start the thread if it is not running. peers.lock held. */
static bool
peers_are_served(void)
{
    pthread_t thread;

    if (peers.is_served)
        return true;
    if (peers.epoll < 0)
        peers.epoll = descriptor_above(epoll_create1(EPOLL_CLOEXEC));
    if (peers.epoll < 0 ||
        thread_start(&thread, "rota-peers", peers_body, NULL) != 0)
        return false;
    MUST(pthread_detach(thread));
    peers.is_served = true;
    return true;
}

/* -- Contexts -------------------------------------------------------------- */

/* Watch a duplicate of fd. peers.lock held. */
static bool
peer_watch(struct peer_node *peer, int fd)
{
    struct epoll_event event = {.events = EPOLLRDHUP, .data.ptr = peer};
    int own;

    if (!peers_are_served())
        return false;
    own = fcntl(fd, F_DUPFD_CLOEXEC, DESCRIPTOR_FIRST);
    if (own < 0)
        return false;
    if (epoll_ctl(peers.epoll, EPOLL_CTL_ADD, own, &event) != 0) {
        (void)close(own);
        return false;
    }
    peer->fd = own;
    return true;
}

void
peer_node_fini(struct node *node)
{
    lock_take(&peers.lock);
    peer_drop(OWNER_OF(node, struct peer_node, node));
    lock_drop(&peers.lock);
}

struct ctx *
ctx_with_peer(struct ctx *parent, int fd)
{
    struct node *node = node_new(parent, NODE_PEER, sizeof(struct peer_node));
    struct peer_node *peer;
    bool is_watched;

    if (node == NULL)
        return &node_nomem.pub;
    peer = OWNER_OF(node, struct peer_node, node);
    peer->fd = -1;
    node_join(node);
    if (ctx_done(&node->pub))
        return &node->pub; /* born done: nobody is watched */
    lock_take(&peers.lock);
    is_watched = peer_watch(peer, fd);
    lock_drop(&peers.lock);
    if (is_watched)
        return &node->pub;
    node_unref(node);
    return &node_nomem.pub;
}
