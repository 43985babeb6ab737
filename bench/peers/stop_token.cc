// libstdc++'s std::stop_token. N of "fan-out" are sources chained to one by a
// stop_callback each, as a tree of them would be.
#include "peer.h"

#include <malloc.h>
#include <optional>
#include <stop_token>
#include <vector>

static std::stop_source source;

static void
poll(void *, size_t n)
{
    std::stop_token token = source.get_token();

    while (n-- > 0) {
        FORGET();
        if (token.stop_requested())
            abort();
    }
}

static int
work(size_t n)
{
    std::stop_token token = source.get_token();
    uint64_t x = 88172645463325252ull;
    int64_t start = now();

    for (size_t i = 0; i < n; i++) {
        FORGET();
        if (token.stop_requested())
            abort();
        x = some_work(x);
    }
    __asm__ volatile("" ::"r"(x));
    return say_each(start, n);
}

struct Chain {
    std::stop_source *child;
    void
    operator()() const
    {
        child->request_stop();
    }
};

struct Child {
    std::stop_source source;
    std::stop_callback<Chain> chain;
    explicit Child(const std::stop_token &parent)
        : chain(parent, Chain{&source})
    {
    }
};

static int
life(size_t n, bool has_parent)
{
    int64_t start = now();

    for (size_t i = 0; i < n; i++) {
        if (has_parent) {
            Child child(source.get_token());
            child.source.request_stop();
        } else {
            std::stop_source own;
            own.request_stop();
        }
    }
    return say_each(start, n);
}

static int
fan_out(size_t n)
{
    std::stop_source root;
    std::vector<Child *> children(n);
    struct mallinfo2 before = mallinfo2(), after;
    int64_t start, end;

    for (size_t i = 0; i < n; i++)
        children[i] = new Child(root.get_token());
    after = mallinfo2();
    start = now();
    root.request_stop();
    end = now();
    for (Child *child : children)
        delete child;
    return say_two((double)(end - start) / (double)n,
                   (double)(after.uordblks - before.uordblks) / (double)n);
}

int
main(int argc, char **argv)
{
    const char *measure = argc == 3 ? argv[1] : "";
    size_t n = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;

    /* the process has threads, as a user's would */
    (void)team_run(1, poll, NULL, 1);
    if (strcmp(measure, "poll1") == 0)
        return say_each(team_run(1, poll, NULL, n), n);
    if (strcmp(measure, "poll2") == 0)
        return say_each(team_run(2, poll, NULL, n), n);
    if (strcmp(measure, "work1") == 0)
        return work(n);
    if (strcmp(measure, "life") == 0)
        return life(n, false);
    if (strcmp(measure, "child") == 0)
        return life(n, true);
    if (strcmp(measure, "fan-out") == 0)
        return fan_out(n);
    return NO_MEASURE;
}
