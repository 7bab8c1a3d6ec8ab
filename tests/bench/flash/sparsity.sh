#!/bin/bash
# Are the synthetic models as sparse as real ones? Share of neurons that fire per token, and s_agg(t), the share that fired for any of
# t tokens in a row, measured by the engine itself: a cache that holds every neuron and starts empty misses each neuron once, so what
# was missed after t tokens is s_agg(t). Needs an exact mask. Published (flash.md 1.2, 1.4, 2.2, 2.3): OPT-6.7B 3.3 % true activity, 10 % with a
# predictor that over-predicts, 24 % over 5 tokens of those, half the neurons unused after 150 tokens; gated ReLU models 10 %.
#   tests/bench/flash/sparsity.sh [--quick] [--presets "tinyllama:0.1 opt-1.3b:0.03"] [--steps "1 2 5 20 50 150"]
cd "$(dirname "$0")/../../.." && set -eu
presets="tinyllama:0.1 opt-1.3b:0.03" steps="1 2 5 20 50 150" threads=$(nproc)
opts="presets steps threads"
. tests/bench/flash/lib.sh
flash_args "$@"
exec python3 - <<'PY'
from bench import *

steps = [int(s) for s in each('steps')][:4 if QUICK else None]
machine()
rows = []
for word in each('presets'):
    preset, active = word.split(':')
    file = packed(synth(preset, 'relu', 'f16', active), 'resident')
    about = strobe('inspect', file)
    cells = about['layers'] * about['ffn']
    # No prompt but BOS, and n tokens take n passes of one token each: BOS, then all but the last.
    for n in steps:
        d = strobe('generate', file, '-p', '', '-n', n, '--ram', int(os.path.getsize(file) * 1.3) + (600 << 20), '--ctx', 512, '--threads', arg('threads'),
                   '--flash', 'sparse', '--seed', 11, *FREE_RUN)
        f = d['flash']
        passes = d['completion_tokens']
        r = record(kind='run', preset=preset, asked=float(active), tokens=passes, prompt=d['prompt_tokens'], active=f['neurons_active'] / cells / passes,
                   needed=f['neurons_needed'] / cells / passes, union=f['neurons_missed'] / cells, distinct=len(set(d['tokens'])))
        rows.append([preset, active, passes, f"{r['active'] * 100:.2f} %", f"{r['union'] * 100:.1f} %", f"{r['union'] / r['active']:.2f}", f"{(1 - r['union']) * 100:.0f} %"])
table(['model', '--active', 'tokens t', 'fire per token', 's_agg(t)', 's_agg(t) / s(1)', 'unused'], rows)
PY
