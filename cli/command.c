/*
 * See command.h. Every function is pure but command_exists(), which asks the
 * file system; each.c, each_feed.c and submit.c call them, on whatever thread.
 */
#define _GNU_SOURCE
#include "cli/command.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jobs/utf8.h"

/* -- Saying it ------------------------------------------------------------- */

static bool
is_text(const char *word)
{
    return utf8_is_text(word, strlen(word));
}

static char *
encode_json(const char *folder, char *const *argv, size_t n, const char *item,
            size_t *ret_size)
{
    json_t *words = json_array(), *args;
    char *text = NULL;

    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(words, json_string(argv[i]));
    args = json_pack("{so ss ss*}", "argv", words, "dir", folder, "item", item);
    if (args != NULL && json_array_size(words) == n)
        text = json_dumps(args, JSON_COMPACT);
    json_decref(args);
    if (text != NULL)
        *ret_size = strlen(text);
    return text;
}

/* Each ended by a NUL. */
static char *
encode_bytes(const char *folder, char *const *argv, size_t n, size_t *ret_size)
{
    size_t size = strlen(folder) + 1;
    char *bytes, *end;

    for (size_t i = 0; i < n; i++)
        size += strlen(argv[i]) + 1;
    bytes = malloc(size);
    if (bytes == NULL)
        return NULL;
    end = stpcpy(bytes, folder) + 1;
    for (size_t i = 0; i < n; i++)
        end = stpcpy(end, argv[i]) + 1;
    *ret_size = size;
    return bytes;
}

char *
command_encode(const char *folder, char *const *argv, size_t n,
               const char *item, size_t *ret_size)
{
    bool is_json = is_text(folder);

    for (size_t i = 0; i < n && is_json; i++)
        is_json = is_text(argv[i]);
    if (item != NULL && !is_text(item))
        item = NULL; /* a part of it is used that is text */
    return is_json ? encode_json(folder, argv, n, item, ret_size)
                   : encode_bytes(folder, argv, n, ret_size);
}

/* -- Places ---------------------------------------------------------------- */

enum place { WHOLE, NO_SUFFIX, NAME, NAME_NO_SUFFIX, FOLDER, NUMBER, PLACES };

static const char *const places[] = {
    [WHOLE] = "{}",    [NO_SUFFIX] = "{.}",
    [NAME] = "{/}",    [NAME_NO_SUFFIX] = "{/.}",
    [FOLDER] = "{//}", [NUMBER] = "{#}"};

/* The place that word begins with; PLACES if it does with none. */
static enum place
place_at(const char *word)
{
    int i = 0;

    while (i < PLACES && strncmp(word, places[i], strlen(places[i])) != 0)
        i++;
    return (enum place)i;
}

bool
command_has_place(const char *word)
{
    for (; *word != '\0'; word++)
        if (place_at(word) != PLACES)
            return true;
    return false;
}

static bool
is_shell(const char *word)
{
    static const char *const shells[] = {"sh",  "bash", "dash", "zsh",
                                         "ksh", "mksh", "ash",  "fish"};
    const char *slash = strrchr(word, '/');
    const char *name = slash != NULL ? slash + 1 : word;

    for (size_t i = 0; i < sizeof(shells) / sizeof(shells[0]); i++)
        if (strcmp(name, shells[i]) == 0)
            return true;
    return false;
}

/* The program that a shell, the first of n words, is given with -c; NULL: none,
 * it runs a script. */
static const char *
shell_program(char *const *words, size_t n)
{
    for (size_t i = 1; i + 1 < n && strchr("-+", words[i][0]) != NULL; i++) {
        if (strcmp(words[i] + 1, "o") == 0 || strcmp(words[i] + 1, "O") == 0)
            i++; /* it has a value */
        else if (words[i][1] != '-' && strchr(words[i], 'c') != NULL)
            return words[i + 1];
    }
    return NULL;
}

bool
command_is_splice(char *const *words, size_t n, const char **ret_word)
{
    for (size_t i = 0; i < n; i++) {
        const char *program =
            is_shell(words[i]) ? shell_program(words + i, n - i) : NULL;

        if (program == NULL || !command_has_place(program))
            continue;
        *ret_word = program;
        return true;
    }
    return false;
}

static bool
is_program(const char *path)
{
    struct stat file;

    return stat(path, &file) == 0 && S_ISREG(file.st_mode) &&
           access(path, X_OK) == 0;
}

bool
command_exists(const char *name)
{
    const char *folders = getenv("PATH"), *end;
    char path[4096];

    if (strchr(name, '/') != NULL)
        return is_program(name);
    for (; folders != NULL; folders = *end == ':' ? end + 1 : NULL) {
        end = strchrnul(folders, ':');
        (void)snprintf(path, sizeof(path), "%.*s%s%s", (int)(end - folders),
                       folders, end > folders ? "/" : "", name);
        if (is_program(path))
            return true;
    }
    return folders == NULL && getenv("PATH") == NULL; /* spawn has a default */
}

/* Part of an item. */
struct part {
    const char *from;
    size_t size;
};

static struct part
part_of(struct part item, enum place place)
{
    const char *end = item.from + item.size, *base, *dot;

    while (place != WHOLE && place != NO_SUFFIX && end > item.from + 1 &&
           end[-1] == '/')
        end--; /* of a/b/, the name is b */
    base = end;
    while (base > item.from && base[-1] != '/')
        base--;
    if (place == FOLDER) {
        while (base > item.from + 1 && base[-1] == '/')
            base--;
        return base > item.from
                   ? (struct part){item.from, (size_t)(base - item.from)}
                   : (struct part){".", 1};
    }
    if (base == end && place != WHOLE && place != NO_SUFFIX)
        base = item.from; /* of /, it is / */
    dot = memrchr(base, '.', (size_t)(end - base));
    if ((place == NO_SUFFIX || place == NAME_NO_SUFFIX) && dot != NULL &&
        dot > base)
        end = dot;
    if (place == WHOLE || place == NO_SUFFIX)
        base = item.from;
    return (struct part){base, (size_t)(end - base)};
}

/* What stands at a place. number is room for the text of one. */
static struct part
filling(enum place place, struct part item, const char *number)
{
    if (place == NUMBER)
        return (struct part){number, strlen(number)};
    return part_of(item, place);
}

/* Write word, filled, to at unless it is NULL. How long it is, with its NUL. */
static size_t
fill_word(char *at, const char *word, struct part item, const char *number)
{
    size_t size = 0;

    while (*word != '\0') {
        enum place place = place_at(word);
        struct part part = place == PLACES ? (struct part){word, 1}
                                           : filling(place, item, number);

        if (at != NULL)
            memcpy(at + size, part.from, part.size);
        size += part.size;
        word += place == PLACES ? 1 : strlen(places[place]);
    }
    if (at != NULL)
        at[size] = '\0';
    return size + 1;
}

char **
command_fill(char *const *words, size_t n, const char *item, int64_t number,
             size_t *ret_n)
{
    struct part whole = {item, strlen(item)};
    bool has_place = false;
    size_t size = 0, count;
    char text[24], **argv, *at;

    (void)snprintf(text, sizeof(text), "%" PRId64, number);
    for (size_t i = 0; i < n; i++) {
        has_place |= command_has_place(words[i]);
        size += fill_word(NULL, words[i], whole, text);
    }
    count = has_place ? n : n + 1;
    argv = malloc((count + 1) * sizeof(*argv) + size + whole.size + 1);
    if (argv == NULL)
        return NULL;
    at = (char *)(argv + count + 1);
    for (size_t i = 0; i < n; i++) {
        argv[i] = at;
        at += fill_word(at, words[i], whole, text);
    }
    if (!has_place) {
        argv[n] = at;
        memcpy(at, item, whole.size + 1);
    }
    argv[count] = NULL;
    *ret_n = count;
    return argv;
}
