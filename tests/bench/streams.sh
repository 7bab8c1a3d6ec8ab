#!/bin/bash
# Event streams of a running server: what idle ones cost, how long a token takes to the client's socket, how fast a slot is free
# again when a client leaves.
#   tests/bench/streams.sh [--idle 1000] [--seconds 22] [--aborts 50] [--rounds 5] [--rt] [-m MODEL.gguf] [--large FILE.gguf]
# -m: a model whose tokens take no time (default: stories260K in the shared data). --large: one whose layers take real time, for
# idle streams (they wait behind its busy slot), aborts and tokens too (default: a synthetic 110m file, in $STROBE_BENCH_DIR).
# --rt: the net thread runs with real-time priority (needs root), for a machine that is busy with other work.
# Goals: idle streams under 5 % of a core; 99 % of tokens in the socket within 1 ms; a slot free within 100 ms.
# Prints one JSON line per measurement, then a table. Needs a release build with -Dtests=true in $STROBE_BUILD (default
# build/bench/tree) and python3.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=${STROBE_BENCH_DIR:-build/bench}
build=${STROBE_BUILD:-$dir/tree}
idle=1000 seconds=22 aborts=50 rounds=5 rt= large=
model=${STROBE_TEST_DATA:-../shared/data}/models/stories260K/stories260K.gguf
while [ $# -gt 0 ]; do
    case $1 in
    --idle) idle=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --aborts) aborts=$2; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --rt) rt=1; shift ;;
    -m) model=$2; shift 2 ;;
    --large) large=$2; shift 2 ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "streams.sh: unknown word '$1'" >&2; exit 2 ;;
    esac
done
mkdir -p "$dir"
[ -f "$build/build.ninja" ] || meson setup "$build" --buildtype=release -Dtests=true >/dev/null
ninja -C "$build" server/strobe tests/bench/stream_client tests/bench/synth_gguf >/dev/null
if [ -z "$large" ]; then
    large=$dir/110m.gguf
    [ -s "$large" ] || "$build/tests/bench/synth_gguf" --preset 110m --seed 1 "$large"
fi
ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pid=

start() { # options...
    : >"$work/out"
    "$build/server/strobe" serve --port 0 --data "$work/data" "$@" >"$work/out" 2>"$work/log" &
    pid=$!
    for _ in $(seq 200); do
        port=$(sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$work/out")
        [ -n "$port" ] && break
        sleep 0.05
    done
    [ -n "$port" ] || { cat "$work/log" >&2; exit 1; }
    [ -z "$rt" ] || chrt -f -p 5 "$(grep -l strobe-net /proc/$pid/task/*/comm | cut -d/ -f5)"
}
stop() {
    kill "$pid"
    wait "$pid" || true
    pid=
}
# Holds the idle streams and asks the kernel what the server's threads spent meanwhile.
measure_idle() {
    start -m "$large" --ctx 8192 --slots 1 --queue $((idle + 8)) --drain 1
    python3 - "$build/tests/bench/stream_client" "$port" "$pid" "$idle" "$seconds" <<'PY'
import json, os, subprocess, sys, time
client, port, pid, n, seconds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
tick = os.sysconf('SC_CLK_TCK')
def cpu(): # seconds by thread name; the net thread and the watcher are HTTP, the rest computes
    out = {'http': 0, 'compute': 0}
    for t in os.listdir(f'/proc/{pid}/task'):
        stat = open(f'/proc/{pid}/task/{t}/stat').read()
        name, fields = stat[stat.index('(') + 1:stat.rindex(')')], stat[stat.rindex(')') + 2:].split()
        out['http' if name in ('strobe-net', 'strobe-watch') else 'compute'] += (int(fields[11]) + int(fields[12])) / tick
    return out
def rss():
    return 1024 * int(next(l for l in open(f'/proc/{pid}/status') if l.startswith('RssAnon')).split()[1])
def window(what, streams, bytes_more):
    a, at = cpu(), time.monotonic()
    time.sleep(seconds)
    b, took = cpu(), time.monotonic() - at
    print(json.dumps({'what': what, 'streams': streams, 'seconds': round(took, 1), 'http_cpu': (b['http'] - a['http']) / took,
                      'compute_cpu': (b['compute'] - a['compute']) / took, 'bytes_per_stream': bytes_more / max(streams, 1)}), flush=True)
def hold(k):
    p = subprocess.Popen([client, port, 'idle', str(k)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == 'open\n', 'the streams did not open'
    return p
first = hold(1)
time.sleep(1)
window('alone', 0, 0)
before = rss() # the cache of the running stream grows too: read right before and after
rest = hold(n)
window('idle', n, rss() - before)
for p in (rest, first):
    p.stdin.close()
    sent = json.loads(p.stdout.read())
    if p is rest:
        assert sent['token_events'] == 0, 'a waiting stream got tokens: the slot was not busy all the time'
PY
    stop
}
measure_tokens() { # model, tokens per stream
    start -m "$1" --ctx 512 --slots 16
    python3 - "$build/tests/bench/stream_client" "$port" "$rounds" "${rt:-0}" "$(basename "$1" .gguf)" "$2" <<'PY'
import json, re, subprocess, sys, urllib.request
client, port, rounds, rt = sys.argv[1], sys.argv[2], int(sys.argv[3]), bool(int(sys.argv[4]))
model, tokens = sys.argv[5], sys.argv[6]
def buckets():
    text = urllib.request.urlopen(f'http://127.0.0.1:{port}/metrics').read().decode()
    return [(float(le), int(v)) for le, v in re.findall(r'^strobe_token_to_socket_seconds_bucket\{le="([^"]+)"\} (\d+)', text, re.M)]
def bound(rows, q): # the bucket's upper bound that holds the share q of the events
    return next((1e3 * le for le, v in rows if v >= q * rows[-1][1]), None)
for _ in range(rounds):
    for n in (1, 16):
        a = buckets()
        got = json.loads(subprocess.run([client, port, 'tokens', str(n), tokens], capture_output=True, text=True, check=True).stdout)
        rows = [(le, v - w) for (le, v), (_, w) in zip(buckets(), a)]
        within = next(v for le, v in rows if le == 0.001) / rows[-1][1]
        print(json.dumps({'what': 'tokens', 'model': model, **got, 'sends': rows[-1][1], 'p50_at_most_ms': bound(rows, 0.5), 'p99_at_most_ms': bound(rows, 0.99),
                          'within_1ms': within, 'rt': rt}), flush=True)
PY
    stop
}
measure_aborts() {
    start -m "$large" --ctx 2048 --slots 1
    "$build/tests/bench/stream_client" "$port" abort "$aborts" | sed 's/^{/{"what": "aborts", /'
    stop
}
echo "# $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg), $(git rev-parse --short HEAD 2>/dev/null || true)" >&2
{
    trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; wait' EXIT # the pipe's own shell: it knows the server
    measure_idle
    measure_tokens "$model" 450
    measure_tokens "$large" 100
    measure_aborts
} | tee "$work/lines"
python3 - "$work/lines" <<'PY'
import json, statistics as st, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
of = lambda what: [r for r in rows if r['what'] == what]
alone, idle = of('alone')[0], of('idle')[0]
print('figure | value | goal')
print(f"CPU of the HTTP threads, {idle['streams']} idle streams | {100 * idle['http_cpu']:.2f} % of a core (none: {100 * alone['http_cpu']:.2f} %) | < 5 %")
print(f"memory per idle stream | {idle['bytes_per_stream'] / 1024:.1f} KiB |")
for model, n in sorted({(r['model'], r['streams']) for r in of('tokens')}):
    t = [r for r in of('tokens') if (r['model'], r['streams']) == (model, n)]
    print(f"token to socket, {model}, {n} streams | p50 <= {st.median(r['p50_at_most_ms'] for r in t):g} ms, p99 <= {st.median(r['p99_at_most_ms'] for r in t):g} ms, "
          f"within 1 ms {100 * st.median(r['within_1ms'] for r in t):.2f} % ({100 * min(r['within_1ms'] for r in t):.2f}..{100 * max(r['within_1ms'] for r in t):.2f}) | 99 %")
a = of('aborts')[0]
print(f"abort to free slot, {a['aborts']} aborts, a token takes {a['token_ms']:.0f} ms | p50 {a['free_p50_ms']:.1f} ms, p99 {a['free_p99_ms']:.1f} ms, max {a['free_max_ms']:.1f} ms | < 100 ms")
PY
