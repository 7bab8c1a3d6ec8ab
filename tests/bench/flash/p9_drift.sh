#!/bin/bash
# P9: does a neuron cache keep up over a long text whose topic changes? One server, --topics requests one after the other whose
# prompts come from disjoint parts of the vocabulary, --tokens sampled tokens in all; every --window tokens the miss rate, the bytes
# per token and the latencies (P50, P99) of that window. Compare the first window after a topic change with the last one before.
#   tests/bench/flash/p9_drift.sh [--quick] [--preset tinyllama] [--active 0.1] [--mask sketch4] [--share 0.5] [--tokens 2000] [--topics 4]
#       [--window 50] [--policy adaptive] [--rates 0]
cd "$(dirname "$0")/../../.." && set -eu
preset=tinyllama active=0.1 mask=sketch4 share=0.5 tokens=2000 topics=4 window=50 policy=adaptive rates=0 threads=$(nproc)
opts="preset active mask share tokens topics window policy rates threads"
. tests/bench/flash/lib.sh
flash_args "$@"
exec python3 - <<'PY'
import random, statistics, time
from bench import *

total, topics, window = (120, 2, 20) if QUICK else (count('tokens'), count('topics'), count('window'))
file = (rated if arg('rates') != '0' else packed)(synth(arg('preset'), 'relu', 'f16', arg('active')), arg('mask'))
plain = synth(arg('preset'), 'relu', 'f16', arg('active'))
each_n = total // topics
ctx = each_n + 96
ram = max(int(float(arg('share')) * os.path.getsize(plain)), least(file, ctx))
machine(file)
server = Server(file, arg('threads'), ctx, 1, '--ram', ram, '--flash', 'sparse', '--cache-policy', arg('policy'))
rows, every, rng = [], [], random.Random(4)
try:
    at, last, marks = 0, server.stats(), []
    for topic in range(topics):
        low = 259 + topic * 5000 % 30000
        body = {'prompt': [rng.randrange(low, low + 1500) for _ in range(64)], 'max_tokens': each_n, 'temperature': 1, 'seed': topic, 'ignore_eos': True,
                'stream': True, 'cache_prompt': False, 'draft_max': 0}
        stamps, first = [], True
        with server.open('/v1/completions', body) as reply:
            for text in reply:
                if not text.startswith(b'data: {'):
                    continue
                stamps.append(time.monotonic())
                if len(stamps) % window == 1 and len(stamps) > 1:
                    now = server.stats()
                    gaps = sorted((b - a) * 1e3 for a, b in zip(stamps[-window - 1:], stamps[-window:]))
                    every += gaps
                    need = now['neurons_needed'] - last['neurons_needed']
                    at += window
                    d = record(kind='window', topic=topic, tokens=at, first=first, miss_rate=(now['neurons_missed'] - last['neurons_missed']) / max(need, 1),
                               bytes_per_token=(now['bytes_read'] - last['bytes_read']) / window, p50_ms=statistics.median(gaps), p99_ms=gaps[int(len(gaps) * 0.99)],
                               ram_peak=now['ram_peak'])
                    rows.append([at, topic, f"{d['miss_rate'] * 100:.1f} %", f"{d['bytes_per_token'] / 1e6:.1f}", f"{d['p50_ms']:.0f}", f"{d['p99_ms']:.0f}"])
                    marks.append(d)
                    last, first = now, False
finally:
    server.close()
table(['tokens', 'topic', 'missed', 'MB/token', 'P50 ms', 'P99 ms'], rows)
rest = [d['miss_rate'] for d in marks if not d['first']]
early, late = ([d['miss_rate'] * 100 for d in marks if not d['first'] and (d['tokens'] <= total // 2) == half] for half in (True, False))
every.sort()
p50, p99 = statistics.median(every), every[int(len(every) * 0.99)]
record(kind='result', p50_ms=p50, p99_ms=p99, missed_first_half=statistics.mean(early), missed_second_half=statistics.mean(late))
print(f"\ntokens: P50 {p50:.0f} ms, P99 {p99:.0f} ms, {p99 / p50:.2f} times as long (limit 3); missed {statistics.mean(early):.1f} % in the first half, "
      f"{statistics.mean(late):.1f} % in the second")
print(f"\nmissed: first windows of a topic {spread([d['miss_rate'] * 100 for d in marks if d['first']], 1)} %, others {spread([m * 100 for m in rest], 1)} %; "
      f"ram peak {max(d['ram_peak'] for d in marks)} of {ram}")
PY
