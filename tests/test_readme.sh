#!/bin/sh
# The README's program compiles against an installed rota, runs, and leaves
# what the README says.
set -eu

: "${srcdir:=.}"
: "${CC:=cc}"
folder=$(mktemp -d "${TMPDIR:-/tmp}/rota-readme-XXXXXX")
trap 'rm -rf "$folder"' EXIT

awk '/^```c$/ {on = 1; next} /^```$/ {on = 0} on' "$srcdir/README.md" >"$folder/count.c"
test -s "$folder/count.c"
# shellcheck disable=SC2086
$CC ${SANITIZER_CFLAGS-} -std=c11 -Wall -Wextra -Werror -I"$srcdir/include" \
    -o "$folder/count" "$folder/count.c" \
    -L"${builddir:-.}/.libs" -Wl,-rpath,"$(cd "${builddir:-.}/.libs" && pwd)" -lrota
cd "$folder"
said=$(./count)
state=$(sqlite3 jobs.db 'SELECT state, done, total FROM jobs')
if [ "$said" = succeeded ] && [ "$state" = 'succeeded|500|500' ]; then
    echo "1 passed, 0 failed"
else
    echo "the README's program said '$said' and left '$state'"
    echo "0 passed, 1 failed"
    exit 1
fi
