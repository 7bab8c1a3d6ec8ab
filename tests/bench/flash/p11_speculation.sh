#!/bin/bash
# P11: guessing tokens ahead from the text (draft_max) and verifying them in one pass, a dense SiLU model with memory for --share of
# it: tokens per second, tokens accepted per pass, bytes per token; the tokens must be those of draft 0. Random weights do not
# repeat themselves, so a bias narrows the choice: "repetitive" is greedy among 4 tokens (it falls into loops, as lists and code
# do), "mixed" is sampled among 8, "plain" is sampled from all.
#   tests/bench/flash/p11_speculation.sh [--quick] [--preset tinyllama] [--share 0.5] [--drafts "0 1 2 4 8 16"] [--tokens 64] [--rounds 3]
cd "$(dirname "$0")/../../.." && set -eu
preset=tinyllama share=0.5 drafts="0 1 2 4 8 16" tokens=64 rounds=3 threads=$(nproc)
opts="preset share drafts tokens rounds threads"
. tests/bench/flash/lib.sh
flash_args "$@"
exec python3 - <<'PY'
import statistics, time
from bench import *

n, rounds = (24, 1) if QUICK else (count('tokens'), count('rounds'))
drafts = [0, 4, 16] if QUICK else [int(x) for x in each('drafts')]
file = synth(arg('preset'))
ram = int(float(arg('share')) * os.path.getsize(file))
among = lambda k: {'logit_bias': {str(300 + 7 * i): 40 for i in range(k)}}
texts = {'repetitive': {'temperature': 0, **among(4)}, 'mixed': {'temperature': 1, 'seed': 5, **among(8)}, 'plain': {'temperature': 1, 'seed': 7}}
machine(file)
got, reference, bad = {}, {}, []
server = Server(file, arg('threads'), n + 64, 1, '--ram', ram, '--flash', 'dense')
try:
    server.complete([300, 400, 500], 2) # fills the ring
    for _ in range(rounds):
        for name, more in texts.items():
            for draft in drafts:
                before, start = server.stats(), time.monotonic()
                out = server.complete([300, 400, 500, 301], n, ignore_eos=True, logprobs=1, draft_max=draft, **more)['logprobs']
                took, after = time.monotonic() - start, server.stats()
                d = {k: after[k] - before[k] for k in ('passes', 'bytes_read', 'drafted', 'draft_accepted', 'stall_ms')}
                same = reference.setdefault(name, out) == out
                bad += [] if same else [f'{name}, draft {draft}']
                r = record(kind='run', text=name, draft=draft, tokens=n, same=same, tokens_per_second=n / took, distinct=len(set(out['tokens'])), **d)
                got.setdefault((name, draft), []).append(r)
finally:
    server.close()
rows = []
for (name, draft), v in got.items():
    r, base = v[-1], statistics.median(x['tokens_per_second'] for x in got[name, drafts[0]])
    rows.append([name, draft, spread([x['tokens_per_second'] for x in v]), f"{statistics.median(x['tokens_per_second'] for x in v) / base:.2f}", f"{r['draft_accepted']}/{r['drafted']}",
                 f"{r['tokens'] / r['passes']:.2f}", f"{r['bytes_read'] / r['tokens'] / 1e6:.0f}", r['distinct'], 'yes' if all(x['same'] for x in v) else 'NO'])
table(['text', 'draft', 'tok/s', 'x draft 0', 'accepted', 'tokens/pass', 'MB/token', 'distinct tokens', 'same output'], rows)
if bad:
    fail('another output than without drafts: ' + ', '.join(bad))
PY
