#!/bin/bash
# Start-up of a resident model against the disk: seconds from exec to "listening on" (serve) and load_ms (generate) against the
# time that the device alone takes for the same bytes (the best of four ways to read, before each run of strobe), interleaved.
#   tests/bench/startup.sh [--preset tinyllama] [--type q8_0] [--rounds 5] [--threads N] [FILE.gguf]
# All reads are O_DIRECT, so the page cache plays no part. What does play a part on a virtual machine is the first touch of memory
# that its host took back (freed memory goes within seconds): each round therefore has a first run of generate, "cold", and right
# after it generate and serve in the memory that it left. kernel_s is nearly all page faults, that is the zeroing of new memory.
# Without a file it writes a synthetic one under $STROBE_BENCH_DIR (default build/bench). Prints one JSON line per measurement,
# then medians and ratios (disk time / ours: 1 is the disk's own speed). Needs a release build with -Dtests=true in
# $STROBE_BUILD (default build/bench/tree).
set -eu
cd "$(dirname "$0")/../.."
dir=${STROBE_BENCH_DIR:-build/bench}
build=${STROBE_BUILD:-$dir/tree}
preset=tinyllama type=q8_0 rounds=5 threads=$(nproc) file=
while [ $# -gt 0 ]; do
    case $1 in
    --preset) preset=$2; shift 2 ;;
    --type) type=$2; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --threads) threads=$2; shift 2 ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) file=$1; shift ;;
    esac
done
mkdir -p "$dir"
[ -f "$build/build.ninja" ] || meson setup "$build" --buildtype=release -Dtests=true >/dev/null
ninja -C "$build" server/strobe tests/bench/disk_rate tests/bench/synth_gguf >/dev/null
if [ -z "$file" ]; then
    file=$dir/$preset-$type.gguf
    [ -s "$file" ] || "$build/tests/bench/synth_gguf" --preset "$preset" --type "$type" --seed 1 "$file"
fi
out=$dir/startup-$(date +%Y%m%d-%H%M%S).jsonl
echo "# $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg), $(git rev-parse --short HEAD 2>/dev/null || true), $threads threads, $(stat -c %s "$file") bytes" >&2
for _ in $(seq "$rounds"); do
    for way in "1048576 16" "2097152 8" "2097152 32" "4194304 16"; do # PIECE_BYTES DEPTH
        "$build/tests/bench/disk_rate" "$file" $way 1
    done
    python3 - "$build/server/strobe" "$file" "$threads" <<'PY'
import json, resource, signal, subprocess, sys, tempfile, time

strobe, model, threads = sys.argv[1:]


def usage(before):
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {'user_s': now.ru_utime - before.ru_utime, 'kernel_s': now.ru_stime - before.ru_stime,
            'page_faults': now.ru_minflt - before.ru_minflt}


with tempfile.TemporaryDirectory() as data:
    common = ['-m', model, '--threads', threads, '--data', data, '--flash', 'off']
    for name in ('generate, cold', 'generate'):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run = subprocess.run([strobe, 'generate', '-p', 'hello', '-n', '1', '--temp', '0', '--json', *common],
                             capture_output=True, text=True, check=True)
        d = json.loads(run.stdout)
        print(json.dumps({'engine': name, 'seconds': d['timings']['load_ms'] / 1e3, **usage(before)}))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    serve = subprocess.Popen([strobe, 'serve', '--port', '0', *common], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True)
    try:
        line = serve.stdout.readline()
        took = time.monotonic() - start
    finally:
        serve.send_signal(signal.SIGTERM)
        serve.stdout.close()
        code = serve.wait(timeout=60)
    if 'listening on' not in line or code != 0:
        sys.exit(f'startup: the server said {line!r} and ended with {code}')
    print(json.dumps({'engine': 'serve', 'seconds': took, **usage(before)}))
PY
done | tee "$out" >&2
python3 - "$out" "$(stat -c %s "$file")" <<'PY'
import json, statistics as st, sys
rows, size = [json.loads(line) for line in open(sys.argv[1])], int(sys.argv[2])
rates = [r['bytes_per_second'] for r in rows if r['engine'] == 'disk']
disk = [size / max(rates[i : i + 4]) for i in range(0, len(rates), 4)]
if not disk:
    sys.exit('startup: nothing was measured')
print(f"disk alone     {st.median(disk):.2f} s ({min(disk):.2f} to {max(disk):.2f}), {size / st.median(disk) / 1e9:.2f} GB/s")
for what in ('generate, cold', 'generate', 'serve'):
    ours = [r for r in rows if r['engine'] == what]
    ratio = [d / o['seconds'] for o, d in zip(ours, disk)]
    print(f"{what:14} {st.median(o['seconds'] for o in ours):.2f} s ({min(o['seconds'] for o in ours):.2f} to "
          f"{max(o['seconds'] for o in ours):.2f}), ratio {st.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f}), "
          f"cpu: user {st.median(o['user_s'] for o in ours):.2f} s, kernel {st.median(o['kernel_s'] for o in ours):.2f} s, "
          f"{st.median(o['page_faults'] for o in ours):.0f} faults")
PY
