#!/bin/sh
# No function over 100 lines, no file over 1,000 (tables exempt: a line "lint: table" in the first 30).
set -u
cd "$(dirname "$0")/../.." || exit 1
git ls-files 'engine/*.c' 'eval/*.c' 'recsys/*.c' 'server/*.c' 'tests/*.c' | xargs awk '
    FNR == 1 { table = 0; infn = 0 }
    FNR <= 30 && /lint: table/ { table = 1 }
    /^\{/ { start = FNR; infn = 1 }
    /^\}/ { if (infn && FNR - start > 100 && !table) { print FILENAME ":" start ": function of " FNR - start " lines"; bad = 1 } infn = 0 }
    { if (FNR == 1001 && !table) { print FILENAME ": over 1000 lines"; bad = 1 } }
    END { if (!bad) print "sizes: ok"; exit bad }'
