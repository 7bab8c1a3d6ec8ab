#!/bin/sh
# The architecture as a table: which layer may include which. A row is "folder: allowed prefixes".
# An include that names another layer fails. Edit the table on purpose. Runs from the project's root.
set -u
cd "$(dirname "$0")/../.." || exit 1
bad=0
check() { # folder, files glob, allowed include prefixes (egrep alternation)
    for f in $2; do
        [ -e "$f" ] || continue
        hits=$(grep -nE '^#include "' "$f" | grep -vE "#include \"($3)" || true)
        if [ -n "$hits" ]; then
            printf '%s\n' "$hits" | sed "s|^|$f:|; s|\$|   <- $1 may not include this|"
            bad=1
        fi
    done
}
check base 'engine/base/*.[ch]' 'engine/base/'
check kernel 'engine/kernel/*.[ch]' 'engine/(base|kernel)/'
check io 'engine/io/*.[ch]' 'engine/(base|io)/'
check model 'engine/model/*.[ch]' 'engine/(base|kernel|io|model)/'
check flash 'engine/flash/*.[ch]' 'engine/(base|kernel|io|model|flash)/'
check infer 'engine/infer/*.[ch]' 'engine/(base|kernel|io|model|flash|infer)/'
check train 'engine/train/*.[ch]' 'engine/(base|kernel|io|model|flash|train)/'
check store 'store/*.[ch]' '(engine/base/|store/)'
check recsys 'recsys/*.[ch]' '(recsys/|store/|engine/(base|kernel)/)'
check duo 'engine/duo/*.[ch]' 'engine/(base|kernel|io|model|infer|train|duo)/'
check engine 'engine/*.[ch]' 'engine/'
check evalstat 'eval/stat/*.[ch]' '(engine/base/|eval/stat/)'
check evalreport 'eval/report/*.[ch]' '(engine/base/|eval/)'
check eval 'eval/*.[ch]' '(engine/engine\.h|engine/base/|eval/|store/)'
# The command line (main.c, cli*, options*) wires options to modules; the rest of the server sees
# the facade, eval, store and base only.
for f in server/*.[ch]; do
    case "$f" in
    server/main.c | server/cli*.[ch] | server/options.[ch]) check cli "$f" '(engine|eval|recsys|server)/' ;;
    *) check server "$f" '(engine/engine\.h|engine/base/|eval/|recsys/(recsys|refit)\.h|store/|server/)' ;;
    esac
done
# Foreign headers have one home each.
home() { # header regex, allowed file regex
    hits=$(grep -rnE "#include <($1)" engine eval recsys server store --include='*.[ch]' | grep -vE "^($2):" || true)
    if [ -n "$hits" ]; then
        printf '%s\n' "$hits" | sed 's|$|   <- this header has another home|'
        bad=1
    fi
}
home 'microhttpd' 'server/http[a-z_]*\.[ch]'
home 'jansson' 'engine/base/json\.[ch]'
home 'liburing' 'engine/io/[a-z_]*uring[a-z_]*\.[ch]'
home 'cblas|openblas' 'engine/kernel/blas\.c'
home 'sqlite3' 'store/db_sqlite\.c'
home 'libpq' 'store/db_postgres\.c'
home 'curl/' 'eval/(backend_http\.c|http_sockets\.[ch])'
home 'mpi\.h' 'engine/train/dist_mpi\.c'
home 'pcre2' 'engine/model/tokenizer_pre\.[ch]|engine/model/tokenizer[a-z_]*\.c'
[ $bad -eq 0 ] && echo "layers: ok"
exit $bad
