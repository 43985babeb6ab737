#include "jobs/script.h"

#include <ctype.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "jobs/grow.h"

void
script_init(struct script *script, FILE *file)
{
    *script = (struct script){.file = file, .line = 1};
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
struct place {
    int closes;      /* the quote that ends it; '\n': a -- comment, '*': a
                      * comment like this; 0: between */
    int last;        /* the byte before */
    bool has_tokens; /* something that is neither blank nor comment was seen */
};

static void
step_over(struct place *place, int c)
{
    int last = place->last;

    place->last = c;
    if (place->closes == '*') {
        if (last == '*' && c == '/') {
            place->closes = 0;
            place->last = 0;
        }
    } else if (place->closes != 0) {
        if (c == place->closes)
            place->closes = 0; /* a doubled quote opens it anew */
    } else if (c == '\'' || c == '"' || c == '`') {
        place->closes = c;
        place->has_tokens = true;
    } else if (c == '[') {
        place->closes = ']';
        place->has_tokens = true;
    } else if (last == '-' && c == '-') {
        place->closes = '\n';
    } else if (last == '/' && c == '*') {
        place->closes = '*';
        place->last = 0;
    } else if (last == '-' || last == '/') {
        place->has_tokens = true; /* an operator, not a comment */
    } else if (!isspace(c) && c != '-' && c != '/' && c != ';') {
        place->has_tokens = true;
    }
}

enum script_read
script_next(struct script *script)
{
    struct place place = {0};
    int c;

    script->size = 0;
    script->begins = script->line;
    while ((c = getc(script->file)) != EOF) {
        if (script->line == 1 && script->size == 0 && c == 0xEF) {
            (void)getc(script->file), (void)getc(script->file); /* a BOM */
            continue;
        }
        script->line += c == '\n';
        if (!place.has_tokens && place.closes == 0 && isspace(c)) {
            script->begins = script->line;
            continue;
        }
        if (!put(script, c))
            return SCRIPT_NO_MEMORY;
        step_over(&place, c);
        if (c != ';' || place.closes != 0)
            continue;
        /* the first semicolon of CREATE TRIGGER is not its last */
        if (place.has_tokens && sqlite3_complete(script->text))
            return SCRIPT_STATEMENT;
        if (!place.has_tokens)
            script->size = 0;
    }
    if (ferror(script->file))
        return SCRIPT_IO;
    return place.has_tokens ? SCRIPT_STATEMENT : SCRIPT_END;
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

void
script_keyword(const struct script *script, int n, char *word, size_t size)
{
    const char *from = skip_comments(script->text);
    size_t length = 0;

    while (n-- > 0) {
        while (isalpha((unsigned char)*from))
            from++;
        from = skip_comments(from);
    }
    for (; length + 1 < size && isalpha((unsigned char)from[length]); length++)
        word[length] = (char)toupper((unsigned char)from[length]);
    word[length] = '\0';
}
