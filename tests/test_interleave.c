/*
 * Whatever the order in which two processes come to one file, each job stands
 * where the state machine says: all interleavings of short scripts, from many
 * situations, and long histories of three sessions by chance. The machine is a
 * model in plain C (statemodel.c); sessions.h says what a step is.
 *
 * What failed is told as a history, and is seen again with
 * ROTA_TEST_HISTORY="a.submit b.claim ...". ROTA_TEST_HISTORIES=N for more of
 * those by chance, from ROTA_TEST_SEED=N on.
 */
#define _GNU_SOURCE
#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scratch.h"
#include "sessions.h"
#include "support.h"

/* -- Histories ------------------------------------------------------------ */

static char history[4096];

static void
step(const char *word, bool looks)
{
    size_t used = strlen(history);
    const char *difference;

    (void)snprintf(history + used, sizeof(history) - used, "%s%s",
                   used > 0 ? " " : "", word);
    difference = sessions_step(word, looks);
    if (difference != NULL)
        ck_abort_msg("after \"%s\"\n%s", history, difference);
}

/* Look after each, or after the last one only. */
static void
steps(const char *words, bool each)
{
    char copy[sizeof(history)], *rest = NULL;

    (void)snprintf(copy, sizeof(copy), "%s", words);
    for (char *word = strtok_r(copy, " ", &rest); word != NULL;
         word = strtok_r(NULL, " ", &rest))
        step(word, each || *rest == '\0');
}

static void
start_over(void)
{
    history[0] = '\0';
    sessions_reset();
}

static void
setup(void)
{
    scratch_make();
    sessions_open();
}

static void
teardown(void)
{
    sessions_close();
    scratch_remove();
}

/* -- Interleavings -------------------------------------------------------- */

/* How it stands, and how it came to that. */
static const struct situation {
    const char *name, *words;
} situations[] = {
    {"ready", "a.submit"},
    {"due", "a.submit:l a.submit:p c.tick"}, /* and not noticed yet */
    {"running", "a.submit a.claim a.start"},
    {"told", "a.submit a.claim a.start c.cancel:A"},
    {"both", "a.submit b.submit a.claim b.claim b.advance"},
    {"dead", "a.submit a.claim a.advance a.die"},
    {"doomed", "a.submit a.claim c.cancel:A a.die"},
    {"killer", /* the third in a row */
     "c.submit c.claim c.die a.look a.rescue c.claim c.die a.look a.rescue"
     " a.claim a.die"},
    {"accused", /* A and B twice, A and C a third time */
     "c.submit c.submit c.claim c.claim c.die a.look a.rescue c.claim c.claim"
     " c.die a.look a.rescue c.claim c.submit c.claim c.die a.look a.rescue"},
    {"crashed", /* but it has advanced since */
     "c.submit c.claim c.die a.look a.rescue c.claim c.snoozefar a.claim"
     " a.die"},
    {"fatal", "a.submit a.claim a.fatal"},
    {"again", "a.submit a.claim a.advance a.fail c.tick"},
    {"cancelled", "a.submit a.cancel:A"},
    {"succeeded", "a.submit a.claim a.okfar"},
    {"tied", /* B waits for A, and C is a child of it */
     "a.submit a.submit:A a.submit:^A a.claim"},
    {"broken", "a.submit a.submit:A a.submit:^A a.submit:B a.claim a.fatal"},
    {"skipped",
     "a.submit a.submit:A a.submit:^A a.submit:B a.cancel:A b.settle"},
    {"rival", "a.submit:u a.claim a.fatal b.submit:u"},
    {"keyed", "a.submit:x b.submit:x a.claim b.claim"},
    {"held", "a.submit:x a.submit:x a.submit:x c.claim b.claim c.ok"},
    {"late", "a.submit:d b.submit:d a.claim c.tick c.tick"},
    {"paused", "a.submit b.submit a.claim c.pause"},
};
#define SITUATIONS ((int)(sizeof(situations) / sizeof(situations[0])))

/* Whatever became of them: the rest goes on. */
#define AFTERWARDS "c.settle c.promote c.claim c.claim c.ok"

#define WORDS_MAX 4

struct script {
    const char *words[WORDS_MAX];
    size_t n;
    char copy[64];
};

static void
script_read(struct script *script, const char *text)
{
    char *rest = NULL;

    (void)snprintf(script->copy, sizeof(script->copy), "%s", text);
    script->n = 0;
    for (char *word = strtok_r(script->copy, " ", &rest); word != NULL;
         word = strtok_r(NULL, " ", &rest)) {
        ck_assert_uint_lt(script->n, WORDS_MAX);
        script->words[script->n++] = word;
    }
}

/* Bit n of order says whose the n-th step is. */
static void
play(const char *situation, const struct script *a, const struct script *b,
     unsigned order)
{
    size_t at_a = 0, at_b = 0;
    char word[32];

    start_over();
    steps(situation, false);
    for (size_t i = 0; i < a->n + b->n; i++, order >>= 1) {
        (void)snprintf(word, sizeof(word), "%c.%s", order & 1 ? 'b' : 'a',
                       order & 1 ? b->words[at_b++] : a->words[at_a++]);
        step(word, true);
    }
    steps(AFTERWARDS, true);
}

/* All orders, from those situations that are named in from, NULL: all. */
static void
interleave(const char *text_a, const char *text_b, const char *from)
{
    struct script a, b;
    int nth = 0;

    script_read(&a, text_a);
    script_read(&b, text_b);
    for (int s = 0; s < SITUATIONS; s++)
        for (unsigned order = 0; order < 1U << (a.n + b.n); order++)
            if ((from == NULL || strstr(from, situations[s].name) != NULL) &&
                (size_t)__builtin_popcount(order) == b.n &&
                (!IS_SANITIZED || nth++ % 20 == 0))
                play(situations[s].words, &a, &b, order);
}

/* complete, rescue, cancel, claim, retry, prune */
static const char *const operations[] = {
    "advance ok",        "look rescue",   "cancel:A settle",
    "claim start okfar", "retry:A claim", "seekold prune",
};
#define OPERATIONS ((int)(sizeof(operations) / sizeof(operations[0])))

START_TEST(two_operations_in_any_order_leave_each_job_where_the_rules_say)
{
    for (int other = _i; other < OPERATIONS; other++)
        interleave(operations[_i], operations[other], NULL);
}
END_TEST

static const struct {
    const char *a, *b, *from;
} pairs[] = {
    /* what a dead one writes, and one that lives */
    {"claim advance die okfar", "look rescue claim ok", "ready running keyed"},
    {"start advance fail promote", "look cancel:A rescue settle",
     "running dead killer tied"},
    {"die ok ok! fail", "look rescue claim ok", "running told killer tied"},
    /* cancel, and start */
    {"claim unstarted start ok", "cancel:A look rescue", "ready told held"},
    {"claim unstarted claim fail", "cancel:A settle retry:A", "ready tied"},
    /* cancel, and end */
    {"ok settle retry:A", "cancel:A seekold prune", "running told tied"},
    {"stopped settle restart:A claim", "cancel:A cancel:A! retry:A settle",
     "running both tied"},
    {"timeout tick promote claim", "sooner:A later:A cancel:A",
     "running again late"},
    /* retry, with itself, and forgetting */
    {"retry:A claim fatal", "seekold prune cancel:A",
     "fatal cancelled succeeded broken skipped rival"},
    {"retry:A cancel:A", "seekold prune", "fatal cancelled"},
    {"retry:A claim! claim fail", "restart:A claim shutdown",
     "fatal cancelled succeeded skipped"},
    {"submit:u cancel:B retry:A", "retry:A retry:B claim", "rival"},
    {"seekold prune~ prune", "retry:A claim fatal seekold",
     "fatal succeeded skipped"},
    {"seekold claim prune settle", "claim ok retry:A settle",
     "due succeeded broken"},
    /* claims, by two and by the dying */
    {"claim~ look rescue claim", "claim snoozefar claim die", "ready due"},
    {"claim2 ok claim2 ok:A", "onlyone keytwo claim2 cancel:B",
     "both keyed held"},
    {"pause resume claim", "claim owncancel cancel:B later:B",
     "due keyed held paused"},
    /* rescue, twice, and of what is cancelled */
    {"look rescue! rescue claim", "look rescue claim advance",
     "dead doomed killer accused crashed"},
    {"look rescue retry:A rescue", "cancel:A die look rescue",
     "dead killer both"},
    /* suspects, beside others and alone */
    {"claim2 die look claim2", "claim look rescue claim2", "killer accused"},
    {"claim advance claim claim", "claim2 die look rescue", "killer accused"},
    /* those who wait, and children, while it ends */
    {"ok! fail trickle retry:A", "submit:A settle cancel:B",
     "running tied broken"},
    {"retry:B settle claim", "retry:A trickle prune", "skipped broken"},
    {"shutdown seekold prune settle", "submit:^A cancel:A trickle",
     "ready running cancelled"},
};
#define PAIRS ((int)(sizeof(pairs) / sizeof(pairs[0])))

START_TEST(no_order_of_a_critical_pair_breaks_a_rule)
{
    interleave(pairs[_i].a, pairs[_i].b, pairs[_i].from);
}
END_TEST

/* -- By chance ------------------------------------------------------------ */

#define STEPS     60
#define HISTORIES 300

/* Which deeds come more often than others, so that something happens. */
static const char *const often[] = {"submit", "submit", "submit", "claim",
                                    "claim",  "claim",  "settle", "promote",
                                    "ok",     "fail",   "look",   "rescue"};
#define OFTEN ((int)(sizeof(often) / sizeof(often[0])))

/* xorshift */
static uint64_t chance;

static int
draw(int n)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return (int)((chance >> 11) % (uint64_t)n);
}

/* What a submit asks for: see deeds.c. */
static void
wish_draw(char *wish)
{
    static const char traits[] = "uxldp";

    if (draw(3) == 0)
        *wish++ = traits[draw(5)];
    if (draw(3) == 0)
        *wish++ = traits[draw(5)];
    if (draw(4) == 0)
        *wish++ = '^';
    for (int n = draw(3); n > 0; n--)
        *wish++ = (char)('A' + draw(4));
    *wish = '\0';
}

static void
random_step(void)
{
    static int deeds;
    char word[32], about[16] = "";
    const char *deed;
    int how = draw(16);

    while (sessions_deed(deeds) != NULL)
        deeds++;
    deed = draw(3) == 0 ? often[draw(OFTEN)] : sessions_deed(draw(deeds));
    if (strcmp(deed, "submit") == 0 || strncmp(deed, "arrive", 6) == 0)
        wish_draw(about);
    else if (draw(2) == 0)
        about[0] = (char)('A' + draw(5));
    (void)snprintf(word, sizeof(word), "%c.%s%s%s%s", 'a' + draw(SESSIONS),
                   deed, about[0] != '\0' ? ":" : "", about,
                   how == 0   ? "!"
                   : how == 1 ? "~"
                              : "");
    step(word, true);
}

START_TEST(histories_by_chance_break_no_rule)
{
    int first = number_from("ROTA_TEST_SEED", 1);
    int n = number_from("ROTA_TEST_HISTORIES", MANY(HISTORIES));

    for (int seed = first; seed < first + n; seed++) {
        chance = (uint64_t)seed * UINT64_C(0x9e3779b97f4a7c15);
        start_over();
        for (int i = 0; i < STEPS; i++)
            random_step();
        steps(AFTERWARDS, true);
    }
}
END_TEST

/* One that failed, again. */
START_TEST(the_history_that_is_named_breaks_no_rule)
{
    const char *named = getenv("ROTA_TEST_HISTORY");

    if (named != NULL)
        steps(named, true);
}
END_TEST

static Suite *
interleave_suite(void)
{
    Suite *suite = suite_create("interleave");
    TCase *orders = tcase_create("orders"), *random = tcase_create("random");

    tcase_add_checked_fixture(orders, setup, teardown);
    tcase_add_checked_fixture(random, setup, teardown);
    tcase_set_timeout(orders, 120);
    tcase_set_timeout(random, 600);
    tcase_add_loop_test(
        orders, two_operations_in_any_order_leave_each_job_where_the_rules_say,
        0, OPERATIONS);
    tcase_add_loop_test(orders, no_order_of_a_critical_pair_breaks_a_rule, 0,
                        PAIRS);
    tcase_add_test(random, histories_by_chance_break_no_rule);
    tcase_add_test(random, the_history_that_is_named_breaks_no_rule);
    suite_add_tcase(suite, orders);
    suite_add_tcase(suite, random);
    return suite;
}

int
main(void)
{
    return suite_run(interleave_suite());
}
