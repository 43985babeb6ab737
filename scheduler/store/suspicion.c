#include "store/suspicion.h"

enum suspicion
suspicion_of(int64_t crashes, bool is_isolated)
{
    return is_isolated                 ? SUSPICION_NEVER
           : crashes < CRASHES_SUSPECT ? SUSPICION_NONE
           : crashes < CRASHES_MAX     ? SUSPICION_SOME
                                       : SUSPICION_ALONE;
}

void
aboard_add(struct aboard *aboard, enum suspicion suspicion, int64_t n)
{
    if (suspicion == SUSPICION_NEVER)
        return;
    aboard->jobs += n;
    aboard->suspects += suspicion == SUSPICION_SOME ? n : 0;
    aboard->loners += suspicion == SUSPICION_ALONE ? n : 0;
}

bool
aboard_admits(const struct aboard *aboard, enum suspicion suspicion)
{
    switch (suspicion) {
    case SUSPICION_NEVER:
        return true;
    case SUSPICION_NONE:
        return aboard->loners == 0;
    case SUSPICION_SOME:
        return aboard->loners == 0 && aboard->suspects == 0;
    case SUSPICION_ALONE:
        return aboard->jobs == 0;
    }
    return true;
}
