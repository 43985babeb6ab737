/*
 * An intrusive ring: a list is a link of its own, and its items hang in it by a
 * link that is one of their fields. Joining and leaving allocate nothing and
 * cannot fail. The caller's lock guards a list and all the links in it.
 *
 * To walk a list whose items stay in it:
 *
 *   for (struct link *l = list->next; l != list; l = l->next)
 *       OWNER_OF(l, struct item, on_list)->...
 */
#ifndef LIST_H
#define LIST_H

#include <stdbool.h>
#include <stddef.h>

struct link {
    struct link *prev, *next;
};

/* The struct of this type whose field the link is. */
#define OWNER_OF(link, type, field) \
    ((type *)(void *)((char *)(link)-offsetof(type, field)))

static inline void
list_init(struct link *list)
{
    list->prev = list->next = list;
}

static inline bool
list_is_empty(const struct link *list)
{
    return list->next == list;
}

static inline void
list_append(struct link *list, struct link *item)
{
    item->prev = list->prev;
    item->next = list;
    list->prev->next = item;
    list->prev = item;
}

/* Take item out of whatever list it is in; it is then a ring of its own, so
 * that taking it out again does nothing. */
static inline void
list_remove(struct link *item)
{
    item->prev->next = item->next;
    item->next->prev = item->prev;
    list_init(item);
}

/* The first item, taken out; NULL if there is none. */
static inline struct link *
list_take(struct link *list)
{
    struct link *item = list->next;

    if (item == list)
        return NULL;
    list_remove(item);
    return item;
}

/* Move all of from to the end of list. */
static inline void
list_splice(struct link *list, struct link *from)
{
    if (list_is_empty(from))
        return;
    from->next->prev = list->prev;
    list->prev->next = from->next;
    from->prev->next = list;
    list->prev = from->prev;
    list_init(from);
}

#endif
