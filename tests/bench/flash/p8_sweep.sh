#!/bin/bash
# P8: tokens per second over the memory budget, as shares of the plain model's size, against what the plan predicted before
# the start (`strobe estimate`, after one `strobe calibrate` of the same file). Engines: dense, and sparse per mask kind; with
# --mmap 1 also llama.cpp's mapped file and our own mmap mode at each budget. Below a file's least budget there is no point. Pass, for
# dense and sparse: within 25 % of the prediction (medians), and no budget slower than a smaller one by more than the spread.
#   tests/bench/flash/p8_sweep.sh [--quick] [--preset tinyllama] [--active 0.1] [--masks "resident sketch sketch4"]
#       [--shares "35 40 50 60 70 80 100"] [--rounds 3] [--tokens 48] [--dense_tokens 8] [--mmap 1]
#       [--rates 0] [--place none]      as of p7_baselines.sh
# plot.mjs turns the JSON lines (and those of p7_baselines.sh) into a picture.
cd "$(dirname "$0")/../../.." && set -eu
preset=tinyllama active=0.1 masks="resident sketch sketch4" shares="35 40 50 60 70 80 100" rounds=3 tokens=48 dense_tokens=8 mmap=1 rates=0 place=none threads=$(nproc)
opts="preset active masks shares rounds tokens dense_tokens mmap rates place threads"
. tests/bench/flash/lib.sh
flash_args "$@"
[ "$mmap" = 0 ] || flash_peer
exec python3 - <<'PY'
import statistics
from bench import *

rounds, n, few = (1, 16, 4) if QUICK else (count('rounds'), count('tokens'), count('dense_tokens'))
shares = [int(s) for s in each('shares')][::3 if QUICK else 1]
plain = synth(arg('preset'), 'relu', 'f16', arg('active'))
opt = arg('preset').startswith('opt')
silu = None if opt else plain if os.path.getsize(plain) > 10e9 else synth(arg('preset')) # as P7 says
packs = {m: rated(plain, m, arg('place')) if arg('rates') != '0' else packed(plain, m) for m in each('masks')}
size = os.path.getsize(plain)
machine(plain)
calibrate(plain)
points, predicted = {}, {}


def point(name, share, d):
    points.setdefault((name, share), []).append(d['tokens_per_second'])


def ours(name, share, file, ram, tokens, *words, limit=None, flash='auto', predict=True):
    p = plan(file, ram, 512, flash)
    if not p['fits']:
        if (name, share) not in predicted:
            record(kind='skipped', engine=name, share=share, least=p['least_bytes'], ram=ram)
        predicted[name, share] = None
        return
    d = generate(file, ram, tokens, *FREE_RUN, '--flash', flash, *words, limit=limit or int(ram * 1.0))
    predicted[name, share] = p['tokens_per_second'] if predict else None
    point(name, share, record(kind='run', engine=name, share=share, ram=ram, tokens=tokens, predicted=predicted[name, share], limit=p['limit'],
                              mode=d['flash']['mode'], **figures(d)))


def llama(share, cap):
    run, group = capped(cap, [E['PEER'], E['PEER_LIBS'], silu, arg('threads'), 0, few, 1], [silu], env={'LD_LIBRARY_PATH': E['PEER_LIBS']})
    if run.returncode == 0:
        rate = json.loads(run.stdout.splitlines()[-1])['tokens_per_second']
        point('llama mmap', share, record(kind='run', engine='llama mmap', share=share, ram=cap, tokens=few, tokens_per_second=rate,
                                          group_peak=group['peak'], major_faults=group['major_faults']))
    else:
        record(kind='skipped', engine='llama mmap', share=share, reason=run.stderr.strip()[-200:], group=group)


naive = least(plain, 512, 'dense')
for _ in range(rounds):
    for share in shares:
        cap = int(size * share / 100)
        if arg('mmap') != '0' and E.get('PEER') and not opt:
            llama(share, cap)
        if arg('mmap') != '0':
            ours('our mmap', share, plain, naive, few, '--source', 'mmap', limit=cap, flash='dense', predict=False)
        ours('dense naive', share, plain, naive, few, limit=cap, flash='dense') if share == shares[len(shares) // 2] else None
        ours('dense', share, plain, cap, few if share < 100 else n)
        for m, f in packs.items():
            ours(f'sparse {m}', share, f, cap, n)
        record(kind='disk', bytes_per_second=disk(plain, 2 << 20, 32)['bytes_per_second'])
    ours('resident', 130, plain, int(size * 1.3), n)
    for f in list(packs.values())[-1:]:
        ours('resident packed', 130, f, int(size * 1.3), n)
rows, misses = [], []
for (name, share), v in sorted(points.items(), key=lambda kv: (kv[0][0], kv[0][1])):
    m, p = statistics.median(v), predicted.get((name, share))
    low = [statistics.median(points[k]) for k in points if k[0] == name and k[1] < share]
    error = f'{(m / p - 1) * 100:+.0f} %' if p else '-'
    if p and abs(m / p - 1) > 0.25:
        misses.append(f'{name} at {share} %: {error}')
    if low and max(low) > max(v) and p:
        misses.append(f'{name} at {share} % is slower than with less')
    rows.append([name, f'{share} %', f'{size * share / 1e8:.0f}', spread(v), f'{p:.2f}' if p else '-', error])
table(['engine', 'budget', 'MB', 'tok/s', 'predicted', 'measured against it'], rows)
print('\nMISS: ' + '; '.join(misses) if misses else '\nPASS: within 25 % of the plan, monotone')
PY
