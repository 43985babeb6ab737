"""What scripts/mutants plants: faults by rule, each found by a pattern and not
by its place, so that code which moves keeps its mutants; and, at the end, which
tests should see them.

  where    a conjunct of a WHERE that guards a change, or refuses a command
  row      a row of the outcome rules
  need     what a row of them needs, or one of the ends that it is for
  if       what an `if` guards is never done: early returns among it
  operand  one operand of && or || does not count
  call     a call that stands alone, where contexts reach what blocks
  wake     a wake-up, or the wait for an answer
  flag     a flag that is set, or cleared
  durable  power loss may undo it
  order    two calls that stand side by side change places
  early    callers are answered before the commit

Errors that are handed on (`if (error != ROTA_OK) return error;`) are not
planted: tests/test_refusals refuses each call there is.
"""

import collections
import fnmatch
import re

CONTEXT = [f"scheduler/context/{f}.c" for f in
           ("cancel", "cond", "hook", "wait", "wake")]
INTERRUPT = ["scheduler/interrupt/*.c"]
ENGINE = ["scheduler/engine/*.c"]
POOL = ["scheduler/pool/*.c"]
OUTCOME = ["scheduler/store/outcome.c"]
MOVES = [f"scheduler/store/sqlite/{f}.c" for f in
         ("arrivals", "claim", "commands", "cycle", "dependents", "due", "end",
          "limits", "log", "progress", "prune", "rescue", "submit",
          "transaction", "workers", "yield")]
SQL = ["scheduler/store/sqlite/*.c"]

Mutant = collections.namedtuple("Mutant", "key rule path start end new")


# -- C ------------------------------------------------------------------------

TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'
                   r"'(?:\\.|[^'\\])+'", re.S)


def blank(text, keep_strings=False):
    """The text with comments, and what is in quotes, blanked; as long as it."""
    def blanked(match):
        found = match.group()
        if found[0] == '"':
            return found if keep_strings else '"' + "~" * (len(found) - 2) + '"'
        return re.sub(r"[^\n]", " ", found) if found[0] == "/" else \
            "~" * len(found)
    return TOKEN.sub(blanked, text)


def closing(code, at):
    """Behind the parenthesis that closes the one at code[at]."""
    depth = 0
    for i in range(at, len(code)):
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(code[i], 0)
        if depth == 0:
            return i + 1
    return len(code)


PLACE = re.compile(r"^(?:STATEMENT\((\w+)\)|#define (\w+)|"
                   r"static const char (\w+)\[|(\w+)\(|"
                   r"(?:static )?(?:const )?struct \w+ \*?(\w+)\[)", re.M)


class Source:
    """A file, and where its mutants are found."""

    def __init__(self, path, text):
        self.path, self.text = path, text
        self.code = blank(text)
        self.places = [(m.start(), next(filter(None, m.groups())))
                       for m in PLACE.finditer(self.code)]
        self.mutants, self.keys = [], collections.Counter()

    def place(self, at):
        return next((name for start, name in reversed(self.places)
                     if start <= at), "top")

    def plant(self, rule, start, end, new, said=None):
        """A mutant: text[start:end] becomes new, over as many lines."""
        old = self.text[start:end]
        said = re.sub(r'/\*.*?\*/|["\\]', "", said or old, flags=re.S)
        said = " ".join(said.split())
        key = f"{rule} {self.path} {self.place(start)}: {said}"
        self.keys[key] += 1
        if self.keys[key] > 1:
            key += f" ({self.keys[key]})"
        new += "\n" * (old.count("\n") - new.count("\n"))
        self.mutants.append(Mutant(key, rule, self.path, start, end, new))

    def wrap(self, rule, start, end, before, after):
        self.plant(rule, start, end, before + self.text[start:end] + after)


# -- SQL ----------------------------------------------------------------------

WORD = re.compile(r"\w+")
STOPS = {"ORDER", "LIMIT", "GROUP", "RETURNING", "UNION", "HAVING"}


def defines(text):
    """Where each #define begins and ends."""
    return [(m.start(), m.end()) for m in
            re.finditer(r"^#define (?:.*\\\n)*.*$", text, re.M)]


def sql_of(source):
    """The text without quotes, and for each character whether it is SQL."""
    kept = list(blank(source.text, True))
    inside = [False] * len(kept)
    for m in re.finditer(r'"(?:\\.|[^"\\\n])*"', "".join(kept)):
        for i in range(m.start() + 1, m.end() - 1):
            inside[i] = True
        kept[m.start()] = kept[m.end() - 1] = " "
    return re.sub(r"\\\n", "  ", "".join(kept)), inside


def conjuncts(sql, inside, at, end):
    """Where each begins and ends, of the WHERE whose condition is at `at`."""
    spans, begun, depth, between = [], at, 0, False
    while at < end:
        char, word = sql[at], WORD.match(sql, at)
        if word and inside[at]:
            found = word.group().upper()
            if depth == 0 and (found in STOPS or
                               sql.startswith("ON CONFLICT", at)):
                break
            if found == "AND" and depth == 0 and not between:
                spans.append((begun, at))
                begun = word.end()
            between = found == "BETWEEN" or between and found != "AND"
            depth += {"CASE": 1, "END": -1}.get(found, 0)
        if word:
            at = word.end()
            continue
        if depth == 0 and char in (";", ",", "}", ")"):
            break
        depth += {"(": 1, ")": -1}.get(char, 0)
        at += 1
    return spans + [(begun, at)]


def guarded(sql, inside, at, path, in_define):
    """What the WHERE there guards: a change, or a command that it refuses; or
    None."""
    begun = max((i + 1 for i in range(at - 1, -1, -1) if sql[i] in ";{"),
                default=0) if not in_define else in_define[0]
    for i in range(at - 1, begun, -1):
        if sql[i] == ";":
            begun = i + 1
            break
    said = "".join(c if inside[begun + i] else " "
                   for i, c in enumerate(sql[begun:at]))
    said = re.split(r"\bBEGIN\b", said)[-1]
    verb = re.search(r"\b(?:INSERT INTO|UPDATE|DELETE FROM|SELECT RAISE|"
                     r"SELECT|CREATE) *(?:\(ABORT,[^)]*|\w*)", said)
    if verb is None or verb.group()[:6] not in ("SELECT", "CREATE") or \
            "RAISE" in said:
        return verb.group() if verb else ""
    # a part of the commands' triggers
    return "" if in_define and path.endswith("schema_commands.c") else None


def where(source):
    sql, inside = sql_of(source)
    spans = defines(source.text)
    for m in re.finditer(r"\bWHERE\b", sql):
        define = next((s for s in spans if s[0] <= m.start() < s[1]), None)
        end = define[1] if define else len(sql)
        what = guarded(sql, inside, m.start(), source.path, define)
        if not inside[m.start()] or what is None:
            continue
        for start, stop in conjuncts(sql, inside, m.end(), end):
            piece = sql[start:stop]
            start += len(piece) - len(piece.lstrip())
            stop -= len(piece) - len(piece.rstrip())
            if start < stop:
                old = source.text[start:stop]
                source.plant("where", start, stop,
                             ("(" if inside[start] else '"(" ') + old +
                             (" OR 1)" if inside[stop - 1] else ' " OR 1)"'),
                             f"{what} WHERE {old}")


# -- Conditions ---------------------------------------------------------------

PLAIN_ERROR = re.compile(r"^[\w>.-]*(?:error|code|failed) "
                         r"[!=]= (?:\w*_OK|0)$")


def conditions(source, words=r"\bif|\bwhile"):
    """Where the text in the parentheses behind such a word begins and ends."""
    for m in re.finditer(rf"(?:{words}) \(", source.code):
        yield m.end(), closing(source.code, m.end() - 1) - 1


def branch(source):
    for start, end in conditions(source, r"\bif"):
        said = source.code[start:end]
        if not PLAIN_ERROR.match(said) and "debug_is_on" not in said:
            source.wrap("if", start, end, "(", ") && 0")


def operands(code, start, end):
    """(start, end, operator) of each operand, those in parentheses too."""
    while code[start] in " \n":
        start += 1
    while code[end - 1] in " \n":
        end -= 1
    if code[start] == "(" and closing(code, start) == end:
        yield from operands(code, start + 1, end - 1)
        return
    cuts, depth = [], 0
    for i in range(start, end):
        depth += {"(": 1, ")": -1}.get(code[i], 0)
        if depth == 0 and code[i:i + 2] in ("&&", "||"):
            cuts.append(i)
    if any(code[i] == "|" for i in cuts):
        cuts = [i for i in cuts if code[i] == "|"]
    if not cuts:
        return
    for a, b in zip([start] + [i + 2 for i in cuts], cuts + [end]):
        while code[a] in " \n":
            a += 1
        while code[b - 1] in " \n":
            b -= 1
        yield a, b, code[cuts[0]]
        yield from operands(code, a, b)


def operand(source):
    spans = list(conditions(source))
    spans += [m.span(1) for m in
              re.finditer(r"(?:\breturn|[\w\]] =) ([^;{]*(?:&&|\|\|)[^;{]*);",
                          source.code) if "?" not in m.group(1)]
    for start, end in spans:
        for a, b, operator in operands(source.code, start, end):
            said = source.code[a:b]
            if not PLAIN_ERROR.match(said) and "debug_is_on" not in said:
                source.wrap("operand", a, b, "((",
                            ") || 1)" if operator == "&" else ") && 0)")


# -- Statements ---------------------------------------------------------------

DULL = re.compile(r"lock_|free$|debug_|message_|list_init|MUST_BE|close|"
                  r"mem|snprintf|va_|sigemptyset|sigaddset|atomic_init")


def calls(source):
    """(start, end, name) of each call that is a statement of its own."""
    for m in re.finditer(r"^[ \t]+((?:\(void\))?(?:MUST\()?(\w+)\()",
                         source.code, re.M):
        end = closing(source.code, source.code.index("(", m.start(1) + (
            6 if source.code.startswith("(void)", m.start(1)) else 0)))
        if m.group(2) not in ("if", "while", "for", "switch", "return") and \
                source.code[end:end + 1] == ";":
            yield m.start(1), end, m.group(2)


def call(source):
    for start, end, name in calls(source):
        if not DULL.match(name):
            source.plant("call", start, end, "(void)0")


WAKES = re.compile(r"(wake_\w+|futex_wake_all|pthread_cond_(signal|broadcast)|"
                   r"ctx_cond_(signal|broadcast)|waiters_wake|"
                   r"sleepers_wake(_all)?|writer_(poke|tell|offer)|role_pass|"
                   r"wakeup_\w+|eventfd_write|\w+_poke|ctx_hook_stop_wait)$")


def wake(source):
    for start, end, name in calls(source):
        if WAKES.match(name):
            source.plant("wake", start, end, "(void)0")


def flag(source):
    for m in re.finditer(r"^[ \t]+([\w.>\[\]*-]+ \|?&?= (?:true|false));",
                         source.code, re.M):
        source.plant("flag", m.start(1), m.end(1), "(void)0")


def durable(source):
    for m in re.finditer(r"\bis_durable = ((?:[^;,}()]|\((?:[^()]|\([^()]*"
                         r"(?:\([^()]*\)[^()]*)*\))*\))*)", source.code):
        source.plant("durable", m.start(1), m.end(1), "false", m.group())
    for m in re.finditer(r"\bPRAGMA (synchronous|journal_\w+|wal_\w+)=\w+",
                         source.text):
        source.plant("durable", m.start(1), m.end(1), "not_" + m.group(1),
                     source.text[m.start(1):m.end()])
    for start, end, name in calls(source):
        if name in ("fsync", "fdatasync"):
            source.plant("durable", start, end, "(void)0")


def order(source):
    found = [c for c in calls(source)
             if not DULL.match(c[2]) and "\n" not in source.text[c[0]:c[1]]]
    for (a, b, _), (c, d, _) in zip(found, found[1:]):
        if source.code[b:c].strip(" \n") == ";" and \
                source.code[b:c].count("\n") == 1 and \
                source.text[a:b] != source.text[c:d]:
            source.plant("order", a, d, source.text[c:d] + ";\n" +
                         source.text[a:b])


EARLY = """for (struct link *l_ = {0}->work.wishes.next; \
l_ != &{0}->work.wishes; l_ = l_->next) {{ \
request_of(l_)->is_answered = true; \
if (!request_of(l_)->has_role) \
wake_up(&request_of(l_)->wake, WAKE_SET); }} """


def early(source):
    for m in re.finditer(r"return store_cycle\(", source.code):
        source.plant("early", m.start(), m.start(), EARLY.format("batch"),
                     "store_cycle()")


# -- The outcome rules --------------------------------------------------------

def row(source):
    m = re.search(r"outcome_rules\[\] = \{", source.code)
    at = m.end()
    while m := re.compile(r"\s*(\{)").match(source.code, at):
        at = closing(source.code, m.start(1)) + 1
        source.plant("row", m.start(1), at, "")
        need = re.compile(r"\bIF_\w+").search(source.code, m.start(), at)
        if need:
            source.plant("need", need.start(), need.end(), "0",
                         source.text[m.start(1):need.end()])
    for m in re.finditer(r"^#define \w+ +\((.*)\)$", source.code, re.M):
        start = m.start(1)
        for term in re.split(r" \| ", m.group(1)):
            end = start + len(term)
            if "|" in m.group(1) and "end)" not in term:
                source.plant("need", start, end, "0U")
            start = end + 3


RULES = [(where, SQL), (row, OUTCOME),
         (branch, CONTEXT + INTERRUPT + ENGINE + POOL + OUTCOME + MOVES),
         (operand, ["scheduler/interrupt/sqlite.c", "scheduler/engine/gather.c",
                    "scheduler/engine/writer.c", "scheduler/engine/state.c"] +
          CONTEXT + OUTCOME),
         (call, INTERRUPT + CONTEXT),
         (wake, ["scheduler/*.c"]),
         (flag, CONTEXT + INTERRUPT + ENGINE + POOL + MOVES),
         (durable, SQL + ENGINE), (order, ["scheduler/engine/publish.c"] +
                                   CONTEXT + INTERRUPT),
         (early, ENGINE)]


def mutants_of(path, text):
    """All mutants of the file, in the order of the rules."""
    source = Source(path, text)
    for rule, patterns in RULES:
        if any(fnmatch.fnmatch(path, p) for p in patterns):
            rule(source)
    seen = {(m.start, m.end): m for m in reversed(source.mutants)
            if m.rule in ("call", "wake")}
    return [m for m in source.mutants if m.rule not in ("call", "wake") or
            seen[m.start, m.end] is m]


# -- Who should see them -------------------------------------------------------

# What should see a fault in a file, the likeliest and quickest first.
STORE = ("test_store test_suspicion test_ties test_limits test_commands test_plans "
         "test_interleave")
ENGINE = ("test_step test_start test_stop test_cancel test_outcome test_wait "
          "test_submit test_stuck test_pause test_jobs test_retry test_share "
          "test_foreign test_rescue test_refusals test_query test_prune")
CONTEXT = ("test_ctx test_ctx_hook test_ctx_wait test_ctx_threads "
           "test_ctx_merge test_ctx_fd test_ctx_peer test_ctx_signals "
           "test_ctx_io test_ctx_oom test_group test_ctx_stress test_stop")
PROCESS = "test_process test_kinds test_cancel_reach test_rescue"
TESTS = [
    ("scheduler/store/outcome.c", "test_rules test_store test_suspicion test_outcome"),
    ("*/sqlite/schema_commands.c", "test_commands test_ties test_limits "
     "test_interleave test_retry test_prune test_pause test_step test_clients"),
    ("*/sqlite/end.c", STORE + " test_outcome test_step test_rescue "
     "test_prune"),
    ("*/sqlite/dependents.c", "test_ties " + STORE + " test_prune"),
    ("*/sqlite/limits.c", "test_limits " + STORE + " test_refusals"),
    ("*/sqlite/waiting.c", STORE + " test_step test_pause test_retry"),
    ("*/sqlite/due.c", "test_step test_limits " + STORE),
    ("*/sqlite/prune.c", "test_prune " + STORE),
    ("*/sqlite/progress.c", "test_jobs test_stuck test_rescue " + STORE),
    ("*/sqlite/submit.c", "test_submit test_arrivals test_step " + STORE),
    ("*/sqlite/arrivals.c", "test_arrivals test_files " + STORE),
    ("*/sqlite/claim.c", "test_arrivals test_start test_plans " + STORE +
     " test_submit test_rescue"),
    ("*/sqlite/commands.c", "test_cancel test_retry test_pause test_step "
     "test_prune " + STORE),
    ("*/sqlite/rescue.c", "test_rescue test_share " + STORE),
    ("*/sqlite/workers.c", "test_share test_rescue test_start test_stop " +
     STORE),
    ("*/sqlite/names.c", "test_submit test_prune " + STORE),
    ("*/sqlite/transaction.c", "test_files test_foreign test_submit "
     "test_schema test_crash test_refusals " + STORE),
    ("*/sqlite/log.c", "test_files test_foreign test_open test_refusals"),
    ("*/sqlite/cycle.c", "test_files test_arrivals test_foreign test_step "
     "test_wait " + STORE + " test_cancel test_refusals"),
    ("*/sqlite/yield.c", "test_foreign test_files"),
    ("*/sqlite/schema.c", "test_schema test_open test_abi"),
    ("*/sqlite/*", STORE + " test_open test_foreign test_query test_share"),
    ("scheduler/interrupt/sqlite.c", "test_interrupt test_jobs test_kinds "
     "test_import test_cancel_reach"),
    ("scheduler/interrupt/target.c", "test_jobs test_kinds test_import "
     "test_interrupt test_rescue test_cancel_reach test_crash"),
    ("scheduler/interrupt/*", PROCESS),
    ("scheduler/context/hook.c", "test_ctx_hook test_ctx_merge " + CONTEXT),
    ("scheduler/context/cond.c", "test_ctx_cond " + CONTEXT),
    ("scheduler/context/*", CONTEXT),
    ("scheduler/pool/*", "test_pool test_group test_group_wait "
     "test_group_stress test_ctx_oom test_start"),
    ("scheduler/*", ENGINE),
]
