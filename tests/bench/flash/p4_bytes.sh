#!/bin/bash
# P4: do our counters of bytes read say what the kernel says? The difference between a short and a long run (so that loading
# does not count), ours (`generate --json`, flash.bytes_read) against the kernel's account of the process (ru_inblock, that
# is read_bytes of /proc/PID/io) and against the block device's own statistics (shared with whatever else reads it: an upper
# bound). Pass: within 2 % of the process's account. Also per token: reads, mean extent, bytes read over bytes of missed neurons.
#   tests/bench/flash/p4_bytes.sh [--quick] [--preset tinyllama] [--active 0.1] [--masks "sketch sketch4"] [--tokens 40] [--share 0.5]
#       [--sources "uring pread"] [--rounds 3]
cd "$(dirname "$0")/../../.." && set -eu
preset=tinyllama active=0.1 masks="sketch sketch4" tokens=40 share=0.5 sources="uring pread" rounds=3 threads=$(nproc)
opts="preset active masks tokens share sources rounds threads"
. tests/bench/flash/lib.sh
flash_args "$@"
exec python3 - <<'PY'
import resource
from bench import *

n, rounds = (12, 1) if QUICK else (count('tokens'), count('rounds'))
plain, dense = synth(arg('preset'), 'relu', 'f16', arg('active')), synth(arg('preset'))
device = os.stat(plain).st_dev
stat = f'/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat'
machine(plain)


def block_bytes():
    try:
        return int(open(stat).read().split()[2]) * 512
    except OSError:
        return None


def run(file, ram, n_tok, words):
    before, block = resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock, block_bytes()
    d = strobe('generate', file, '-p', 'w1 w22 w333', '-n', n_tok, '--ram', ram, '--ctx', 512, '--threads', arg('threads'), *FREE_RUN, *words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock
    f = d['flash']
    return {'ours': f['bytes_read'], 'reads': f['reads'], 'kernel': (after - before) * 512, 'block': block_bytes() - block if block is not None else None,
            'missed': f.get('neurons_missed'), 'tokens': d['completion_tokens']}


rows, bad = [], []
cases = [('dense', dense, None, ['--flash', 'dense'])] + [(m, packed(plain, m), m, ['--flash', 'sparse']) for m in each('masks')]
for name, file, mask, words in cases:
    ram = max(int(float(arg('share')) * os.path.getsize(plain)), least(file, 512) + (8 << 20))
    # the file's own words, where it is a packed one
    stride = strobe('inspect', file)['metadata'].get('strobe.pack.stride')
    for source in each('sources'):
        got = []
        for _ in range(rounds):
            a, b = (run(file, ram, k, [*words, '--source', source]) for k in (2, n + 2))
            d = {k: b[k] - a[k] for k in b if b[k] is not None}
            d['ratio'] = d['ours'] / max(d['kernel'], 1)
            got.append(record(kind='run', model=name, source=source, ram=ram, bundle_bytes=stride, **d))
        ratio = [g['ratio'] for g in got]
        ok = all(abs(r - 1) <= 0.02 for r in ratio)
        bad += [] if ok else [f'{name} {source}']
        g = got[-1]
        amp = f"{g['ours'] / (g['missed'] * stride):.2f}" if g.get('missed') and stride else '-'
        rows.append([name, source, f"{g['ours'] / g['tokens'] / 1e6:.1f}", f"{g['reads'] / g['tokens']:.0f}", f"{g['ours'] / max(g['reads'], 1) / 1024:.1f}", amp,
                     spread(ratio, 4), spread([x['ours'] / x['block'] if x.get('block') else None for x in got], 3), 'PASS' if ok else 'FAIL'])
table(['model', 'source', 'MB/token', 'reads/token', 'KiB/read', 'read/missed', 'ours/kernel', 'ours/device', 'verdict'], rows)
if bad:
    fail(', '.join(bad))
PY
