#!/bin/bash
# P10: prompts of 16, 128, 512 and 2048 tokens with memory for --share of the model: time to the first token and bytes read, dense
# and packed, as spans and in chunks (--span 1). Bytes are to be about one pass over what is streamed per span of prompt tokens
# (`estimate`: span), or per chunk (batch) where there is none, not more; and the next token the same either way.
#   tests/bench/flash/p10_prefill.sh [--quick] [--preset tinyllama] [--active 0.1] [--mask sketch4] [--share 0.5] [--lengths "16 128 512 2048"]
#       [--spans "1 2048"] [--batch 128] [--file PLAIN.gguf] [--rounds 3]
# --batch: tokens of a chunk; the default of strobe is 512, or 128 where memory is short. --file: a ReLU model instead of a synthetic one.
cd "$(dirname "$0")/../../.." && set -eu
preset=tinyllama active=0.1 mask=sketch4 share=0.5 lengths="16 128 512 2048" rounds=3 threads=$(nproc) spans="1 2048" batch=128 file=
opts="preset active mask share lengths rounds threads spans batch file"
. tests/bench/flash/lib.sh
flash_args "$@"
exec python3 - <<'PY'
import math, random, statistics
from bench import *

rounds = 1 if QUICK else count('rounds')
lengths = [int(n) for n in each('lengths')][:3 if QUICK else None]
plain = arg('file') or synth(arg('preset'), 'relu', 'f16', arg('active'))
dense = arg('file') or synth(arg('preset'))
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
            first = set()
            for span in each('spans'):
                words = ['--flash', flash, '--span', span, '--batch', arg('batch')]
                p = strobe('estimate', file, '--ram', ram, '--ctx', ctx, '--slots', 1, '--threads', arg('threads'), *words)
                d = generate(file, ram, 1, *words, '--temp', '0', '--ignore-eos', '--draft', '0', prompt=text, ctx=ctx)
                tokens = d['prompt_tokens']
                passes = math.ceil(tokens / max(p['span'], p['batch']))
                r = record(kind='run', engine=name, tokens=tokens, ram=ram, batch=p['batch'], span=p['span'], span_bytes=p['span_bytes'],
                           staging=p['staging_bytes'], passes=passes, streamed=p['streamed_bytes'], text=d['text'],
                           load_ms=d['timings']['load_ms'], **figures(d))
                got.setdefault((name, n, span), []).append(r)
                first.add(d['text'])
                if r['group_peak'] and r['group_peak'] > ram:
                    fail(f"{name}, {n} tokens, span {span}: {r['group_peak']} bytes under {ram}")
            # A statistical mask is asked for chunks of up to 16 tokens: a prompt's last chunk may be one.
            if len(first) > 1 and flash == 'dense':
                fail(f'{name}, {n} tokens: spans change the text: {first}')
rows = []
for (name, n, span), v in got.items():
    r = v[-1]
    rows.append([name, r['tokens'], r['batch'], r['span'] or '-', spread([x['prefill_ms'] / 1e3 for x in v]),
                 spread([x['tokens'] / x['prefill_ms'] * 1e3 for x in v], 1), f"{r['bytes_read'] / 1e9:.2f}",
                 f"{r['bytes_read'] / r['streamed']:.2f}", r['passes'], f"{r['bytes_read'] / max(r['reads'], 1) / 1024:.0f}",
                 spread([x['stall_ms'] / x['prefill_ms'] for x in v])])
table(['engine', 'tokens', 'chunk', 'span', 'first token s', 'tok/s', 'GB read', 'read / streamed', 'passes', 'KiB/read', 'stalled'], rows)
PY
