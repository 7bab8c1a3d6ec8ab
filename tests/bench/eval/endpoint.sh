#!/bin/bash
# The runner against a mock endpoint that answers after 10 ms: how near it comes to the ideal rate (window / latency), and how much
# memory grows.
#   tests/bench/eval/endpoint.sh [--items 5000] [--concurrency 64] [--latency-ms 10]
# Ideal is what the mock alone gives to the same window of kept connections, driven by a bare load generator (wrk), where wrk is
# installed; else window / latency. Needs a release build (STROBE_BUILD, default build/release) with -Dtests=true.
set -eu
cd "$(dirname "$0")/../../.."
build=${STROBE_BUILD:-build/release}
items=5000 window=64 latency=10
while [ $# -gt 0 ]; do
    case $1 in
    --items) items=$2; shift 2 ;;
    --concurrency) window=$2; shift 2 ;;
    --latency-ms) latency=$2; shift 2 ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "endpoint.sh: unknown word '$1'" >&2; exit 2 ;;
    esac
done
work=$(mktemp -d)
mkfifo "$work/in"
sleep 600 >"$work/in" &
holder=$!
trap 'kill $holder 2>/dev/null || true; wait 2>/dev/null; rm -rf "$work"' EXIT
"$build/tests/support/mock_llm" --latency-ms "$latency" <"$work/in" >"$work/mock" &
for _ in $(seq 100); do grep -q listening "$work/mock" && break; sleep 0.05; done
port=$(sed 's/.* //' "$work/mock")
ideal=$(awk -v w="$window" -v l="$latency" 'BEGIN {print w * 1000 / l}')
sets=$((items / 50 + 1))
run() { # items, name
    "$build/server/strobe" eval run --endpoint "http://127.0.0.1:$port" --model "$2" --data "$work/data" --variant both -n "$sets" \
        --limit "$1" --concurrency "$window" --max-tokens 64 --json -q &
    local pid=$! peak=0 first=0 now
    while kill -0 $pid 2>/dev/null; do
        now=$(awk '/^RssAnon/ {print $2}' /proc/$pid/status 2>/dev/null || echo 0)
        [ "${now:-0}" -gt "$peak" ] && peak=$now
        [ "$first" = 0 ] && [ "${now:-0}" -gt 2000 ] && first=$now
        sleep 0.02
    done
    wait $pid
    echo "$first $peak" >"$work/rss"
}
run "$items" bench >"$work/out"
read -r first peak <"$work/rss"
rate=$(sed 's/.*"per_second":\([0-9.]*\).*/\1/' "$work/out")
echo "items=$items window=$window latency_ms=$latency rate=$rate ideal=$ideal share=$(awk -v r="$rate" -v i="$ideal" 'BEGIN {printf "%.3f", r / i}') rss_first_kb=$first rss_peak_kb=$peak"
