#!/bin/bash
# The runner against a mock endpoint that answers after 10 ms: how near it comes to the ideal rate (window / latency), and how much
# memory it takes.
#   tests/bench/eval/endpoint.sh [--items 5000] [--concurrency 64] [--latency-ms 10] [--times 3]
# A line each time. `bare` is what an epoll client that does nothing else reaches against the same mock with the same window, right
# before: the limit of mock, kernel and machine; `share` is of window / latency, `of_bare` of that. rss_growth_kb: peak memory of the
# whole run less that of one with a tenth of the items. Needs a release build (STROBE_BUILD, default build/release) with -Dtests=true.
set -eu
cd "$(dirname "$0")/../../.."
build=${STROBE_BUILD:-build/release}
items=5000 window=64 latency=10 times=3
while [ $# -gt 0 ]; do
    case $1 in
    --items) items=$2; shift 2 ;;
    --concurrency) window=$2; shift 2 ;;
    --latency-ms) latency=$2; shift 2 ;;
    --times) times=$2; shift 2 ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "endpoint.sh: unknown word '$1'" >&2; exit 2 ;;
    esac
done
work=$(mktemp -d)
mkfifo "$work/in"
sleep 900 >"$work/in" &
holder=$!
trap 'kill $holder 2>/dev/null || true; wait 2>/dev/null; rm -rf "$work"' EXIT
"$build/tests/support/mock_llm" --latency-ms "$latency" <"$work/in" >"$work/mock" &
for _ in $(seq 100); do grep -q listening "$work/mock" && break; sleep 0.05; done
port=$(sed 's/.* //' "$work/mock")
load=$build/tests/bench/endpoint_load
run() { # items, name
    "$load" watch "$build/server/strobe" eval run --endpoint "http://127.0.0.1:$port" --model "$2" --data "$work/data" --variant both \
        -n $((items / 50 + 1)) --limit "$1" --concurrency "$window" --max-tokens 64 --json -q >"$work/out" 2>"$work/rss"
}
peak() { sed -n 's/.*rss_peak_kb=\([0-9]*\).*/\1/p' "$work/rss"; }
run $((items / 10)) small
small=$(peak)
for i in $(seq "$times"); do
    bare=$("$load" "$port" "$window" "$items" | sed 's/rate=//')
    run "$items" "bench$i"
    rate=$(sed 's/.*"per_second":\([0-9.]*\).*/\1/' "$work/out")
    awk -v r="$rate" -v b="$bare" -v w="$window" -v l="$latency" -v n="$items" -v g=$(($(peak) - small)) -v cpu="$(sed 's/.*cpu_s=//' "$work/rss")" 'BEGIN {
        printf "items=%d window=%d latency_ms=%d rate=%.0f bare=%.0f ideal=%.0f share=%.3f of_bare=%.3f rss_growth_kb=%d cpu_s=%s\n",
            n, w, l, r, b, w * 1000 / l, r * l / w / 1000, r / b, g, cpu }'
done
