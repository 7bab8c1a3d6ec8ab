#!/bin/bash
# P1: is the memory cap kept over a long generation? A model of twice the cap runs in a memory cgroup of exactly --ram bytes; the
# group is sampled every 0.1 s. Pass: no kill, peak <= cap, file-backed share of the samples after the start < 5 % (median), no
# major fault after the first tenth of the run. Negative controls: an mmap engine (llama.cpp, where npm has it) and our own
# --source mmap in the same group, which fill the cap with page cache and fault to the end.
#   tests/bench/flash/p1_cap.sh [--quick] [--preset tinyllama] [--active 0.1] [--mask sketch4] [--tokens 1000] [--share 0.5]
cd "$(dirname "$0")/../../.." && set -eu
preset=tinyllama active=0.1 mask=sketch4 tokens=1000 share=0.5 threads=$(nproc)
opts="preset active mask tokens share threads"
. tests/bench/flash/lib.sh
flash_args "$@"
flash_peer
exec python3 - <<'PY'
import statistics
from bench import *

n = 24 if QUICK else count('tokens')
plain, dense = synth(arg('preset'), 'relu', 'f16', arg('active')), synth(arg('preset'))
pack = packed(plain, arg('mask'))
cap = int(float(arg('share')) * os.path.getsize(plain))
ctx = n + 64
machine(plain)

def judge(name, group, sample, ours):
    rows = [json.loads(line) for line in open(sample)]
    late = rows[len(rows) // 10 + 1:] or rows
    share = statistics.median(r['cache'] / max(r['usage'], 1) for r in late)
    faults = max(r['major_faults'] for r in late) - late[0]['major_faults'] # the kernel sums its counters lazily
    ok = group.get('exit') == 0 and not group.get('kills') and group['peak'] <= cap and share < 0.05 and faults == 0
    record(kind='run', engine=name, cap=cap, peak=group.get('peak'), kills=group.get('kills'), exit=group.get('exit'), file_share=share,
           late_major_faults=faults, samples=len(rows), passed=ok if ours else None)
    return [name, f"{cap / 1e6:.0f}", f"{group.get('peak', 0) / 1e6:.0f}", f'{share * 100:.1f} %', faults,
            group.get('exit'), ('PASS' if ok else 'FAIL') if ours else 'control'], ok

rows, bad = [], []
with tempfile.TemporaryDirectory() as tmp:
    sample = os.path.join(tmp, 'sample')
    for name, file, words, count_n, ours in [
            ('packed sparse', pack, ['--flash', 'sparse'], n, True),
            ('dense', dense, ['--flash', 'dense'], max(n // 4, 12), True),
            ('our mmap', dense, ['--flash', 'dense', '--source', 'mmap'], max(n // 20, 8), False)]:
        # The mmap mode keeps nothing of its own, so that the page cache has all the room an mmap engine has.
        ram = cap if ours else least(file, ctx, 'dense')
        d = generate(file, ram, count_n, *FREE_RUN, *words, ctx=ctx, limit=cap, sample=sample, must=False)
        if d is None:
            bad.append(name)
            rows.append([name, cap, '-', '-', '-', 'failed', 'FAIL', '-'])
            record(kind='run', engine=name, passed=False)
            continue
        row, ok = judge(name, d['group'], sample, ours)
        rows.append(row + [f"{d['timings']['tokens_per_second']:.2f}"])
        if ours and not ok:
            bad.append(name)
    if E.get('PEER'):
        tg = max(n // 100, 4)
        run, group = capped(cap, [E['PEER'], E['PEER_LIBS'], dense, arg('threads'), 0, tg, 1], [dense], sample, {'LD_LIBRARY_PATH': E['PEER_LIBS']})
        rate = json.loads(run.stdout)['tokens_per_second'] if run.returncode == 0 else 0
        rows.append(judge('llama.cpp mmap', group, sample, False)[0] + [f'{rate:.2f}'])
table(['engine', 'cap MB', 'peak MB', 'file-backed', 'late major faults', 'exit', 'verdict', 'tok/s'], rows)
if bad:
    fail(', '.join(bad))
PY
