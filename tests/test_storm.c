/*
 * The storm: workers and clients that are killed at random times, round after
 * round on one file. After each round the file is held against the ledger of
 * what they were told (storm.h): nothing acknowledged is lost, no job stands in
 * two places, no run comes twice or beside another.
 *
 * ROTA_TEST_KILLS sets how many rounds there are, ROTA_TEST_SEED replays a
 * choice of moments.
 */
#define _GNU_SOURCE
#include <check.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <rota.h>

#include "scratch.h"
#include "storm.h"
#include "support.h"

/* How long they play at most, all and then some of them. */
#define ALL_PLAY  ROTA_MS(IS_SANITIZED ? 150 : 30)
#define SOME_PLAY ROTA_MS(IS_SANITIZED ? 100 : 20)

extern char **environ;
static char self[4096]; /* this program */
struct storm storm;
static unsigned seed;                  /* goes on from storm.seed */
static int ledger_fd, begun[2], go[2]; /* pipes, but the first */

static unsigned
pick(unsigned n)
{
    return (unsigned)rand_r(&seed) % n;
}

/* -- Processes ------------------------------------------------------------- */

static int64_t n_processes, kills;

struct player {
    pid_t pid;
    int64_t number; /* in the ledger */
    enum { KILL_NOW, STOP_NOW, KILL_LATER } fate;
};

static struct player
player_start(const char *role)
{
    struct player player = {.number = ++n_processes};
    char number[24], its_seed[16];
    char *argv[] = {self, (char *)role, storm.queue, number, its_seed, NULL};
    posix_spawn_file_actions_t files;

    HOLDS(n_processes < STORM_PROCESSES, "%s", role);
    (void)snprintf(number, sizeof(number), "%" PRId64, player.number);
    (void)snprintf(its_seed, sizeof(its_seed), "%u", pick(1000000));
    ck_assert_int_eq(posix_spawn_file_actions_init(&files), 0);
    ck_assert_int_eq(
        posix_spawn_file_actions_adddup2(&files, go[0], STORM_GO_FD) |
            posix_spawn_file_actions_adddup2(&files, begun[1], STORM_BEGUN_FD) |
            posix_spawn_file_actions_adddup2(&files, ledger_fd,
                                             STORM_LEDGER_FD),
        0);
    ck_assert_int_eq(
        posix_spawn(&player.pid, self, &files, NULL, argv, environ), 0);
    ck_assert_int_eq(posix_spawn_file_actions_destroy(&files), 0);
    return player;
}

static void
players_await(int n)
{
    struct pollfd fd = {.fd = begun[0], .events = POLLIN};
    char byte;

    for (int i = n; i > 0; i--) {
        HOLDS(poll(&fd, 1, 120000) == 1, "%d of them do not begin", i);
        ck_assert_int_eq(read(begun[0], &byte, 1), 1);
    }
    ck_assert_int_eq(write(go[1], "12345678", (size_t)n), n);
}

static void
player_kill(const struct player *player)
{
    atomic_store(&storm.ledger->killed[player->number],
                 ledger_now(storm.ledger));
    ck_assert_int_eq(kill(player->pid, SIGKILL), 0);
    kills++;
}

static void
player_bury(const struct player *player)
{
    int status;

    ck_assert_int_eq(waitpid(player->pid, &status, 0), player->pid);
    HOLDS(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
          "process %" PRId64 " ended by itself: %d", player->number, status);
}

static void
pause_up_to(int64_t time)
{
    (void)ctx_sleep(ctx_background(), time * pick(1000) / 1000);
}

/* Have them all play, and die: some at once, some are stopped first, and some
 * go on among the dead for a while. */
static void
round_play(void)
{
    static const char *const cast[] = {"--worker", "--worker", "--client",
                                       "--client", "--shell"};
    enum { N = sizeof(cast) / sizeof(cast[0]) };
    struct player players[N];

    for (int i = 0; i < N; i++) {
        players[i] = player_start(cast[i]);
        players[i].fate = pick(2) == 0   ? KILL_LATER
                          : pick(4) == 0 ? STOP_NOW
                                         : KILL_NOW;
    }
    players[pick(N)].fate = KILL_NOW;
    players_await(N);
    pause_up_to(ALL_PLAY);
    for (int i = 0; i < N; i++)
        if (players[i].fate == KILL_NOW)
            player_kill(&players[i]);
        else if (players[i].fate == STOP_NOW)
            ck_assert_int_eq(kill(players[i].pid, SIGSTOP), 0);
    pause_up_to(SOME_PLAY);
    for (int i = 0; i < N; i++)
        if (players[i].fate != KILL_NOW)
            player_kill(&players[i]);
    for (int i = 0; i < N; i++)
        player_bury(&players[i]);
}

/* -- The test ------------------------------------------------------------- */

static void
drain(void)
{
    struct player last = player_start("--drain");
    int status;

    ck_assert_int_eq(waitpid(last.pid, &status, 0), last.pid);
    atomic_store(&storm.ledger->killed[last.number], ledger_now(storm.ledger));
    HOLDS(status == 0, "what is left does not end: %d", status);
}

static void
report(int64_t time)
{
    (void)printf(
        "%d rounds, %" PRId64 " kills, %.0f s: %" PRId64 " jobs, %" PRId64
        " acknowledged; %" PRId64 " runs; %s\n",
        storm.rounds, kills, (double)time / 1e9, storm.jobs, storm.acknowledged,
        storm.runs,
        sql_text(storm.queue,
                 "SELECT group_concat(n) FROM (SELECT count(*) || ' ' ||"
                 " state || CASE WHEN cause GLOB 'poison*' THEN"
                 "  ' as poison' ELSE '' END AS n FROM jobs"
                 " GROUP BY state, coalesce(cause GLOB 'poison*', 0))"));
}

static void
setup(void)
{
    struct rota *rota;

    scratch_make();
    (void)snprintf(storm.queue, sizeof(storm.queue), "%s",
                   in_scratch("queue.db"));
    ck_assert_int_eq(rota_open(storm.queue, NULL, &rota), ROTA_OK);
    ck_assert_int_eq(rota_close(rota), ROTA_OK);
    ck_assert_int_eq(pipe2(begun, O_CLOEXEC) | pipe2(go, O_CLOEXEC), 0);
    ledger_fd = memfd_create("ledger", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(ledger_fd, sizeof(*storm.ledger)), 0);
    storm.ledger = mmap(NULL, sizeof(*storm.ledger), PROT_READ | PROT_WRITE,
                        MAP_SHARED, ledger_fd, 0);
    ck_assert_ptr_ne(storm.ledger, MAP_FAILED);
}

static void
teardown(void)
{
    scratch_remove();
}

START_TEST(whatever_is_killed_nothing_acknowledged_is_lost_and_no_run_doubled)
{
    int wanted = number_from("ROTA_TEST_KILLS", IS_SANITIZED ? 10 : 25);
    int64_t started = ctx_now();

    storm.seed = seed =
        (unsigned)number_from("ROTA_TEST_SEED", (int)time(NULL) & 0xffffff);
    (void)printf("ROTA_TEST_SEED=%u\n", seed);
    (void)fflush(stdout);
    while (storm.rounds < wanted) {
        storm.rounds++;
        round_play();
        storm_check(storm.rounds % 20 == 0);
    }
    drain();
    storm_check(true);
    storm_check_ends();
    report(ctx_now() - started);
}
END_TEST

static Suite *
storm_suite(void)
{
    Suite *suite = suite_create("storm");
    TCase *tcase = tcase_create("killed");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 1500);
    tcase_add_test(
        tcase,
        whatever_is_killed_nothing_acknowledged_is_lost_and_no_run_doubled);
    suite_add_tcase(suite, tcase);
    return suite;
}

int
main(int argc, char **argv)
{
    if (argc == 5)
        return storm_play(argv);
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
        return EXIT_FAILURE;
    return suite_run(storm_suite());
}
