#!/bin/bash
# Sweeps of `strobe recsys` beside hpfrec's on the same simulated pairs, one core each, single precision:
#   tests/bench/recsys/hpfrec.sh BUILD_DIR [PYTHON]
# PYTHON (default python3, or $HPFREC_PYTHON) must be able to import hpfrec, e.g. with PYTHONPATH set to where it was built. Without
# one this says so and skips. About three minutes on a quiet core; processor time, difference of two run lengths, best of three.
set -u
cd "$(dirname "$0")/../../.." || exit 1
build=${1:?which build directory?}
python=${2:-${HPFREC_PYTHON:-python3}}
"$python" -c 'import hpfrec' 2>/dev/null || {
    echo "SKIPPED: '$python' cannot import hpfrec: nothing to compare with (PYTHONPATH=FOLDER names where it was built)"
    exit 0
}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cat >"$tmp/time.py" <<'END'
import sys, time
import pandas
from hpfrec import HPF

pairs = pandas.read_csv(sys.argv[1], sep="\t", names=["UserId", "ItemId"]).groupby(["UserId", "ItemId"]).size().reset_index(name="Count")
k, few, many = int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])


def seconds(n):
    m = HPF(k=k, maxiter=n, stop_crit="maxiter", check_every=n, ncores=1, use_float=True, verbose=False, random_seed=1,
            keep_data=False, produce_dicts=False, keep_all_objs=False)
    at = time.process_time()
    m.fit(pairs.copy())
    return time.process_time() - at


best = min((seconds(many) - seconds(few)) / (many - few) for _ in range(3))
print("%d %.6f" % (len(pairs), best))
END
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
compare() { # USERS ITEMS EVENTS K OUR_SWEEPS FEW MANY
    local ours theirs
    ours=$("$build/tests/bench/recsys_bench" "$1" "$2" "$3" "$4" 1 hpf "$5" "$tmp/pairs.tsv") || exit 1
    theirs=$("$python" "$tmp/time.py" "$tmp/pairs.tsv" "$4" "$6" "$7" 2>/dev/null) || {
        echo "hpfrec failed on $1 x $2"
        return 1
    }
    echo "$ours" | awk -v theirs="$theirs" -v k="$4" -v name="$1 x $2" '{
        match($0, /[0-9.]+ ns cpu/); mine = substr($0, RSTART, RLENGTH) + 0
        split(theirs, t, " "); other = t[2] * 1e9 / (t[1] * k)
        printf "%-16s %9d pairs, K = %-3d  hpfrec %7.2f ns, strobe %6.3f ns per (pair x factor): %5.0f x%s\n", name, t[1], k, other, mine, other / mine, (other / mine < 30 ? "  BELOW 30" : "") }'
}
compare 943 1682 100000 20 300 5 25
compare 943 1682 100000 64 300 5 15
compare 20000 10000 1000000 64 12 2 5
