#!/bin/bash
# P5: cache policies on neuron traces of trained models. Each text goes through each model token by token (windows of --ctx tokens, or
# documents, where "<|endoftext|>" ends them; as many of those as make about the same number of tokens) and what each layer needs is
# recorded, once. The trace is then replayed offline (replay.c): windows of 1 to 16 passes, LRU, decayed LFU, adaptive, static and
# Belady's optimum at 5 to 60 % of the neurons, and s_agg(1..150). At the end the engine runs again with other caches (on
# --live_windows of the text: it waits for the disk), and the misses that it counts must be the replay's within 3 %: else the exit
# code is 1. --jobs texts at a time.
# A model is FILE, or FILE@SHARE for one without exact zeros (packed with --mask resident, run with --keep SHARE: lossy).
# A text is NAME=FILE; without --texts: held-out word problems of `strobe corpus`, stories, a novel, GSM8K, our own C sources.
#   tests/bench/flash/p5_policies.sh [--quick] [--models "A.gguf B.gguf@0.5"] [--texts "prose=A.txt code=B.txt"] [--windows 16] [--ctx 256]
#       [--record 25] [--sizes "12 40"] [--live "adaptive lfu lru window static"] [--live_windows 2] [--jobs 2]
# The data folder is ../shared/data or $STROBE_TEST_DATA. Pictures: node tests/bench/flash/plot_traces.mjs RESULTS.jsonl.
cd "$(dirname "$0")/../../.." && set -eu
data=${STROBE_TEST_DATA:-../shared/data}
models="deploy/model/strobe-small.gguf $data/models/stories260K/stories260K.F16.gguf@0.5"
texts='' windows=16 ctx=256 record=25 sizes="12 40" live="adaptive lfu lru window static" live_windows=2 jobs=2 threads=1
opts="data models texts windows live_windows ctx record sizes live jobs threads"
. tests/bench/flash/lib.sh
flash_args "$@"
ninja -C "$BENCH/../.." tests/bench/replay >/dev/null
exec python3 - <<'PY'
from bench import *
from concurrent.futures import ThreadPoolExecutor
import glob
import shutil

SHOW = (10, 25, 40, 60)
POLICIES = ('adaptive', 'lfu', 'lru', 'window', 'static', 'belady')
MARK = '<|endoftext|>' # ends a document of `strobe corpus`
AGG = (1, 2, 5, 10, 20, 50, 100, 150)
windows, few = (2, 1) if QUICK else (count('windows'), count('live_windows'))


# ---- texts ----

def default_texts():
    where, out = arg('data') + '/', {}
    folder = os.path.join(DIR, 'p5-corpus')
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([STROBE, 'corpus', '-q', '-o', folder, '--split', 'test', '--problems', '800'], check=True, stdout=subprocess.DEVNULL)
    out['problems'] = folder + '/test.txt'
    with open(os.path.join(DIR, 'p5-code.txt'), 'wb') as f: # every third file, so that all folders have a part
        for name in sorted(glob.glob('engine/**/*.c', recursive=True))[::3]:
            f.write(open(name, 'rb').read()[:4000])
    out['code'] = f.name
    for name, file in (('novel', 'text/botchan.txt'), ('stories', 'text/tinystories-sample.txt')):
        out[name] = where + file
    with open(os.path.join(DIR, 'p5-maths.txt'), 'w') as f:
        for line in open(where + 'gsm8k/test.jsonl'):
            d = json.loads(line)
            f.write(d['question'] + '\n' + d['answer'] + '\n\n')
    out['maths'] = f.name
    return {name: out[name] for name in ('problems', 'stories', 'novel', 'maths', 'code')}


texts = dict(word.split('=', 1) for word in each('texts')) or default_texts()


# ---- runs ----

def packed_model(word):
    file, _, keep = word.partition('@')
    stem = os.path.join(DIR, 'p5-' + os.path.basename(file)[:-5])
    out = stem + '.gguf'
    if os.path.exists(out):
        os.remove(out)
    strobe('pack', file, '-o', out, '--mask', 'resident')
    return out, ['--keep', keep] if keep else []


def at_share(file, share):
    """The smallest --ram, to 1 KiB, whose plan holds that share of the neurons, and the slots per layer."""
    def slots(ram):
        d = strobe('estimate', file, '--ram', ram, '--ctx', arg('ctx'), '--slots', 1, '--threads', arg('threads'), '--flash', 'sparse', '--batch', 1, ok=(0, 4))
        return d['neurons_cached_per_layer'] if d['fits'] else -1
    want = about['ffn'] * share / 100
    low, high = 1, 1 << 30
    while high - low > 1024:
        mid = (low + high) // 2
        low, high = (low, mid) if slots(mid) >= want else (mid, high)
    return high, slots(high)


def run_text(file, keep, text, windows, ram, *words):
    return strobe('perplexity', file, text, '--ctx', arg('ctx'), '--split', MARK, '--windows', windows * per_window(text), '--batch', 1, '--threads', arg('threads'), '--flash', 'sparse',
                  '--ram', ram, '--special', *keep, *words)


def per_window(text):
    """Documents that make about as many tokens as one full window, at three bytes a token."""
    parts = open(text, 'rb').read().split(MARK.encode())
    return max(1, round(count('ctx') * 3 / (sum(map(len, parts)) / len(parts))))


def replay(trace, *words):
    run = subprocess.run([f'{BENCH}/replay', *map(str, words), trace], capture_output=True, text=True)
    if run.returncode not in (0, 1):
        fail(f'replay {trace}: {run.stderr.strip()[-400:]}')
    return [json.loads(line) for line in run.stdout.splitlines()]


def predicted(rows, policy):
    return next(r['misses'] for r in rows if r.get('policy') == policy and 'cache_pct' in r and (policy != 'window' or r['window'] == 5))


def measure(model, word, file, keep, name, caches):
    """One text through one model: its trace, the replay, and runs with other caches. Returns what the tables need."""
    trace = f'{file}.{name}.trace'
    ram, slots = caches[0]
    d = run_text(file, keep, texts[name], windows, ram, '--neuron-trace', trace)
    rows = replay(trace)
    about_text = {'model': model, 'text': name}
    record(kind='text', **about_text, nats=d['nats_per_token'], bits_per_byte=d['bits_per_byte'], exact=d['exact'], passes=rows[0]['passes'])
    for r in rows[1:]:
        with open(OUT, 'a') as f:
            f.write(json.dumps({'protocol': E['PROTOCOL'], 'kind': 'replay', **about_text, **r}) + '\n')
    live = [record(kind='live', **about_text, policy='adaptive', slots=slots, misses=rows[0]['live_misses'], replayed=rows[0]['replayed_misses'])]
    run_text(file, keep, texts[name], few, ram, '--neuron-trace', trace)
    for ram, slots in caches[1:]:
        rows_at = replay(trace, '--slots', slots)
        for policy in each('live'):
            got = run_text(file, keep, texts[name], few, ram, '--cache-policy', policy)
            live.append(record(kind='live', **about_text, policy=policy, slots=slots, misses=got['neurons_missed'], replayed=predicted(rows_at, policy)))
    os.remove(trace)
    return {'name': name, 'score': d, 'rows': rows, 'live': live}


# ---- tables ----

def part(v, digits=1):
    return f'{v:.{digits}f} %'


def activity(results):
    print('\nNeurons that a token uses, by layer, and that any of t successive tokens uses')
    layers = sum('layer' in r for r in results[0]['rows'])
    rows = []
    for t in results:
        by_layer = [part(r['active_pct']) for r in t['rows'] if 'layer' in r]
        agg = {r['s_agg']: r for r in t['rows'] if 's_agg' in r}
        rows.append([t['name'], f"{t['score']['bits_per_byte']:.2f}", part(agg[1]['active_pct']), *by_layer, *[part(agg[k]['active_pct']) for k in AGG[1:]]])
    table(['text', 'bits a byte', 'all layers', *[f'layer {i}' for i in range(layers)], *[f't = {k}' for k in AGG[1:]]], rows)


def at_sizes(results, field, scale):
    rows = []
    for t in results:
        for pct in SHOW:
            cell = {(r['policy'], r['window']): r for r in t['rows'] if 'cache_pct' in r and 'policy' in r and abs(r['cache_pct'] - pct) < 0.5}
            of = lambda p: cell[(p, 5 if p == 'window' else 0)][field] * scale
            rows.append([t['name'], f'{pct} %', *[part(of(p), 2) for p in POLICIES]])
    table(['text', 'in memory', *['window 5' if p == 'window' else p for p in POLICIES]], rows)


def windows_table(results):
    print('\nThe window of k tokens by itself, as published: what it holds, and what a token then loads, s_agg(k + 1) - s_agg(k)')
    rows = []
    for t in results:
        agg = {r['s_agg']: r['needed_pct'] for r in t['rows'] if 's_agg' in r}
        rows.append([t['name'], *[f'{agg[k]:.1f} % / {agg[k + 1] - agg[k]:.2f} %' for k in (1, 2, 4, 5, 8, 16)]])
    table(['text', *[f'k = {k}' for k in (1, 2, 4, 5, 8, 16)]], rows)


def live_table(model, results):
    print('\nMisses of the running engine, and of the replay')
    worst, rows = 0, []
    for t in results:
        for r in t['live']:
            off = abs(r['misses'] - r['replayed']) / max(1, r['replayed'])
            worst = max(worst, off)
            rows.append([t['name'], r['policy'], r['slots'], r['misses'], r['replayed'], f'{off * 100:.2f} %'])
    table(['text', 'policy', 'slots a layer', 'engine', 'replay', 'off'], rows)
    record(kind='agreement', model=model, runs=len(rows), worst=worst)
    return worst


machine()
worst = 0
for word in each('models'):
    file, keep = packed_model(word)
    about = strobe('inspect', file)
    model = os.path.basename(word).replace('.gguf', '')
    print(f"\n# {model}: {about['layers']} layers of {about['ffn']} neurons, {about['activation']['name']}; {windows} windows of {arg('ctx')} tokens of each text"
          + (f'; each token may use {keep[1]} of the neurons (lossy)' if keep else ''))
    caches = [at_share(file, float(s)) for s in [arg('record'), *each('sizes')]]
    with ThreadPoolExecutor(count('jobs')) as pool:
        results = list(pool.map(lambda name: measure(model, word, file, keep, name, caches), texts))
    activity(results)
    print('\nNeurons loaded a token, % of all')
    at_sizes(results, 'loads_pct', 1)
    print('\nHit rate: needed neurons that were in memory')
    at_sizes(results, 'hit_rate', 100)
    windows_table(results)
    worst = max(worst, live_table(model, results))
print(f'\n# engine and replay: at most {worst * 100:.2f} % apart; results in {OUT}')
sys.exit(worst > 0.03)
PY
