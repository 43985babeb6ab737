/* See json.h. */
#define _GNU_SOURCE /* asprintf */
#include "jobs/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "jobs/utf8.h"

static json_t *
base64(const char *data, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "abcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc((size + 2) / 3 * 4 + 1);
    json_t *value;
    size_t at = 0;

    if (text == NULL)
        return NULL;
    for (size_t i = 0; i < size; i += 3) {
        uint32_t three = 0;

        for (size_t j = 0; j < 3; j++)
            three =
                three << 8 | (i + j < size ? (unsigned char)data[i + j] : 0u);
        text[at++] = digits[three >> 18];
        text[at++] = digits[three >> 12 & 63];
        text[at++] = i + 1 < size ? digits[three >> 6 & 63] : '=';
        text[at++] = i + 2 < size ? digits[three & 63] : '=';
    }
    value = json_stringn(text, at);
    free(text);
    return value;
}

static bool
is_bytes(const struct rota_value *value)
{
    return value->type == ROTA_BLOB ||
           (value->type == ROTA_TEXT &&
            !utf8_is_text(value->data, value->size));
}

static json_t *
json_of(const struct rota_value *value)
{
    switch (value->type) {
    case ROTA_NULL:
        return json_null();
    case ROTA_INTEGER:
        return json_integer(value->integer);
    case ROTA_REAL: /* JSON has no infinities */
        if (isfinite(value->real))
            return json_real(value->real);
        return json_string(value->real > 0 ? "Infinity" : "-Infinity");
    case ROTA_TEXT:
    case ROTA_BLOB:
        break;
    }
    return is_bytes(value) ? base64(value->data, value->size)
                           : json_stringn(value->data, value->size);
}

/* A name of SQL's may be any bytes, and a key of JSON's is text: what is not
 * becomes U+FFFD. NULL without memory. */
static char *
text_of_name(const char *name)
{
    static const char other[] = "\uFFFD";
    size_t size = strlen(name), used = 0;
    char *text = malloc(strlen(other) * size + 1);

    for (size_t at = 0; text != NULL && at < size;) {
        uint32_t c;
        size_t n = utf8_decode(name + at, size - at, &c);

        memcpy(text + used, n > 0 ? name + at : other,
               n > 0 ? n : strlen(other));
        used += n > 0 ? n : strlen(other);
        at += n > 0 ? n : 1;
    }
    if (text != NULL)
        text[used] = '\0';
    return text;
}

/* A name that the object does not have yet: SQL may give two columns one
 * name, and neither may be lost. malloc'd; NULL without memory. */
static char *
unused_name(const json_t *object, const char *name, bool has_bytes)
{
    const char *end = has_bytes ? "_b64" : "";
    char *unused;

    if (asprintf(&unused, "%s%s", name, end) < 0)
        return NULL;
    for (int i = 2; json_object_get(object, unused) != NULL; i++) {
        free(unused);
        if (asprintf(&unused, "%s_%d%s", name, i, end) < 0)
            return NULL;
    }
    return unused;
}

static int
put(json_t *object, const char *name, const struct rota_value *value)
{
    char *text = text_of_name(name), *unused = NULL;
    int failed = -1;

    if (text != NULL)
        unused = unused_name(object, text, is_bytes(value));
    if (unused != NULL)
        failed = json_object_set_new(object, unused, json_of(value));
    free(text);
    free(unused);
    return failed;
}

json_t *
json_row(int n, const char *const *names, const struct rota_value *values)
{
    json_t *object = json_object();

    for (int i = 0; object != NULL && i < n; i++) {
        if (put(object, names[i], &values[i]) != 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}

int
json_put_bytes(json_t *object, const char *name, const char *data, size_t size)
{
    struct rota_value value = {.type = ROTA_TEXT, .data = data, .size = size};

    return put(object, name, &value);
}

enum rota_error
json_result(struct rota_job *job, json_t *object)
{
    enum rota_error error = ROTA_NOMEM;
    char *text = NULL;

    if (object != NULL)
        text = json_dumps(object, JSON_COMPACT);
    if (text != NULL)
        error = rota_job_result(job, text, strlen(text));
    free(text);
    json_decref(object);
    return error;
}

/* 15 digits read well, 0.1 and not 0.10000000000000001; 17 are needed where
 * 15 do not give the same number back. */
static bool
needs_17_digits(const json_t *value)
{
    const char *name;
    json_t *member;
    char text[40];

    if (json_is_real(value)) {
        (void)snprintf(text, sizeof(text), "%.15g", json_real_value(value));
        return strtod(text, NULL) < json_real_value(value) ||
               strtod(text, NULL) > json_real_value(value);
    }
    json_object_foreach((json_t *)(uintptr_t)value, name, member)
    {
        if (needs_17_digits(member))
            return true;
    }
    return false;
}

char *
json_text_of(const json_t *object)
{
    size_t digits = needs_17_digits(object) ? 17 : 15;

    return json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(digits));
}

int
json_print(const json_t *object, FILE *file)
{
    char *line = json_text_of(object);
    bool ok =
        line != NULL && fputs(line, file) >= 0 && fputc('\n', file) != EOF;

    free(line);
    return ok ? 0 : -1;
}
