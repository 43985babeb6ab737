/*
 * The errors in words (rota/error.h). Any thread; read-only.
 */
#include <rota/error.h>

const char *
rota_strerror(enum rota_error error)
{
    switch (error) {
#define CASE(name, number, text) \
    case name:                   \
        return text;
        ROTA_ERRORS(CASE)
#undef CASE
    }
    return "unknown error";
}
