#!/bin/bash
# P6: does reading hide behind computing? Three parts.
# Time line: one traced answer at `line` % of the memory. Of each layer, in ms since it began (medians over the tokens): its first read
# submitted (below 0: guessed while the layer before ran), the first and the last of its reads done, attention done, layer done.
# Budgets: what a token waits for the disk, and how much longer it takes than with all neurons in memory (exposed), and what asking the
# mask, the cache's bookkeeping and its copies take. Pass: exposed below a tenth where the plan says that memory is the limit, not the
# disk; bookkeeping below a hundredth.
# A slower disk: at `slow_at` % of the memory, in a cgroup whose reads a second are limited to `slow` % of what the disk gives. Each
# is calibrated as it is, and then predicted by `strobe estimate`. Pass: within 25 % of the prediction. Skipped, loudly, where no
# cgroup can slow reads down.
#   tests/bench/flash/p6_overlap.sh [--quick] [--preset tinyllama] [--active 0.1] [--mask sketch4] [--line 70] [--shares "40 50 60 70 80"]
#       [--slow_at 70] [--slow "50 25 12 6 3"] [--rounds 3] [--tokens 64] [--parts "line budgets slow"]
#       [--rates 1] [--place none]      as of p7_baselines.sh
cd "$(dirname "$0")/../../.." && set -eu
preset=tinyllama active=0.1 mask=sketch4 line=70 shares="40 50 60 70 80" slow_at=70 slow="50 25 12 6 3" rounds=3 tokens=64 parts="line budgets slow"
rates=1 place=none threads=$(nproc)
opts="preset active mask line shares slow_at slow rounds tokens parts rates place threads"
. tests/bench/flash/lib.sh
flash_args "$@"
exec python3 - <<'PY'
import statistics
from bench import *

rounds, n = (1, 16) if QUICK else (count('rounds'), count('tokens'))
plain = synth(arg('preset'), 'relu', 'f16', arg('active'))
file = rated(plain, arg('mask'), arg('place')) if arg('rates') != '0' else packed(plain, arg('mask'))
size = os.path.getsize(plain)
misses = []


def budget(share):
    return int(size * int(share) / 100)


def fits(share, ctx=512):
    p = plan(file, budget(share), ctx, 'sparse')
    if not p['fits']:
        record(kind='skipped', share=share, least=p['least_bytes'], ram=budget(share))
        print(f"SKIPPED: {share} % of the memory: {p['least_bytes']} bytes are the least", file=sys.stderr)
    return p if p['fits'] else None


# ---- time line ----

def traced(share):
    server = Server(file, arg('threads'), 512, 1, '--ram', budget(share), '--flash', 'sparse')
    try:
        body = {'prompt': 'w1 w22 w333', 'max_tokens': n + 1, 'temperature': 1, 'seed': 5, 'ignore_eos': True, 'cache_prompt': False, 'draft_max': 0,
                'flash': {'trace': True}}
        with server.open('/v1/completions', body) as reply:
            id = json.load(reply)['flash']['trace']
        with server.open(f'/api/flash/traces/{id}') as reply:
            return json.load(reply)
    finally:
        server.close()


def whole(layer):
    return sum(layer[k] for k in ('attention_ns', 'mask_ns', 'wait_ns', 'compute_ns'))


def time_line(share):
    if not fits(share):
        return
    t = traced(share)
    tokens = [p['layers'] for p in t['passes'] if p['phase'] == 'decode']
    reads = [[[] for _ in layers] for layers in tokens]
    for r in t['reads']: # a read is for the first pass whose layer has not ended when it is done
        if r['layer'] is None:
            continue
        for k, layers in enumerate(tokens):
            own = layers[r['layer']]
            if r['start_ns'] + r['ns'] <= own['start_ns'] + whole(own):
                reads[k][r['layer']].append(r)
                break
    rows = []
    for l in range(t['layers']):
        v = {k: [] for k in ('submit', 'first', 'last', 'attention', 'end', 'waits', 'reads')}
        for layers, own in zip(tokens, (token[l] for token in reads)):
            x = layers[l]
            v['attention'].append((x['ffn_start_ns'] - x['start_ns']) / 1e6)
            v['end'].append(whole(x) / 1e6)
            v['waits'].append(x['wait_ns'] / 1e6)
            v['reads'].append(len(own))
            if own and layers is not tokens[0]: # the first one's began with the prompt
                v['submit'].append((min(r['start_ns'] for r in own) - x['start_ns']) / 1e6)
                done = [r['start_ns'] + r['ns'] - x['start_ns'] for r in own]
                v['first'].append(min(done) / 1e6)
                v['last'].append(max(done) / 1e6)
        d = {k: statistics.median(x) if x else None for k, x in v.items()}
        record(kind='line', share=share, layer=l, tokens=len(tokens), **d)
        rows.append([l] + [f'{d[k]:.2f}' if d[k] is not None else '-' for k in ('submit', 'first', 'attention', 'last', 'end', 'waits')] + [f"{d['reads']:.0f}"])
    print(f"\n# time line, {share} % of the memory, {len(tokens)} tokens, ms since the layer began; {t['dropped']['reads']} reads had no room in the trace")
    table(['layer', 'first read begins', 'first is there', 'attention done', 'last is there', 'layer done', 'of it waits', 'reads'], rows)


# ---- budgets ----

def budgets():
    shares, ideal, runs, limit = [s for s in each('shares') if fits(s)], [], {}, {}
    for _ in range(rounds):
        ideal.append(decoded(file, size * 1.3, n))
        record(kind='in memory', **ideal[-1])
        for share in shares:
            limit[share] = plan(file, budget(share), 512, 'sparse')['limit']
            d = decoded(file, budget(share), n)
            d['exposed'] = 1 - ideal[-1]['ms'] / d['ms']
            runs.setdefault(share, []).append(record(kind='budget', share=share, ram=budget(share), limit=limit[share], **d))
    rows, base = [], middle(ideal)
    numbers = lambda v: {k: statistics.median(r[k] for r in v) for k in (*DECODED, 'exposed')}
    for share in shares:
        m = numbers(runs[share])
        part = lambda k: f"{m[k]:.2f} ({100 * m[k] / m['ms']:.1f} %)"
        rows.append([f'{share} %', spread([r['ms'] for r in runs[share]]), f"{100 * m['exposed']:.1f} %", part('wait_ms'), part('mask_ms'), part('book_ms'),
                     part('copy_ms'), f"{m['missed']:.0f}", f"{m['guessed']:.0f}", f"{m['right']:.0f}", f"{m['reads']:.0f}", limit[share]])
        if limit[share] == 'memory bandwidth' and m['exposed'] >= 0.1:
            misses.append(f"{share} %: {100 * m['exposed']:.1f} % exposed")
        if m['book_ms'] >= 0.01 * m['ms']:
            misses.append(f"{share} %: bookkeeping {100 * m['book_ms'] / m['ms']:.2f} %")
    print(f"\n# budgets, ms a token; all in memory: {spread([r['ms'] for r in ideal])}, of it masks {base['mask_ms']:.2f}, bookkeeping {base['book_ms']:.2f}")
    table(['budget', 'a token', 'exposed', 'waits', 'masks', 'bookkeeping', 'copies', 'misses', 'guessed', 'right', 'reads', 'the plan says'], rows)


# ---- a slower disk ----

def slower(share):
    if not fits(share):
        return
    probe, ram, rows = strobe('inspect', file)['metadata']['strobe.pack.stride'], budget(share), []
    d = disk(file, -(-probe // 4096) * 4096, 64, how='random')
    full = d['reads'] / d['seconds']
    run = subprocess.run(['tests/bench/flash/cgroup.sh', str(1 << 30), '--disk', file, '--riops', str(int(full)), '--', 'true'], capture_output=True, text=True)
    if run.returncode == 77:
        print(run.stderr.strip(), file=sys.stderr)
        record(kind='skipped', part='slow', reason=run.stderr.strip())
        return
    for percent in [100, *map(int, each('slow'))]:
        slow = {'riops': full * percent / 100} if percent < 100 else None
        with tempfile.TemporaryDirectory() as data:
            before, E['STROBE_DATA'] = E['STROBE_DATA'], data
            got, group = capped(1 << 30, [STROBE, 'calibrate', file, '--json', '-q', '--data', data, '--seconds', '3' if QUICK else '10'], [file], slow=slow)
            if got.returncode:
                fail(f'calibrate at {percent} %: {got.stderr.strip()[-300:]}')
            model, p = json.loads(got.stdout), plan(file, ram, 512, 'sparse')
            runs = [decoded(file, ram, n, slow=slow) for _ in range(rounds)]
            E['STROBE_DATA'] = before
        m, want = middle(runs), 1e3 / p['tokens_per_second']
        record(kind='slow', percent=percent, riops=slow and slow['riops'], predicted_ms=want, limit=p['limit'], model=model, **m)
        rows.append([f'{percent} %', f"{full * percent / 100:.0f}", spread([r['ms'] for r in runs]), f'{want:.1f}', f"{100 * (m['ms'] / want - 1):+.0f} %",
                     f"{100 * m['wait_ms'] / m['ms']:.0f} %", f"{m['reads']:.0f}", p['limit']])
        if abs(m['ms'] / want - 1) > 0.25:
            misses.append(f"disk at {percent} %: {100 * (m['ms'] / want - 1):+.0f} % of the prediction")
    print(f'\n# a slower disk, {share} % of the memory: reads a second limited to shares of {full:.0f}')
    table(['disk', 'reads/s at most', 'ms a token', 'predicted', 'error', 'waits', 'reads a token', 'the plan says'], rows)


machine(plain)
calibrate(plain)
if 'line' in each('parts'):
    time_line(arg('line'))
if 'budgets' in each('parts'):
    budgets()
if 'slow' in each('parts'):
    slower(arg('slow_at'))
print('\nMISS: ' + '; '.join(misses) if misses else '\nPASS')
PY
