#!/bin/bash
# P10: prompts of 16, 128, 512 and 2048 tokens with memory for --share of the model: time to the first token and bytes read, dense
# and packed. Bytes are to be about one pass over what is streamed per chunk of prompt tokens (`estimate`: batch), not more.
#   tests/bench/flash/p10_prefill.sh [--quick] [--preset tinyllama] [--active 0.1] [--mask sketch4] [--share 0.5] [--lengths "16 128 512 2048"]
#       [--rounds 3]
cd "$(dirname "$0")/../../.." && set -eu
preset=tinyllama active=0.1 mask=sketch4 share=0.5 lengths="16 128 512 2048" rounds=3 threads=$(nproc)
opts="preset active mask share lengths rounds threads"
. tests/bench/flash/lib.sh
flash_args "$@"
exec python3 - <<'PY'
import math, random, statistics
from bench import *

rounds = 1 if QUICK else count('rounds')
lengths = [int(n) for n in each('lengths')][:3 if QUICK else None]
plain, dense = synth(arg('preset'), 'relu', 'f16', arg('active')), synth(arg('preset'))
size = os.path.getsize(plain)
rng = random.Random(6)
machine(plain)
got = {}
for _ in range(rounds):
    for name, file, flash in (('dense', dense, 'dense'), (f"packed {arg('mask')}", packed(plain, arg('mask')), 'sparse')):
        for n in lengths:
            # A letter is a token in the synthetic vocabulary; BOS and the leading space come on top.
            text = ''.join(rng.choice('abcdefghijklmnopqrstuvwxyz') for _ in range(n - 4))
            ctx = n + 8
            ram = max(int(float(arg('share')) * size), least(file, ctx, flash))
            p = plan(file, ram, ctx, flash)
            one = ['--temp', '0', '--ignore-eos', '--draft', '0', '--flash', flash]
            d = generate(file, ram, 1, *one, prompt=text, ctx=ctx)
            passes = math.ceil(d['prompt_tokens'] / p['batch'])
            r = record(kind='run', engine=name, tokens=d['prompt_tokens'], ram=ram, batch=p['batch'], passes=passes, streamed=p['streamed_bytes'],
                       load_ms=d['timings']['load_ms'], **figures(d))
            got.setdefault((name, n), []).append(r)
rows = []
for (name, n), v in got.items():
    r = v[-1]
    rows.append([name, r['tokens'], r['batch'], spread([x['prefill_ms'] / 1e3 for x in v]), spread([x['tokens'] / x['prefill_ms'] * 1e3 for x in v], 1),
                 f"{r['bytes_read'] / 1e9:.2f}", f"{r['bytes_read'] / (r['passes'] * r['streamed']):.2f}", f"{r['bytes_read'] / max(r['reads'], 1) / 1024:.0f}",
                 spread([x['stall_ms'] / x['prefill_ms'] for x in v])])
table(['engine', 'tokens', 'chunk', 'first token s', 'tok/s', 'GB read', 'read / (chunks x streamed)', 'KiB/read', 'stalled'], rows)
PY
