#!/bin/bash
# P12: the order of neurons in a packed file: as they are, by firing rate, by co-activation; each with gaps of 0 to 15 neurons that a
# read may go over. Three parts.
# Offline, on a real model and two real texts, one profiled and the OTHER one counted: reads, neurons read per neuron missed
# (amplification), bytes, and neurons missed per read (run) of a token, for caches of several sizes.
# Read, the same model, text and caches: the other text goes through the engine (perplexity, token by token), and its reads are counted,
# without guesses, which must be those counted offline (pass: within 3 %), and with them.
# Live, on the synthetic preset: tokens per second at `share` of the memory, with the gap fixed through the disk model that the plan reads.
# Its weights are drawn independently, so that next to nothing fires together but by rate: what placement costs where it cannot help.
#   tests/bench/flash/p12_placement.sh [--quick] [--profile TEXT] [--test TEXT] [--model deploy/model/strobe-small.gguf] [--mask sketch]
#       [--caches "0 20 50"] [--windows 24] [--window 128] [--preset tinyllama] [--active 0.1] [--livemask sketch] [--share 0.5]
#       [--gaps "0 1 3 7 15"] [--readgaps "0 3 15"] [--learn 256] [--tokens 48] [--rounds 5]
# --preset '' leaves the live part out.
cd "$(dirname "$0")/../../.." && set -eu
model=deploy/model/strobe-small.gguf profile=../shared/data/text/tinystories-sample.txt test=../shared/data/text/botchan.txt mask=sketch
caches="0 20 50" windows=24 window=128 preset=tinyllama active=0.1 livemask=sketch share=0.5 gaps="0 1 3 7 15" readgaps="0 3 15" learn=256 tokens=48 rounds=5
threads=$(nproc)
opts="model profile test mask caches windows window preset active livemask share gaps readgaps learn tokens rounds threads"
. tests/bench/flash/lib.sh
flash_args "$@"
ninja -C "$(dirname "$BENCH")/.." tests/bench/extents >/dev/null
exec python3 - <<'PY'
import statistics
from bench import *

ORDERS = ['none', 'rate', 'coactive']
n, rounds = (16, 1) if QUICK else (count('tokens'), count('rounds'))
gaps = [int(g) for g in (each('gaps')[:2] if QUICK else each('gaps'))]


def place(plain, mask, order, trace, out):
    subprocess.run([STROBE, 'pack', '-q', '-m', plain, '--mask', mask, '--rates', trace, '--place', order, '-o', out], check=True, stdout=subprocess.DEVNULL)
    return out


def extents(trace, cache, file=None, skip=0):
    run = subprocess.run([f'{BENCH}/extents', '--cache', cache, '--skip', str(skip), trace] + ([file] if file else []), capture_output=True, text=True)
    if run.returncode:
        fail(run.stderr.strip())
    return [json.loads(line) for line in run.stdout.splitlines()]


def offline():
    for text in (arg('profile'), arg('test')):
        if not os.path.exists(text):
            print(f'SKIPPED: no text {text} (--profile, --test)', file=sys.stderr)
            return
    stem = os.path.join(DIR, 'p12-' + os.path.basename(arg('model'))[:-5])
    first, traces = f'{stem}-first.gguf', {}
    subprocess.run([STROBE, 'pack', '-q', '-m', arg('model'), '--mask', arg('mask'), '-o', first], check=True, stdout=subprocess.DEVNULL)
    stride = strobe('inspect', first)['metadata']['strobe.pack.stride']
    for what in ('profile', 'test'):
        traces[what] = f'{stem}-{what}.trace'
        strobe('perplexity', first, arg(what), '--batch', 1, '--ctx', arg('window'), '--windows', 4 if QUICK else arg('windows'), '--neuron-trace', traces[what])
    files = {o: None if o == 'none' else place(arg('model'), arg('mask'), o, traces['profile'], f'{stem}-{o}.gguf') for o in ORDERS}
    rows, skip = [], count('window') # the first window fills the cache
    for cache in each('caches'):
        base = None
        for order, file in files.items():
            all = extents(traces['test'], cache, file, skip)
            base = base or all
            for g in all:
                record(kind='offline', order=order, cache_pct=int(cache), bundle_bytes=stride, bytes=g['bundles'] * stride, **g)
            rows += [[cache + ' %', order, g['gap'], f"{g['misses']:.0f}", f"{g['extents']:.1f}", f"{g['extents'] / base[g['gap']]['extents'] - 1:+.0%}", f"{g['run']:.2f}",
                      f"{g['amplification']:.2f}", f"{g['bundles'] * stride / 1024:.0f}"] for g in all if g['gap'] in (0, 1, 3, 7, 15)]
    print(f"# {arg('model')}, mask {arg('mask')}; profiled {os.path.basename(arg('profile'))}, counted {os.path.basename(arg('test'))}; per token, all layers")
    table(['cache', 'order', 'gap', 'missed', 'reads', 'to none', 'run', 'amplification', 'KiB'], rows)
    read({o: f or first for o, f in files.items()}, traces['test'], stride)


def disk_model(data, file, stride, gap):
    """The disk model that the plan finds in data: a read costs as much as `gap` bundles and a half. The rest is the same for all."""
    dev = os.stat(file).st_dev
    try:
        name = '-' + os.path.basename(os.readlink(f'/sys/dev/block/{os.major(dev)}:{os.minor(dev)}'))
    except OSError:
        name = ''
    with open(os.path.join(data, f'disk-{dev:x}{name}.json'), 'w') as f:
        json.dump({'read_s': (gap + 0.5) * stride / 1e9, 'bytes_per_s': 1e9, 'seq_bytes_per_s': 1e9, 'latency_s': 1e-4, 'depth': 32, 'mem_bytes_per_s': 1e10}, f)


def cache_of(file, percent, words):
    """The least budget under which a layer keeps so many neurons, as offline; None: there is none."""
    want = strobe('inspect', file)['ffn'] * int(percent) // 100
    of = lambda ram: strobe('estimate', file, '--ram', ram, *words, ok=(0, 4))
    low = of(1)['least_bytes']
    high = low + os.path.getsize(file)
    while low < high: # more memory, more neurons
        mid = (low + high) // 2
        low, high = (low, mid) if of(mid)['neurons_cached_per_layer'] >= want else (mid + 1, high)
    return low if of(low)['neurons_cached_per_layer'] == want else None


def read(files, trace, stride):
    long, window, rows, off = 4 if QUICK else count('windows'), count('window'), [], []
    with tempfile.TemporaryDirectory() as data:
        for cache in [c for c in each('caches') if c != '0']:
            for gap in map(int, each('readgaps')):
                disk_model(data, files['none'], stride, gap)
                words = ['--ctx', window, '--batch', 1, '--threads', arg('threads'), '--flash', 'sparse', '--data', data]
                base = None
                for order, file in files.items():
                    ram = cache_of(file, cache, [*words, '--slots', 1])
                    if ram is None:
                        record(kind='skipped', part='read', order=order, cache_pct=int(cache), gap=gap)
                        print(f'SKIPPED: no budget keeps {cache} % of the neurons', file=sys.stderr)
                        continue
                    def token(*more): # the first window fills the cache
                        a, b = (strobe('perplexity', file, arg('test'), '--ram', ram, '--windows', w, *words, *more) for w in (1, long))
                        return {k: (b[k] - a[k]) / ((long - 1) * window) for k in ('reads', 'bytes_read', 'neurons_missed')}
                    alone, ahead = token('--no-overlap'), token()
                    want = extents(trace, cache, None if order == 'none' else file, window)[gap]
                    base = base or alone
                    error = alone['reads'] / want['extents'] - 1
                    record(kind='read', order=order, cache_pct=int(cache), gap=gap, ram=ram, offline=want['extents'], reads=alone, ahead=ahead)
                    rows.append([f'{cache} %', order, gap, f"{alone['neurons_missed']:.1f}", f"{alone['reads']:.1f}", f"{want['extents']:.1f}", f'{error:+.1%}',
                                 f"{alone['reads'] / base['reads'] - 1:+.0%}", f"{alone['bytes_read'] / 1024:.0f}", f"{ahead['reads']:.1f}"])
                    off += [f'{cache} %, {order}, gap {gap}: {error:+.1%}'] if abs(error) > 0.03 else []
    print(f"\n# the same, read by the engine, per token")
    table(['cache', 'order', 'gap', 'missed', 'reads', 'offline', 'to offline', 'to none', 'KiB', 'reads with guesses'], rows)
    print('MISS: ' + '; '.join(off) if off else 'PASS: the engine reads what was counted offline' if rows else 'SKIPPED')
    print()


def live():
    plain = synth(arg('preset'), 'relu', 'f16', arg('active'))
    mask, stem = arg('livemask'), plain[:-5] + '-' + arg('livemask')
    first, traces = packed(plain, mask), {}
    stride = strobe('inspect', first)['metadata']['strobe.pack.stride']
    for what, seed in (('profile', 1), ('test', 2)):
        traces[what] = made(f'{stem}-p12-{what}.trace', [STROBE, 'generate', '-m', first, '-p', f'w{seed} w22 w333', '-n', arg('learn'), '--ctx', '1024', '--threads', arg('threads'),
                                                        '--seed', str(seed), *FREE_RUN, '--json', '-q', '--neuron-trace'])
    files = {o: made(f'{stem}-p12-{o}.gguf', [STROBE, 'pack', '-q', '-m', plain, '--mask', mask, '--rates', traces['profile'], '--place', o, '-o']) for o in ORDERS}
    machine(first)
    ram, got, begin = max(int(float(arg('share')) * os.path.getsize(plain)), least(first, 512) + (8 << 20)), {}, {}
    cached = plan(first, ram, 512, 'sparse')['neurons_cached_per_layer'] / strobe('inspect', first)['ffn']
    keys = ('reads', 'bytes_read', 'neurons_missed')
    with tempfile.TemporaryDirectory() as data:
        run = lambda file, k: generate(file, ram, k, *FREE_RUN, '--seed', 3, '--flash', 'sparse', '--data', data)
        for k in range(rounds):
            for gap in gaps:
                disk_model(data, first, stride, gap)
                for order, file in files.items():
                    if k == 0: # what loading, the prompt and two tokens read: the same each time
                        begin[order, gap] = {key: run(file, 2)['flash'][key] for key in keys}
                    d = run(file, n + 2)
                    each_token = {key: (d['flash'][key] - begin[order, gap][key]) / n for key in keys}
                    got.setdefault((order, gap), []).append(record(kind='live', order=order, gap=gap, ram=ram, tokens=n, bundle_bytes=stride, **{**figures(d), **each_token},
                                                                   begin_reads=begin[order, gap]['reads']))
    rows = []
    for (order, gap), v in got.items():
        r, ext = v[-1], extents(traces['test'], str(round(100 * cached)), None if order == 'none' else files[order], 32)[gap]
        rate = lambda o: statistics.median(x['tokens_per_second'] for x in got[o, gap])
        rows.append([order, gap, spread([x['tokens_per_second'] for x in v]), f"{rate(order) / rate('none'):.2f}", f"{r['reads']:.0f}", f"{r['bytes_read'] / 1e6:.1f}",
                     f"{r['neurons_missed'] / r['reads']:.2f}", f"{r['bytes_read'] / r['neurons_missed'] / stride:.2f}", spread([x['prefill_ms'] for x in v], 0), r['begin_reads'], f"{ext['run']:.2f}"])
    print(f"# {os.path.basename(plain)}, mask {mask}, {ram / 1e6:.0f} MB, bundles of {stride} bytes; reads of tokens and of what comes before them; the last column offline, "
          f'cache {100 * cached:.0f} %, another prompt than profiled')
    table(['order', 'gap', 'tok/s', 'to none', 'reads/token', 'MB/token', 'run', 'amplification', 'prompt ms', 'reads before', 'run, offline'], rows)


offline()
if arg('preset'):
    live()
PY
