#!/bin/bash
# Every kind of mask on one model and text: the memory it takes, the share of firing neurons that it finds (recall), how many it lets
# pass for one that fires (over-load), the share of the activation that it misses, and what that does to the perplexity. A low-rank
# predictor is trained on the front of TEXT; all are measured on its end, token by token as when decoding (a mask is not asked in
# passes of more than 16 tokens). With --train OTHER it is trained on that text and all of TEXT is measured: what a predictor is worth
# on a text of another kind. --split MARK: TEXT holds documents (`strobe perplexity --split`). Models without exact zeros: shares of
# the largest neurons instead (--keep).
#   tests/bench/flash/masks.sh MODEL.gguf TEXT [--quick] [--activation relu] [--ranks "auto equal"] [--sigmas "3 2"] [--keeps "0.75 0.5 0.3"]
#       [--tokens 40000] [--epochs 4] [--recalls "0.99"] [--ctx 256] [--windows 16] [--train OTHER] [--split MARK]
# A rank is a number, R0:R1 (`strobe predictor --rank`), auto (the verb's own), or equal: the one whose memory is that of a 4-bit sketch.
cd "$(dirname "$0")/../../.." && set -eu
case ${1:---help} in -*) set -- --help ;; esac
[ "$1" = --help ] || { model=$1 text=${2:?TEXT}; shift 2; }
activation='' ranks="auto equal" sigmas="3 2" keeps="0.75 0.5 0.3" tokens=40000 epochs=4 recalls=0.99 ctx=256 windows=16 train='' split='' threads=$(nproc)
opts="model text train split activation ranks sigmas keeps tokens epochs recalls ctx windows threads"
. tests/bench/flash/lib.sh
flash_args "$@"
exec python3 - <<'PY'
from bench import *
import math

act = ['--activation', arg('activation')] if arg('activation') else []
model, windows = os.path.abspath(arg('model')), 2 if QUICK else count('windows')
stem = os.path.join(DIR, 'masks-' + os.path.basename(model)[:-5])
about = strobe('inspect', model, *act)
embd, ff, layers, zeros = about['embedding'], about['ffn'], about['layers'], about['activation']['exact_zeros']
machine()
print(f"# {about['id']}: {layers} layers, n_embd {embd}, n_ff {ff}, activation {about['activation']['name']}; {windows} windows of {arg('ctx')} tokens")

# The front trains, the end is what is measured.
whole = open(arg('text'), 'rb').read()
cut = 0 if arg('train') else len(whole) * 4 // 5
front, end = arg('train') or stem + '.front.txt', stem + '.end.txt'
if not arg('train'):
    open(front, 'wb').write(whole[:cut])
open(end, 'wb').write(whole[cut:])


def pack(mask, name, *words):
    out = f'{stem}-{name}.gguf'
    if os.path.exists(out):
        os.remove(out)
    strobe('pack', model, '-o', out, '--mask', mask, *act, *words)
    return out


def measure(file, *words):
    """Perplexity token by token, with every token looked at; the prompt-sized run sees all neurons and counts in full."""
    common = ['--special', *(['--split', arg('split')] if arg('split') else []), '--ctx', arg('ctx'), '--windows', windows, '--threads', arg('threads'), '--mask-check', 1, *words]
    decode = strobe('perplexity', file, end, '--batch', 1, *common)
    full = strobe('perplexity', file, end, *common)
    return decode, full['mask']


rows, base = [], None


def row(label, file, *words):
    global base
    decode, m = measure(file, *words)
    if '--keep' in words: # it is asked in prompts too: what was drawn is what there is
        m = decode['mask']
    nats = decode['nats_per_token']
    base = nats if base is None else base
    d = record(kind='mask', label=label, bytes=m['bytes'], exact=m['exact'], recall=m['recall'], over_load=m['over_load'], missed_mass=m['missed_mass'],
               live_recall=decode['mask']['recall'], live_missed_mass=decode['mask']['missed_mass'], perplexity=decode['perplexity'], nats=nats, nats_more=nats - base)
    part = lambda v, digits: '-' if v is None else f'{v * 100:.{digits}f} %'
    rows.append([label, f"{m['bytes'] / 1024:.0f} KiB", part(m['recall'], 3), '-' if m['over_load'] is None else f"{m['over_load']:.2f}",
                 part(m['missed_mass'], 4), part(decode['mask']['recall'], 2), f"{decode['perplexity']:.4f}", f'{(math.exp(nats - base) - 1) * 100:+.3f} %'])


row('resident (exact)', pack('resident', 'resident'))
if zeros:
    row('sketch, 8 bits (exact)', pack('sketch', 'sketch'))
    four = pack('sketch4', 'sketch4')
    for sigma in each('sigmas'):
        row(f'sketch4, {sigma} sigma', four, '--mask-sigma', sigma)
    # Bytes of a 4-bit sketch (4.5 bits, two norms) as a predictor's (8.5 bits, a bias).
    equal = int(ff * (embd * 4.5 / 8 + 4) / ((embd + ff) * 8.5 / 8))
    equal = min(embd, max(equal // 32 * 32, 32 if embd >= 32 else embd))
    for rank in each('ranks'):
        for recall in each('recalls'):
            words = [] if rank == 'auto' else ['--rank', equal if rank == 'equal' else rank]
            pred = f'{stem}-pred.gguf'
            r = strobe('predictor', model, '--text', front, '-o', pred, '--tokens', arg('tokens'), '--epochs', arg('epochs'), '--recall', recall,
                       '--threads', arg('threads'), *words, *act)
            record(kind='training', **{k: r[k] for k in ('tokens', 'recall', 'over_load', 'missed_mass', 'bytes')})
            ranks = sorted({x['rank'] for x in r['layers']})
            row(f"low rank {'/'.join(map(str, ranks))}, recall {recall}", pack('lowrank', 'lowrank', '--predictor', pred))
else:
    file = f'{stem}-resident.gguf'
    for keep in each('keeps'):
        row(f'the largest {keep}', file, '--keep', keep)
table(['mask', 'memory', 'recall', 'over-load', 'missed mass', 'recall (drawn)', 'perplexity', 'change'], rows)
PY
