/*
 * See script.h. SQLite can say where a statement ends, but only of a text that
 * is in memory, and in a time that grows with it: so the script is read byte by
 * byte, and SQLite is asked at those semicolons only that no quote and no
 * comment holds.
 */
#include "jobs/script.h"

#include <ctype.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "jobs/grow.h"

void
script_init(struct script *script, FILE *file)
{
    *script = (struct script){.file = file, .line = 1, .is_begin = true};
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

/* Where the reading stands: between tokens, or inside one that may hold a
 * semicolon. */
struct lexer {
    int closes;      /* what ends the token: a quote, or '\n' of a -- comment,
                      * or '*' of one like this; 0: between tokens */
    int last;        /* the byte before */
    bool has_tokens; /* something that is neither blank nor comment was seen */
};

/* Note what c, the next byte, begins or ends. */
static void
step_over(struct lexer *lexer, int c)
{
    int last = lexer->last;

    lexer->last = c;
    if (lexer->closes == '*') {
        if (last == '*' && c == '/') {
            lexer->closes = 0;
            lexer->last = 0;
        }
    } else if (lexer->closes != 0) {
        if (c == lexer->closes)
            lexer->closes = 0; /* a doubled quote opens it anew */
    } else if (c == '\'' || c == '"' || c == '`') {
        lexer->closes = c;
        lexer->has_tokens = true;
    } else if (c == '[') {
        lexer->closes = ']';
        lexer->has_tokens = true;
    } else if (last == '-' && c == '-') {
        lexer->closes = '\n';
    } else if (last == '/' && c == '*') {
        lexer->closes = '*';
        lexer->last = 0;
    } else if (last == '-' || last == '/') {
        lexer->has_tokens = true; /* an operator, not a comment */
    } else if (!isspace(c) && c != '-' && c != '/' && c != ';') {
        lexer->has_tokens = true;
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
    int c;

    script->size = 0;
    script->begins = script->line;
    if (script->is_begin)
        skip_mark(script);
    script->is_begin = false;
    while ((c = getc(script->file)) != EOF) {
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
        /* SQLite knows that the first semicolon of CREATE TRIGGER is not its
         * last */
        if (lexer.has_tokens && sqlite3_complete(script->text))
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
