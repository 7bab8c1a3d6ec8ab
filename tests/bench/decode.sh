#!/bin/bash
# Prefill and decode against llama.cpp on the same files, in the same run, interleaved.
#   tests/bench/decode.sh [--preset 110m|tinyllama|7b] [--types "f16 q8_0 q4_0"] [--threads "1 2"] [--rounds 5] [FILE.gguf...]
# Without files it writes synthetic ones (deterministic weights) under $STROBE_BENCH_DIR (default build/bench).
# Prints one JSON line per measurement, then a table of medians and ratios. Needs: a release build (deploy/quickstart.sh builds
# it), npm for the peer (node-llama-cpp ships llama.cpp's binaries; nothing of it is committed).
set -eu
cd "$(dirname "$0")/../.."
dir=${STROBE_BENCH_DIR:-build/bench}
build=${STROBE_BUILD:-build/release}
preset=110m types="f16 q8_0 q4_0" threads="1 2" rounds=5 pp=512 tg=64
files=
while [ $# -gt 0 ]; do
    case $1 in
    --preset) preset=$2; shift 2 ;;
    --types) types=$2; shift 2 ;;
    --threads) threads=$2; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --pp) pp=$2; shift 2 ;;
    --tg) tg=$2; shift 2 ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) files="$files $1"; shift ;;
    esac
done
mkdir -p "$dir"
if [ -z "$files" ]; then
    [ -x "$dir/tree/tests/bench/synth_gguf" ] || {
        meson setup "$dir/tree" --buildtype=release -Dtests=true >/dev/null
        ninja -C "$dir/tree" tests/bench/synth_gguf >/dev/null
    }
    for t in $types; do
        f=$dir/$preset-$t.gguf
        [ -s "$f" ] || "$dir/tree/tests/bench/synth_gguf" --preset "$preset" --type "$t" --seed 1 "$f"
        files="$files $f"
    done
fi
peer=$dir/peer
if [ ! -d "$peer/node_modules" ]; then
    mkdir -p "$peer"
    cp tests/bench/peer/package*.json tests/bench/peer/.npmrc "$peer/"
    (cd "$peer" && npm ci >/dev/null 2>&1)
fi
gcc -O2 -o "$peer/llama_peer" tests/bench/peer/llama_peer.c -ldl
libs=$(ls -d "$peer"/node_modules/@node-llama-cpp/linux-x64/bins/*/)
out=$dir/decode-$(date +%Y%m%d-%H%M%S).jsonl
echo "# $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg), $(git rev-parse --short HEAD 2>/dev/null || true)" >&2
for f in $files; do
    for t in $threads; do
        for _ in $(seq "$rounds"); do
            LD_LIBRARY_PATH=$libs "$peer/llama_peer" "$libs" "$f" "$t" "$pp" "$tg" 1 | sed "s|^{|{\"file\":\"$(basename "$f")\",|"
            "$build/server/strobe" bench -m "$f" --threads "$t" --pp "$pp" --tg "$tg" --repeat 1 --json |
                python3 -c "
import json, sys
d = json.load(sys.stdin)
for r in d['results']:
    print(json.dumps({'file': '$(basename "$f")', 'engine': 'strobe', 'test': r['test'], 'tokens': r['tokens'], 'threads': $t, 'tokens_per_second': r['tokens_per_second']}))"
        done
    done
done | tee "$out" >&2
python3 - "$out" <<'PY'
import collections, json, statistics, sys
rows = collections.defaultdict(list)
for line in open(sys.argv[1]):
    d = json.loads(line)
    rows[d['file'], d['test'], d['threads'], d['engine']].append(d['tokens_per_second'])
print('| file | test | threads | strobe tok/s [min..max] | llama.cpp tok/s [min..max] | ratio of medians |')
print('|---|---|---|---|---|---|')
for f, test, t in sorted({k[:3] for k in rows}):
    a, b = rows[f, test, t, 'strobe'], rows[f, test, t, 'llama.cpp']
    if a and b:
        show = lambda v: f'{statistics.median(v):.1f} [{min(v):.1f}..{max(v):.1f}]'
        print(f'| {f} | {test} | {t} | {show(a)} | {show(b)} | {statistics.median(a) / statistics.median(b):.2f} |')
PY
