#!/bin/bash
# How much of a token's time the engine waits for the disk (exposed I/O), and what asking the mask takes: decoding alone, as
# the difference between a long and a short run, so that opening and prompt do not count. Neighbours of P8, per budget. Pass: where
# the plan says that memory is the limit, not the disk, less than a tenth of the time is waited.
#   tests/bench/flash/exposed.sh [--quick] [--preset tinyllama] [--active 0.1] [--mask sketch4] [--shares "40 50 60 70 80"]
#       [--rounds 3] [--tokens 64] [--rates 1] [--place none]      as of p7_baselines.sh
cd "$(dirname "$0")/../../.." && set -eu
preset=tinyllama active=0.1 mask=sketch4 shares="40 50 60 70 80" rounds=3 tokens=64 rates=1 place=none threads=$(nproc)
opts="preset active mask shares rounds tokens rates place threads"
. tests/bench/flash/lib.sh
flash_args "$@"
exec python3 - <<'PY'
import statistics
from bench import *

rounds, n, few = (1, 16, 2) if QUICK else (count('rounds'), count('tokens'), 2)
plain = synth(arg('preset'), 'relu', 'f16', arg('active'))
file = rated(plain, arg('mask'), arg('place')) if arg('rates') != '0' else packed(plain, arg('mask'))
size = os.path.getsize(plain)
machine(plain)
calibrate(plain)


def sums(ram, tokens):
    d = generate(file, ram, tokens, *FREE_RUN, '--flash', 'sparse')
    f = d['flash']
    return [d['timings']['decode_ms'], f['stall_ms'], f['mask_ms'], f['reads'], f['neurons_missed'], f['neurons_guessed'], f['guessed_right']]


rows, misses = [], []
for share in [int(s) for s in each('shares')]:
    ram = int(size * share / 100)
    p = plan(file, ram, 512, 'sparse')
    if not p['fits']:
        record(kind='skipped', share=share, least=p['least_bytes'], ram=ram)
        continue
    runs = []
    for _ in range(rounds):
        short, long = sums(ram, few), sums(ram, few + n)
        d = [(b - a) / n for a, b in zip(short, long)]
        record(kind='run', share=share, ram=ram, limit=p['limit'], **dict(zip(['ms', 'wait_ms', 'mask_ms', 'reads', 'missed', 'guessed', 'right'], d)))
        runs.append(d)
    m = [statistics.median(v) for v in zip(*runs)]
    exposed = [r[1] / r[0] for r in runs]
    if p['limit'] == 'memory bandwidth' and statistics.median(exposed) >= 0.1:
        misses.append(f'{share} %')
    rows.append([f'{share} %', spread([r[0] for r in runs]), f'{m[1]:.2f}', f'{100 * statistics.median(exposed):.1f} %', f'{m[2]:.2f}',
                 f'{m[4]:.0f}', f'{m[5]:.0f}', f'{m[6]:.0f}', f'{m[3]:.0f}', p['limit']])
table(['budget', 'ms a token', 'waits', 'exposed', 'asks masks', 'misses', 'guessed', 'right', 'reads', 'the plan says'], rows)
print('\nMISS: ' + '; '.join(misses) if misses else '\nPASS: below a tenth where the memory is the limit')
PY
