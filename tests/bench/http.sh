#!/bin/bash
# GET /health/live of `strobe serve` against the bare library (http_hello.c), both under wrk, interleaved round by round.
#   tests/bench/http.sh [--rounds 4] [--seconds 3] [--connections "1 64 128 512 1024"] [--threads 1]
# Prints one JSON line per measurement, then a table of medians with their spread and the ratio. Needs: a release build
# (STROBE_BUILD, default build/release), gcc, libmicrohttpd-dev, wrk, python3. The bare server's column shows a defect of the
# library: at connection counts that are a multiple of 128 its epoll mode waits for events while 128 of them lie unread.
set -eu
cd "$(dirname "$0")/../.."
build=${STROBE_BUILD:-build/release}
dir=${STROBE_BENCH_DIR:-build/bench}
rounds=4 seconds=3 connections="1 64 128 512 1024" threads=1
while [ $# -gt 0 ]; do
    case $1 in
    --rounds) rounds=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --connections) connections=$2; shift 2 ;;
    --threads) threads=$2; shift 2 ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "http.sh: unknown word '$1'" >&2; exit 2 ;;
    esac
done
command -v wrk >/dev/null || { echo "http.sh: wrk is missing (Debian package wrk)" >&2; exit 1; }
mkdir -p "$dir"
gcc -O2 -o "$dir/http_hello" tests/bench/http_hello.c -lmicrohttpd
ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
work=$(mktemp -d)
pids=
trap 'for p in $pids; do kill "$p" 2>/dev/null || true; done; wait; rm -rf "$work"' EXIT

start() { # name, command...
    local name=$1
    shift
    "$@" >"$work/$name" 2>"$work/$name.log" &
    pids="$pids $!"
    for _ in $(seq 100); do
        grep -q 'listening on' "$work/$name" && return
        sleep 0.05
    done
    cat "$work/$name.log" >&2
    exit 1
}
start bare "$dir/http_hello"
start strobe "$build/server/strobe" serve --port 0 --data "$work/data"

echo "# $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg), $(git rev-parse --short HEAD 2>/dev/null || true)" >&2
for r in $(seq "$rounds"); do
    for c in $connections; do
        for name in bare strobe; do
            url=$(sed -n 's/^listening on //p' "$work/$name")/health/live
            wrk -t"$threads" -c"$c" -d"${seconds}s" --latency "$url" >"$work/wrk"
            python3 - "$work/wrk" "$name" "$c" "$r" <<'PY'
import json, re, sys
text, name, c, r = open(sys.argv[1]).read(), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
unit = {'us': 1e-3, 'ms': 1, 's': 1e3, 'm': 6e4}
def quantile(q):
    v, u = re.search(q + r'%\s+([\d.]+)(us|ms|s|m)\b', text).groups()
    return round(float(v) * unit[u], 3)
errors = sum(map(int, re.findall(r'(?:connect|read|write|timeout) (\d+)', text))) + sum(map(int, re.findall(r'Non-2xx or 3xx responses: (\d+)', text)))
print(json.dumps({'server': name, 'connections': c, 'round': r, 'requests_per_second': float(re.search(r'Requests/sec:\s+([\d.]+)', text).group(1)),
                  'p50_ms': quantile('50'), 'p99_ms': quantile('99'), 'errors': errors}))
PY
        done
    done
done | tee "$work/lines"
python3 - "$work/lines" <<'PY'
import json, statistics, sys
lines = [json.loads(t) for t in open(sys.argv[1])]
def cell(c, s):
    rows = [t for t in lines if t['connections'] == c and t['server'] == s]
    v = [t['requests_per_second'] for t in rows]
    m = statistics.median(v)
    return m, f"{m:.0f} [{min(v):.0f}..{max(v):.0f}] p99 {statistics.median(t['p99_ms'] for t in rows):.1f} ms, {sum(t['errors'] for t in rows)} errors"
print('connections | bare library, requests/s | strobe, requests/s | ratio per round, median [least..most]')
for c in dict.fromkeys(t['connections'] for t in lines):
    pick = lambda s: [t['requests_per_second'] for t in lines if t['connections'] == c and t['server'] == s]
    ratio = [b / a for a, b in zip(pick('bare'), pick('strobe'))]
    print(c, cell(c, 'bare')[1], cell(c, 'strobe')[1], f"{statistics.median(ratio):.2f} [{min(ratio):.2f}..{max(ratio):.2f}]", sep=' | ')
PY
