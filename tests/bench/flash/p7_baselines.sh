#!/bin/bash
# P7: tokens per second with memory for half the model (--share), every engine in a memory cgroup of the same size, interleaved:
#   llama mmap      llama.cpp on its mapped file (node-llama-cpp's build; SiLU file of the same shape, where it knows the architecture)
#   our mmap        our kernels, nothing pinned, weights copied out of a mapping; the rest of the cap is page cache
#   dense naive     our streaming with nothing pinned (r = 0)
#   dense           our streaming with what fits pinned
#   sparse          a packed ReLU file, one per mask kind that fits
#   paper           the published scheme on the same packed file (LLM in a flash, sec. 3): a window of 5 tokens, bundles, no overlap of
#                   reads and computing; the 4-bit sketch stands for the predictor, with --paper_sigma set so that it lets 2.2 neurons pass for one that fires (published: 3 for OPT)
#   resident        all in memory, no cap: the ceiling. Both the plain file and the packed one (which skips neurons, too).
# Speeds are of decoding, sampled text of --tokens (sparse, resident) or --dense-tokens tokens after a short prompt.
# With --rates 1 packed files carry the firing rates of a recorded text, as a user would pack them; --place is given to pack then.
# Of files above 3 GB llama.cpp gets the ReLU file, whose bytes and products are the same (it computes SiLU).
#   tests/bench/flash/p7_baselines.sh [--quick] [--preset tinyllama] [--active 0.1] [--masks "resident sketch sketch4"] [--share 0.5]
#       [--rounds 5] [--tokens 64] [--dense_tokens 8] [--paper_sigma 12] [--type f16] [--rates 0] [--place none] [--skip "engine, engine"]
cd "$(dirname "$0")/../../.." && set -eu
preset=tinyllama active=0.1 masks="resident sketch sketch4" share=0.5 rounds=5 tokens=64 dense_tokens=8 paper_sigma=12 type=f16 rates=0 place=none skip= threads=$(nproc)
opts="preset active masks share rounds tokens dense_tokens paper_sigma type rates place skip threads"
. tests/bench/flash/lib.sh
flash_args "$@"
flash_peer
exec python3 - <<'PY'
import statistics
from bench import *

rounds, n, few = (1, 24, 4) if QUICK else (count('rounds'), max(2, count('tokens')), max(2, count('dense_tokens')))  # of one token there is no rate
plain = synth(arg('preset'), 'relu', arg('type'), arg('active'))
size = os.path.getsize(plain)
cap = int(float(arg('share')) * size)
opt = arg('preset').startswith('opt')
silu = None if opt else plain if size > 3e9 else synth(arg('preset'), type=arg('type'))
skip = [w.strip() for w in arg('skip').split(',')]
packs = {m: rated(plain, m, arg('place')) if arg('rates') != '0' else packed(plain, m) for m in each('masks')}
for m in [m for m in packs if plan(packs[m], cap, 512)['least_bytes'] > cap]:
    record(kind='skipped', engine=f'sparse {m}', reason='does not fit', least=plan(packs[m], cap, 512)['least_bytes'], cap=cap)
    del packs[m]
head = machine(plain)
calibrate(plain)


def ours(name, file, ram, tokens, *words, limit=None):
    d = generate(file, ram, tokens, *FREE_RUN, *words, limit=limit)
    return record(kind='run', engine=name, ram_share=float(arg('share')), cap=limit or ram, tokens=tokens, file=os.path.basename(file), **figures(d))


def llama(name, file, limit, tokens, repeat=1):
    run, group = capped(limit, [E['PEER'], E['PEER_LIBS'], file, arg('threads'), 0, tokens, repeat], [file], env={'LD_LIBRARY_PATH': E['PEER_LIBS']})
    if run.returncode:
        record(kind='skipped', engine=name, reason=run.stderr.strip()[-200:], group=group)
        return None
    rate = json.loads(run.stdout.splitlines()[-1])['tokens_per_second']
    return record(kind='run', engine=name, ram_share=float(arg('share')), cap=limit, tokens=tokens, file=os.path.basename(file),
                  tokens_per_second=rate, group_peak=group['peak'], major_faults=group['major_faults'])


naive = least(plain, 512, 'dense')
all_ram = int(size * 1.25) + (600 << 20)
steps = [('llama mmap', lambda: llama('llama mmap', silu, cap, few)),
         ('our mmap', lambda: ours('our mmap', plain, naive, few, '--flash', 'dense', '--source', 'mmap', limit=cap)),
         ('dense naive', lambda: ours('dense naive', plain, naive, few, '--flash', 'dense', limit=cap)),
         ('dense', lambda: ours('dense', plain, cap, few, '--flash', 'dense'))]
steps += [(f'sparse {m}', lambda m=m, f=f: ours(f'sparse {m}', f, cap, n, '--flash', 'sparse')) for m, f in packs.items()]
if 'sketch4' in packs:
    steps += [('sparse sketch4, 2 sigma', lambda: ours('sparse sketch4, 2 sigma', packs['sketch4'], cap, n, '--flash', 'sparse', '--mask-sigma', '2')),
              ('paper', lambda: ours('paper', packs['sketch4'], cap, n, '--flash', 'sparse', '--cache-policy', 'window', '--no-overlap', '--mask-sigma', arg('paper_sigma')))]
steps += [('resident', lambda: ours('resident', plain, all_ram, n, '--flash', 'off'))]
steps += [('resident packed', lambda m=m, f=f: ours(f'resident, packed {m}', f, all_ram, n, '--flash', 'off')) for m, f in list(packs.items())[:1]]
steps += [('llama resident', lambda: llama('llama resident', silu, all_ram, n))]
steps = [f for name, f in steps if name not in skip and not (name.startswith('llama') and (opt or not E.get('PEER')))]
rates = {}
for _ in range(rounds):
    for step in steps:
        d = step()
        if d:
            rates.setdefault(d['engine'], []).append(d)
        record(kind='disk', bytes_per_second=disk(plain, 2 << 20, 32)['bytes_per_second'])
base = {k: statistics.median(d['tokens_per_second'] for d in v) for k, v in rates.items()}
rows = []
for name, v in rates.items():
    per = [d['bytes_read'] / d['tokens'] / 1e6 for d in v if d.get('bytes_read')]
    miss = [d.get('miss_rate') for d in v]
    rows.append([name, spread([d['tokens_per_second'] for d in v]), f"{statistics.median(per):.0f}" if per else '-', spread([m * 100 if m is not None else None for m in miss], 0),
                 f"{max(d['group_peak'] for d in v) / 1e6:.0f}", max(d['major_faults'] for d in v)]
                + [f'{base[name] / base[b]:.2f}' if b in base else '-' for b in ('llama mmap', 'our mmap', 'dense naive', 'dense', 'paper')])
print(f'\ncap {cap / 1e6:.0f} MB of {size / 1e6:.0f} MB ({arg("share")}); {rounds} rounds\n')
table(['engine', 'tok/s', 'MB/token', 'missed %', 'peak MB', 'major faults', 'x llama mmap', 'x our mmap', 'x naive', 'x dense', 'x paper'], rows)
PY
