#!/bin/bash
# P11, continued: who guesses. A dense model with memory for --share of it and a small second model (--draft-model), then a packed ReLU
# model whose resident neurons guess (--draft-self), streamed whole and neuron by neuron. Against draft_max 0 on the same server, turn by
# turn: tokens per second, tokens per pass, bytes per token; the tokens must be the same. Synthetic models have nothing in common but
# the vocabulary. What makes the draft model right here is that both pick with the same random number among a few tokens (a bias) at
# temperature 2: the fewer, the more alike their choices. So --among plants the acceptance, and the rest is as with real models.
# Of resident neurons the acceptance is the synthetic model's own: random weights bear no loss of neurons well. For that of a real
# model see --real FILE (a packed one): acceptance, and neurons or bytes read per token, by the share of neurons in memory.
#   tests/bench/flash/p11_drafters.sh [--quick] [--preset tinyllama] [--draft 15m] [--share 0.5] [--among "2 8 32"] [--tokens 48] [--rounds 3]
#                                     [--real PACKED.gguf] [--keep 0.3]
cd "$(dirname "$0")/../../.." && set -eu
preset=tinyllama draft=15m share=0.5 among="2 8 32" tokens=48 rounds=3 real= keep=1 threads=$(nproc)
opts="preset draft share among tokens rounds real keep threads"
. tests/bench/flash/lib.sh
flash_args "$@"
exec python3 - <<'PY'
import statistics, time
from bench import *

n, rounds = (24, 1) if QUICK else (count('tokens'), count('rounds'))
among = lambda k: {'temperature': 2, 'seed': 5, 'logit_bias': {str(300 + 7 * i): 40 for i in range(k)}}
FIELDS = ('passes', 'bytes_read', 'drafted', 'draft_accepted', 'drafted_by_model', 'accepted_by_model', 'draft_passes', 'draft_ms', 'stall_ms')
bad, rows = [], []


def compare(name, file, ram, texts, *words):
    """Every text with and without guesses, turn by turn on one server."""
    got, server = {}, Server(file, arg('threads'), n + 64, 1, '--ram', ram, *words)
    try:
        server.complete([300, 400, 500], 4)
        for _ in range(rounds):
            for text, more in texts.items():
                said = None
                for draft in (0, 16):
                    before, start = server.stats(), time.monotonic()
                    out = server.complete([300, 400, 500, 301], n, ignore_eos=True, logprobs=1, draft_max=draft, **more)['logprobs']
                    took, after = time.monotonic() - start, server.stats()
                    d = {k: after[k] - before[k] for k in FIELDS}
                    if said not in (None, out):
                        bad.append(f'{name}, {text}')
                    said = out
                    got.setdefault((text, draft), []).append(record(kind='run', case=name, text=text, draft=draft, tokens=n, tokens_per_second=n / took, **d))
    finally:
        server.close()
    rate = lambda key: statistics.median(r['tokens_per_second'] for r in got[key])
    for (text, draft), v in got.items():
        r = v[-1]
        rows.append([name, text, draft, spread([x['tokens_per_second'] for x in v]), f"{rate((text, draft)) / rate((text, 0)):.2f}", f"{r['accepted_by_model']}/{r['drafted_by_model']}",
                     f"{r['draft_accepted'] - r['accepted_by_model']}/{r['drafted'] - r['drafted_by_model']}", f"{n / r['passes']:.2f}", f"{r['bytes_read'] / n / 1e6:.0f}",
                     f"{r['draft_ms'] / max(1, r['draft_passes']):.1f}"])


def real(file, keep):
    """Greedy text of a real packed model: what guesses of resident neurons are worth, free of the clock."""
    out = []
    ask = lambda *words: strobe('estimate', file, '--ctx', 512, '--slots', 1, '--keep', keep, '--draft-self', *words, ok=(0, 4))
    all_slots = ask()['cache_bytes']
    for flash in ('sparse', 'dense'):
        none = ask('--ram', 1, '--flash', flash)
        for part in (0.25, 0.5, 0.75, 0.9):
            ram = int(none['least_bytes'] + part * (all_slots - none['cache_bytes']) * 257 / 256) + 2048
            for most in (0, 1, 2, 4):
                sums = {'drafted_by_model': 0, 'accepted_by_model': 0, 'neurons_missed': 0, 'bytes_read': 0}
                for text in ('Once upon a time', 'The dog', 'Tom and Sam went to the park'):
                    f = strobe('generate', file, '-p', text, '-n', 100, '--temp', 0, '--ignore-eos', '--ram', ram, '--ctx', 512, '--flash', flash, '--keep', keep, '--draft-self', '--draft', most)['flash']
                    sums = {k: v + f.get(k, 0) for k, v in sums.items()}
                record(kind='real', flash=flash, cached=part, draft=most, tokens=300, **sums)
                out.append([flash, part, most, f"{sums['accepted_by_model']}/{sums['drafted_by_model']}", f"{sums['neurons_missed'] / 300:.1f}", f"{sums['bytes_read'] / 300:.0f}"])
    table(['mode', 'cached', 'draft', 'accepted', 'misses/token', 'bytes/token'], out)


if arg('real'):
    real(arg('real'), arg('keep'))
    sys.exit(0)
main, small = synth(arg('preset')), synth(arg('draft'), type='q8_0')
machine(main)
texts = {f'one of {k}': among(int(k)) for k in (each('among')[:1] if QUICK else each('among'))}
share = float(arg('share'))
compare('draft model', main, int(share * os.path.getsize(main)) + os.path.getsize(small) + (40 << 20), texts, '--flash', 'dense', '--draft-model', small)
relu = packed(synth(arg('preset'), 'relu', 'f16', 0.1), 'resident')
for flash in ('dense', 'sparse'):
    compare(f'self, {flash}', relu, int(share * os.path.getsize(relu)) + (40 << 20), {**texts, 'plain': {'temperature': 1, 'seed': 7}}, '--flash', flash, '--draft-self')
table(['who guesses', 'text', 'draft', 'tok/s', 'x draft 0', 'accepted', 'of the text', 'tokens/pass', 'MB/token', 'ms/guess'], rows)
if bad:
    fail('another output than without guesses: ' + ', '.join(bad))
PY
