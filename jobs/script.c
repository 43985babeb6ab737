/*
 * See script.h. A statement ends at the first semicolon that no quote and no
 * comment holds, and that of CREATE TRIGGER at the one behind an END that
 * stands behind a semicolon: this is what sqlite3_complete() goes by. It wants
 * the whole text, and so would read a long trigger anew at each of its
 * semicolons; here the script is read once, byte by byte.
 */
#include "jobs/script.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <rota/ctx.h>

#include "jobs/grow.h"

void
script_init(struct script *script, struct ctx *ctx, FILE *file)
{
    *script =
        (struct script){.ctx = ctx, .file = file, .line = 1, .is_begin = true};
}

void
script_fini(struct script *script)
{
    free(script->text);
    if (script->file != NULL)
        (void)fclose(script->file);
}

bool
script_rewind(struct script *script)
{
    script->line = 1;
    script->is_begin = true;
    return fseek(script->file, 0, SEEK_SET) == 0;
}

static bool
put(struct script *script, int c)
{
    if (!GROW(script->text, script->room, script->size + 2))
        return false;
    script->text[script->size++] = (char)c;
    script->text[script->size] = '\0';
    return true;
}

/* Where a statement stands, for the semicolon that comes next. */
enum place {
    AT_BEGIN,
    AT_EXPLAIN,
    AT_CREATE,
    IN_PLAIN, /* it ends the statement */
    IN_TRIGGER,
    BEHIND_SEMICOLON, /* in a trigger: END may come */
    BEHIND_END
};

enum token { OTHER, EXPLAIN, CREATE, TEMP, TRIGGER, END };

/* Where the reading stands: between tokens, in a word, or inside a token that
 * may hold a semicolon. */
struct lexer {
    int closes;       /* what ends the token: a quote, or '\n' of a -- comment,
                       * or '*' of one like this; 0: it is none of these */
    int last;         /* the byte before */
    bool has_tokens;  /* something that is neither blank nor comment was seen */
    bool is_complete; /* the statement's last semicolon was seen */
    enum place place;
    char word[12]; /* the current one, as far as it fits */
    size_t word_size;
};

static enum place
place_after(enum place place, enum token token)
{
    switch (place) {
    case AT_BEGIN:
        return token == CREATE    ? AT_CREATE
               : token == EXPLAIN ? AT_EXPLAIN
                                  : IN_PLAIN;
    case AT_EXPLAIN: /* QUERY PLAN may come */
        return token == CREATE  ? AT_CREATE
               : token == OTHER ? AT_EXPLAIN
                                : IN_PLAIN;
    case AT_CREATE:
        return token == TRIGGER ? IN_TRIGGER
               : token == TEMP  ? AT_CREATE
                                : IN_PLAIN;
    case BEHIND_SEMICOLON:
        return token == END ? BEHIND_END : IN_TRIGGER;
    case IN_TRIGGER:
    case BEHIND_END:
        return IN_TRIGGER;
    case IN_PLAIN:
        break;
    }
    return IN_PLAIN;
}

static enum token
token_of(const char *word)
{
    static const struct {
        const char *word;
        enum token token;
    } words[] = {{"EXPLAIN", EXPLAIN}, {"CREATE", CREATE},   {"TEMP", TEMP},
                 {"TEMPORARY", TEMP},  {"TRIGGER", TRIGGER}, {"END", END}};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(word, words[i].word) == 0)
            return words[i].token;
    return OTHER;
}

static void
end_word(struct lexer *lexer)
{
    if (lexer->word_size == 0)
        return;
    lexer->word[lexer->word_size] = '\0';
    lexer->word_size = 0;
    lexer->place = place_after(lexer->place, token_of(lexer->word));
}

/* A letter more of the current word; one that is too long is no keyword. */
static void
add_letter(struct lexer *lexer, int c)
{
    if (lexer->word_size + 1 < sizeof(lexer->word))
        lexer->word[lexer->word_size++] = (char)toupper(c);
    lexer->has_tokens = true;
}

/* Some token that is no word. */
static void
note_other(struct lexer *lexer)
{
    lexer->has_tokens = true;
    lexer->place = place_after(lexer->place, OTHER);
}

static void
note_semicolon(struct lexer *lexer)
{
    lexer->is_complete =
        lexer->place != IN_TRIGGER && lexer->place != BEHIND_SEMICOLON;
    lexer->place = lexer->is_complete ? AT_BEGIN : BEHIND_SEMICOLON;
}

/* c, the next byte of a token that lexer->closes ends. */
static void
step_inside(struct lexer *lexer, int last, int c)
{
    if (lexer->closes == '*' && last == '*' && c == '/') {
        lexer->closes = 0;
        lexer->last = 0;
    } else if (lexer->closes != '*' && c == lexer->closes) {
        lexer->closes = 0; /* a doubled quote opens it anew */
    }
}

/* Note what c, the next byte, begins or ends. */
static void
step_over(struct lexer *lexer, int c)
{
    int last = lexer->last;

    lexer->last = c;
    if (lexer->closes != 0) {
        step_inside(lexer, last, c);
        return;
    }
    if (last == '-' && c == '-') {
        lexer->closes = '\n';
        return;
    }
    if (last == '/' && c == '*') {
        lexer->closes = '*';
        lexer->last = 0;
        return;
    }
    if (last == '-' || last == '/')
        note_other(lexer); /* an operator, not a comment */
    if (isalnum(c) || c == '_' || c == '$' || c >= 0x80) {
        add_letter(lexer, c);
        return;
    }
    end_word(lexer);
    if (c == '\'' || c == '"' || c == '`' || c == '[') {
        lexer->closes = c == '[' ? ']' : c;
        note_other(lexer);
    } else if (c == ';') {
        note_semicolon(lexer);
    } else if (!isspace(c) && c != '-' && c != '/') {
        note_other(lexer);
    }
}

/* A byte order mark is no part of a statement; a part of one is. */
static void
skip_mark(struct script *script)
{
    char mark[3];

    if (fread(mark, 1, 3, script->file) != 3 ||
        memcmp(mark, "\xef\xbb\xbf", 3) != 0)
        (void)fseek(script->file, 0, SEEK_SET);
}

enum script_read
script_next(struct script *script)
{
    struct lexer lexer = {0};
    unsigned n = 0;
    int c;

    script->size = 0;
    script->begins = script->line;
    if (script->is_begin)
        skip_mark(script);
    script->is_begin = false;
    while ((c = getc(script->file)) != EOF) {
        if (++n % 65536 == 0 && ctx_done(script->ctx))
            return SCRIPT_STOPPED;
        script->line += c == '\n';
        if (!lexer.has_tokens && lexer.closes == 0 && isspace(c)) {
            script->begins = script->line;
            continue;
        }
        if (!put(script, c))
            return SCRIPT_NO_MEMORY;
        step_over(&lexer, c);
        if (c != ';' || lexer.closes != 0)
            continue;
        if (lexer.has_tokens && lexer.is_complete)
            return SCRIPT_STATEMENT;
        if (!lexer.has_tokens)
            script->size = 0;
    }
    if (ferror(script->file))
        return SCRIPT_IO;
    return lexer.has_tokens ? SCRIPT_STATEMENT : SCRIPT_END;
}

/* Behind the blanks and comments at text. */
static const char *
skip_comments(const char *text)
{
    const char *end;

    for (;;) {
        text += strspn(text, " \t\r\n\f;");
        if (strncmp(text, "--", 2) == 0)
            end = strchr(text, '\n');
        else if (strncmp(text, "/*", 2) == 0 && (end = strstr(text, "*/")))
            end++;
        else
            return text;
        if (end == NULL)
            return text + strlen(text);
        text = end + 1;
    }
}

/* Behind the n words that the current statement begins with. */
static const char *
skip_words(const struct script *script, int n)
{
    const char *from = skip_comments(script->text);

    while (n-- > 0) {
        while (isalpha((unsigned char)*from))
            from++;
        from = skip_comments(from);
    }
    return from;
}

/* The nth word that the current statement begins with, from 0, in capitals and
 * at most size - 1 bytes; "" if there are fewer. */
static void
keyword(const struct script *script, int n, char *word, size_t size)
{
    const char *from = skip_words(script, n);
    size_t length = 0;

    for (; length + 1 < size && isalpha((unsigned char)from[length]); length++)
        word[length] = (char)toupper((unsigned char)from[length]);
    word[length] = '\0';
}

/* ROLLBACK, and not ROLLBACK TO a savepoint. */
static bool
is_whole_rollback(const struct script *script)
{
    char word[16];

    keyword(script, 1, word, sizeof(word));
    if (strcmp(word, "TRANSACTION") == 0)
        keyword(script, 2, word, sizeof(word));
    return strcmp(word, "TO") != 0;
}

enum script_role
script_role(const struct script *script)
{
    static const struct {
        const char *word;
        enum script_role role;
    } words[] = {
        {"BEGIN", SCRIPT_BEGIN},         {"COMMIT", SCRIPT_COMMIT},
        {"END", SCRIPT_COMMIT},          {"ROLLBACK", SCRIPT_ROLLBACK},
        {"SAVEPOINT", SCRIPT_SAVEPOINT}, {"RELEASE", SCRIPT_SAVEPOINT},
        {"VACUUM", SCRIPT_OUTSIDE},      {"ATTACH", SCRIPT_CONNECTION},
        {"DETACH", SCRIPT_CONNECTION},   {"PRAGMA", SCRIPT_CONNECTION}};
    char word[16];

    keyword(script, 0, word, sizeof(word));
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(word, words[i].word) == 0)
            return words[i].role != SCRIPT_ROLLBACK || is_whole_rollback(script)
                       ? words[i].role
                       : SCRIPT_SAVEPOINT;
    return SCRIPT_PLAIN;
}

bool
script_makes_private(const struct script *script, char *name, size_t size)
{
    const char *from = skip_words(script, 2);
    char create[16], table[16];
    size_t length = 0;

    keyword(script, 0, create, sizeof(create));
    keyword(script, 1, table, sizeof(table));
    if (strcmp(create, "CREATE") != 0 || strcmp(table, "TABLE") != 0 ||
        strncmp(from, "_rota_", 6) != 0)
        return false;
    for (; length + 1 < size &&
           (isalnum((unsigned char)from[length]) || from[length] == '_');
         length++)
        name[length] = from[length];
    name[length] = '\0';
    return true;
}
