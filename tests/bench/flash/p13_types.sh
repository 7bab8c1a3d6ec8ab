#!/bin/bash
# P13: packed models of 16, 8 and 4 bits: bytes, reads and tokens per second at the same share of each file's own plain size, so that
# fewer bits show as what they are, fewer bytes but not fewer reads.
#   tests/bench/flash/p13_types.sh [--quick] [--preset tinyllama] [--active 0.1] [--types "f16 q8_0 q4_0"] [--mask resident] [--share 0.6]
#       [--rounds 5] [--tokens 48]
cd "$(dirname "$0")/../../.." && set -eu
preset=tinyllama active=0.1 types="f16 q8_0 q4_0" mask=resident share=0.6 rounds=5 tokens=48 threads=$(nproc)
opts="preset active types mask share rounds tokens threads"
. tests/bench/flash/lib.sh
flash_args "$@"
exec python3 - <<'PY'
import statistics
from bench import *

n, rounds = (16, 1) if QUICK else (count('tokens'), count('rounds'))
files = {}
for t in each('types'):
    plain = synth(arg('preset'), 'relu', t, arg('active'))
    files[t] = (packed(plain, arg('mask')), os.path.getsize(plain))
machine(files[each('types')[0]][0])
got = {}
for _ in range(rounds):
    for t, (file, size) in files.items():
        ram = max(int(float(arg('share')) * size), least(file, 512))
        d = generate(file, ram, n, *FREE_RUN, '--flash', 'sparse')
        stride = strobe('inspect', file)['metadata']['strobe.pack.stride']
        got.setdefault(t, []).append(record(kind='run', type=t, ram=ram, plain_bytes=size, tokens=n, bundle_bytes=stride, **figures(d)))
rows = []
for t, v in got.items():
    r = v[-1]
    rows.append([t, f"{r['ram'] / 1e6:.0f} ({r['ram'] / r['plain_bytes'] * 100:.0f} %)", r['bundle_bytes'], spread([x['tokens_per_second'] for x in v]),
                 f"{r['bytes_read'] / n / 1e6:.1f}", f"{r['reads'] / n:.0f}", f"{r['bytes_read'] / max(r['reads'], 1) / 1024:.1f}", f"{r['miss_rate'] * 100:.0f} %",
                 f"{r['reads'] / n * statistics.median(x['tokens_per_second'] for x in v):.0f}"])
table(['type', 'RAM MB', 'bundle', 'tok/s', 'MB/token', 'reads/token', 'KiB/read', 'missed', 'reads/s'], rows)
PY
