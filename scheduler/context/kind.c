/*
 * The kinds of context there are: what ctx_dump() calls each, and what is to be
 * undone before one is freed. Read-only. To add a kind: its name in enum
 * node_kind, its line here, and its file.
 */
#include "context/node.h"

const struct kind node_kinds[] = {
    [NODE_STATIC] = {"root", NULL},
    [NODE_PLAIN] = {"cancel", NULL},
    [NODE_DETACHED] = {"detached", NULL},
    [NODE_VALUE] = {"value", NULL},
    [NODE_TIMED] = {"deadline", timed_node_fini},
    [NODE_SIGNALS] = {"signals", signals_node_fini},
    [NODE_PEER] = {"peer", peer_node_fini},
    [NODE_MERGED] = {"merge", merged_node_fini},
};
