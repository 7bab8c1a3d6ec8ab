#!/bin/bash
# Speed and quality of `strobe recsys`, every table with one command:
#   tests/bench/recsys/run.sh BUILD_DIR [speed|quality|all]
# Quality needs the shared data (STROBE_TEST_DATA, or shared/data beside the checkout). Tables go to
# standard output; the JSON of the evaluations and a plot go to BUILD_DIR/recsys-bench.
set -u
cd "$(dirname "$0")/../../.." || exit 1
build=${1:?which build directory?}
what=${2:-all}
data=${STROBE_TEST_DATA:-../shared/data}/recsys
out=$build/recsys-bench
mkdir -p "$out"
strobe=$build/server/strobe
bench=$build/tests/bench/recsys_bench

if [ "$what" != quality ]; then
    echo "== speed: ns per (record x factor); published peers: hpfrec 47 to 56 on one core"
    for k in 20 50 64 100; do "$bench" 943 1682 100000 $k 1 hpf 30; done
    for v in hpf hrpf; do
        for t in 1 2; do "$bench" 20000 10000 1000000 64 $t $v; done
    done
    "$bench" 200000 50000 5000000 64 1 hpf 6
    "$bench" 200000 50000 5000000 64 2 hpf 6
fi
[ "$what" = speed ] && exit 0
[ -d "$data" ] || { echo "SKIPPED: the quality tables need $data"; exit 0; }

# Last.fm pieces: line i of both files is user i.
awk 'BEGIN { print "user\titem\ttime" }
     FILENAME ~ /event_split/ { for (i = 1; i <= NF; i++) item[FNR, i] = $i; next }
     { for (i = 1; i <= NF; i++) print "u" FNR "\t" item[FNR, i] "\t" $i }' \
    "$data/lastfm-chunks/event_split_1000-test.txt" "$data/lastfm-chunks/time_split_1000-test.txt" >"$out/lastfm.tsv"
nyc="$data/foursquare-nyc/events.tsv --item-column venue --time-column hour --time-unit h --follows $data/foursquare-nyc/friends_old.tsv --both-ways --cluster category"
lastfm="$out/lastfm.tsv --time-unit d --split user --clock user"

echo "== as published (wall time, one scale), 20 factors: compare with reference/rpf.md 2.1"
published="--measure wall -k 20 --quick --with hpf --with hrpf:1h --with hrpf:1d --with hrpf:7d --with hrpf:30d --with hrpf:1h,1d,7d,60d"
echo "Foursquare New York"
"$strobe" recsys evaluate $nyc $published --with hrpf:120d -q
echo "Last.fm"
"$strobe" recsys evaluate $lastfm $published --with hrpf:14d -q

echo "== baselines and the default settings, with intervals"
echo "Foursquare New York"
"$strobe" recsys evaluate $nyc --with hrpf --with srpf --with iirpf --bootstrap 200 -q | tee "$out/nyc.txt"
"$strobe" recsys evaluate $nyc --with hrpf -q --quick --frozen
echo "Last.fm"
"$strobe" recsys evaluate $lastfm --with hrpf --bootstrap 200 -q | tee "$out/lastfm.txt"
"$strobe" recsys evaluate $lastfm --with hrpf -q --quick --frozen

# A plot of recall@20: one bar per method, both data sets.
for set in nyc lastfm; do
    awk -v set=$set 'BEGIN { y = 30; print "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"640\" height=\"460\" font-family=\"sans-serif\" font-size=\"12\"><text x=\"10\" y=\"18\">recall@20, " set "</text>" }
        match($0, /[0-9.]+ \/ [0-9.]+ \/ [0-9.]+/) && !/^ *(return|method|own median|user)/ {
            name = substr($0, 1, RSTART - 1); sub(/ +$/, "", name)
            split(substr($0, RSTART, RLENGTH), v, " / ")
            c = name ~ /^(hrpf|srpf|drpf|iirpf)/ ? "#2b6cb0" : "#a0aec0"
            printf "<text x=\"10\" y=\"%d\">%s</text><rect x=\"260\" y=\"%d\" width=\"%.1f\" height=\"16\" fill=\"%s\"/><text x=\"%.1f\" y=\"%d\">%s</text>\n", y + 13, name, y, v[2] * 320, c, 266 + v[2] * 320, y + 13, v[2]
            y += 24 }
        END { print "</svg>" }' "$out/$set.txt" >"$out/$set.svg"
done
echo "plots: $out/nyc.svg $out/lastfm.svg"
