#!/bin/bash
# Streaming from disk: a model of about twice the cap against the device's own sequential rate (the best of four ways to read,
# before each run of strobe), interleaved in one run.
#   tests/bench/stream.sh [--preset tinyllama] [--type f16] [--ram SIZE] [--rounds 5] [--tokens 12] [FILE.gguf]
# Without a file it writes a synthetic one under $STROBE_BENCH_DIR (default build/bench). --ram: half the file unless given.
# Prints one JSON line per measurement, then medians, the ratio and its spread. Needs a release build with -Dtests=true
# in $STROBE_BUILD (default build/bench/tree).
set -eu
cd "$(dirname "$0")/../.."
dir=${STROBE_BENCH_DIR:-build/bench}
build=${STROBE_BUILD:-$dir/tree}
preset=tinyllama type=f16 rounds=5 tokens=12 ram= file=
while [ $# -gt 0 ]; do
    case $1 in
    --preset) preset=$2; shift 2 ;;
    --type) type=$2; shift 2 ;;
    --ram) ram=$2; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --tokens) tokens=$2; shift 2 ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) file=$1; shift ;;
    esac
done
mkdir -p "$dir"
[ -f "$build/build.ninja" ] || meson setup "$build" --buildtype=release -Dtests=true >/dev/null
ninja -C "$build" >/dev/null
if [ -z "$file" ]; then
    file=$dir/$preset-$type.gguf
    [ -s "$file" ] || "$build/tests/bench/synth_gguf" --preset "$preset" --type "$type" --seed 1 "$file"
fi
ram=${ram:-$(($(stat -c %s "$file") / 2))}
out=$dir/stream-$(date +%Y%m%d-%H%M%S).jsonl
echo "# $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg), $(git rev-parse --short HEAD 2>/dev/null || true), --ram $ram" >&2
for _ in $(seq "$rounds"); do
    for way in "1048576 16" "2097152 8" "2097152 32" "4194304 16"; do # PIECE_BYTES DEPTH
        "$build/tests/bench/disk_rate" "$file" $way 1
    done
    "$build/server/strobe" generate -m "$file" -p hello -n "$tokens" --temp 0 --ram "$ram" --json | python3 -c "
import json, sys
d = json.load(sys.stdin)
f, t = d['flash'], d['timings']
seconds = (t['prefill_ms'] + t['decode_ms']) / 1e3
print(json.dumps({'engine': 'strobe', 'tokens_per_second': t['tokens_per_second'], 'bytes_per_second': f['bytes_read'] / seconds,
                  'ram_peak': f['ram_peak'], 'ram_budget': f['ram_budget'], 'stall_share': f['stall_ms'] / 1e3 / seconds}))"
done | tee "$out" >&2
python3 - "$out" <<'PY'
import json, statistics as st, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
all_disk = [r['bytes_per_second'] for r in rows if r['engine'] == 'disk']
disk = [max(all_disk[i : i + 4]) for i in range(0, len(all_disk), 4)]
ours = [r for r in rows if r['engine'] == 'strobe']
ratio = [o['bytes_per_second'] / d for o, d in zip(ours, disk)]
print(f"disk alone   {st.median(disk) / 1e9:.2f} GB/s ({min(disk) / 1e9:.2f} to {max(disk) / 1e9:.2f})")
print(f"strobe       {st.median(o['bytes_per_second'] for o in ours) / 1e9:.2f} GB/s, {st.median(o['tokens_per_second'] for o in ours):.2f} tokens/s")
print(f"ratio        {st.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f})")
print(f"ram          peak {max(o['ram_peak'] for o in ours)} of {ours[0]['ram_budget']}")
PY
