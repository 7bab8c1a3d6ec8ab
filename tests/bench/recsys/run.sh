#!/bin/bash
# Speed and quality of `strobe recsys`, every table with one command:
#   tests/bench/recsys/run.sh BUILD_DIR [speed|quality|all] [--fresh] [--long]
# Quality needs the shared data (STROBE_TEST_DATA, or shared/data beside the checkout). Tables go to standard output; each row
# of the quality tables is kept in BUILD_DIR/recsys-bench/*.jsonl as soon as it is made, and a second run goes on after the
# last one (--fresh: from the start). About four minutes on two quiet cores; --long: K = 64, 500 sweeps, 2,000 resamples.
set -u
cd "$(dirname "$0")/../../.." || exit 1
build=${1:?which build directory?}
shift
what=all
fresh=
size="-k 32 --iters 150 --bootstrap 1000"
tag=
for word in "$@"; do
    case $word in
    speed | quality | all) what=$word ;;
    --fresh) fresh=1 ;;
    --long) size="-k 64 --iters 500 --bootstrap 2000" tag=-long ;;
    *)
        echo "run.sh: what is '$word'?" >&2
        exit 2
        ;;
    esac
done
data=${STROBE_TEST_DATA:-../shared/data}/recsys
out=$build/recsys-bench
mkdir -p "$out"
strobe=$build/server/strobe
bench=$build/tests/bench/recsys_bench

if [ "$what" != quality ]; then
    echo "== speed: ns per (record x factor); published peers: hpfrec 47 to 56 on one core"
    for k in 20 64 100; do for t in 1 2; do "$bench" 943 1682 100000 $k $t hpf 300; done; done
    for v in hpf hrpf; do
        for t in 1 2; do "$bench" 20000 10000 1000000 64 $t $v; done
    done
    "$bench" 200000 50000 5000000 64 1 hpf 6
    "$bench" 200000 50000 5000000 64 2 hpf 6
fi
[ "$what" = speed ] && exit 0
[ -d "$data" ] || { echo "SKIPPED: the quality tables need $data"; exit 0; }
[ -n "$fresh" ] && rm -f "$out"/*.jsonl

# Last.fm pieces: line i of both files is user i.
awk 'BEGIN { print "user\titem\ttime" }
     FILENAME ~ /event_split/ { for (i = 1; i <= NF; i++) item[FNR, i] = $i; next }
     { for (i = 1; i <= NF; i++) print "u" FNR "\t" item[FNR, i] "\t" $i }' \
    "$data/lastfm-chunks/event_split_1000-test.txt" "$data/lastfm-chunks/time_split_1000-test.txt" >"$out/lastfm.tsv"
nyc="$data/foursquare-nyc/events.tsv --item-column venue --time-column hour --time-unit h --follows $data/foursquare-nyc/friends_old.tsv --both-ways --cluster category"
lastfm="$out/lastfm.tsv --time-unit d --split user --clock user"

# Rows against the figures that an independent implementation measured (one seed): within 0.01?
reference() { # FILE, then lines "name R@1 R@20 NDCG"
    awk 'NR == FNR { want[$1] = $2 " " $3 " " $4; next }
         match($0, /[0-9.]+ \/ [0-9.]+ \/ [0-9.]+/) && ($1 in want) {
             split(substr($0, RSTART, RLENGTH), got, " / "); split(want[$1], w, " "); worst = 0
             for (i = 1; i <= 3; i++) { d = got[i] - w[i]; d = d < 0 ? -d : d; worst = d > worst ? d : worst }
             printf "%-20s %s / %s / %s   reference %s / %s / %s   largest difference %.3f%s\n", $1, got[1], got[2], got[3], w[1], w[2], w[3], worst, (worst > 0.0105 ? "  OFF" : "") }' - "$1"
}
published="--measure wall --start window -k 20 --iters 150 --quick -q --with hpf --with hrpf:1h --with hrpf:1d --with hrpf:7d --with hrpf:30d --with hrpf:1h,1d,7d,60d"
echo "== as published (wall time, fixed scales, 20 factors): recall@1 / recall@20 / NDCG"
echo "Foursquare New York"
"$strobe" recsys evaluate $nyc $published --with hrpf:120d --rows "$out/nyc-published.jsonl" >"$out/nyc-published.txt" || exit 1
reference "$out/nyc-published.txt" <<'END'
hpf 0.044 0.275 0.223
hrpf:1h 0.039 0.279 0.222
hrpf:1d 0.095 0.365 0.285
hrpf:7d 0.165 0.486 0.367
hrpf:30d 0.209 0.556 0.414
hrpf:120d 0.220 0.582 0.431
hrpf:1h,1d,7d,60d 0.197 0.572 0.413
END
echo "Last.fm"
"$strobe" recsys evaluate $lastfm ${published/--start window/} --with hrpf:14d --rows "$out/lastfm-published.jsonl" >"$out/lastfm-published.txt" || exit 1
reference "$out/lastfm-published.txt" <<'END'
hpf 0.020 0.185 0.194
hrpf:1h 0.015 0.337 0.251
hrpf:1d 0.061 0.593 0.360
hrpf:7d 0.115 0.802 0.437
hrpf:30d 0.120 0.785 0.422
hrpf:14d 0.127 0.809 0.439
hrpf:1h,1d,7d,60d 0.060 0.799 0.408
END

# The default settings are searched on the last fifth of the training events, as the tuned baselines' are; the test part is
# measured once. hrpf:1h,1d,7d,60d: the same model with generic scales and no search.
echo "== every baseline and the default (first model), equal factors ($size), settings chosen on training events only"
variants="--with hrpf --with hrpf:1h,1d,7d,60d --with drpf"
echo "Foursquare New York"
"$strobe" recsys evaluate $nyc $size $variants --with srpf --with iirpf --with xiirpf --rows "$out/nyc$tag.jsonl" | tee "$out/nyc.txt"
echo "Last.fm"
"$strobe" recsys evaluate $lastfm $size $variants --rows "$out/lastfm$tag.jsonl" | tee "$out/lastfm.txt"
echo "== frozen: test events update nothing"
"$strobe" recsys evaluate $nyc $size --tune 0 --with hrpf -q --quick --frozen --rows "$out/nyc-frozen$tag.jsonl" | grep -v '^ \|^return'
"$strobe" recsys evaluate $lastfm $size --tune 0 --with hrpf -q --quick --frozen --rows "$out/lastfm-frozen$tag.jsonl" | grep -v '^ \|^return'
if command -v node >/dev/null; then
    node tests/bench/recsys/plot.mjs --out "$out/recall.svg" "Foursquare New York=$out/nyc$tag.jsonl" "Last.fm=$out/lastfm$tag.jsonl"
    echo "plot: $out/recall.svg (README: docs/recsys-recall.svg)"
fi
