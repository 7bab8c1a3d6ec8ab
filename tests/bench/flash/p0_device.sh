#!/bin/bash
# P0: does the disk's model hold? `strobe calibrate` says T = N * a + B / BW; independent random reads (disk_rate, one second
# each) at several sizes and depths say what N reads of B bytes really take. Pass: within 20 % at each size's
# fastest depth, which is what a and BW are meant to describe; how much slower the depth is that the model names is a line below.
#   tests/bench/flash/p0_device.sh [--quick] [--file FILE] [--seconds 10] [--sizes "4096 ..."] [--depths "1 8 32 128"] [--rounds 5]
# FILE: at least 64 MiB, better larger than the disk's own caches (default: the synthetic tinyllama F16 model).
cd "$(dirname "$0")/../../.." && set -eu
file='' seconds=10 sizes="4096 8192 16384 32768 65536 131072 262144 1048576" depths="1 8 32 128" rounds=5 threads=2
opts="file seconds sizes depths rounds threads"
. tests/bench/flash/lib.sh
flash_args "$@"
exec python3 - <<'PY'
import statistics, tempfile
from bench import *

file = arg('file') or synth('tinyllama')
rounds = 1 if QUICK else count('rounds')
sizes = [int(s) for s in each('sizes')][::3 if QUICK else 1]
machine(file)
models, times = [], {}
with tempfile.TemporaryDirectory() as data:
    for _ in range(rounds): # interleaved: the disk's speed changes over minutes
        run = subprocess.run([STROBE, 'calibrate', file, '--json', '-q', '--data', data, '--seconds', '3' if QUICK else arg('seconds')],
                             capture_output=True, text=True, check=True)
        model = record(kind='model', **json.loads(run.stdout))
        models.append(model)
        for size in sizes:
            for depth in sorted({int(d) for d in each('depths')} | {min(model['depth'], 128)}) # what disk_rate can:
                d = disk(file, size, depth, 1, 'random')
                each_s = d['seconds'] / d['reads']
                predicted = model['seconds_per_read'] + size / model['bytes_per_second']
                record(kind='reads', size=size, depth=depth, seconds_per_read=each_s, predicted=predicted)
                times.setdefault((size, depth), []).append((each_s, predicted))
show = lambda key, scale: spread([m[key] * scale for m in models])
print(f"\nmodel: a {show('seconds_per_read', 1e6)} us, BW {show('bytes_per_second', 1e-9)} GB/s, sequential "
      f"{show('sequential_bytes_per_second', 1e-9)} GB/s, depth {models[-1]['depth']}, largest residual {show('fit_error', 100)} %\n")
rows, worst, slower = [], 0, []
took = {key: statistics.median(t for t, _ in v) for key, v in times.items()}
for (size, depth), v in sorted(times.items()):
    fastest = min(t for (s, _), t in took.items() if s == size)
    error = statistics.median(p / t - 1 for t, p in v)
    best = took[size, depth] == fastest
    worst = max(worst, abs(error)) if best else worst
    if depth == min(models[-1]['depth'], 128):
        slower.append(took[size, depth] / fastest)
    rows.append([size, f'{depth}{" *" if best else ""}', spread([t * 1e6 for t, _ in v], 1), spread([p * 1e6 for _, p in v], 1), f'{error * 100:+.0f} %'])
table(['bytes', 'depth', 'us per read', 'predicted at the best depth', 'error'], rows)
print(f"\n{'PASS' if worst <= 0.2 else 'MISS'}: at the fastest depth (*) the largest error is {worst * 100:.0f} %")
print(f"at the model's depth reads take {min(slower):.2f} to {max(slower):.2f} times as long as at the fastest one")
PY
