#!/bin/bash
# P2: are the tokens the same wherever the weights are? 50 prompts of 256 greedy tokens over HTTP, once per mask kind resident in
# full (the reference, and its unpacked original), then with every budget (100 % and 10 % of neurons cached), number of threads,
# source, alone (one by one) and crowded (four at a time with a client that comes and goes beside them). One SHA-256 per run over all
# tokens and their log probabilities, as printed. Any difference ends the script with code 1 and says where.
#   tests/bench/flash/p2_exact.sh [--quick] [--prompts 50] [--tokens 256] [--masks "resident sketch"] [--threads "1 2"]
#       [--sources "uring pread buffered"] [--layers 3] [--embd 256] [--ff 1024]
# The model is small, so that all of it takes some 20 minutes on two cores; its neurons fire for 10 % of tokens.
cd "$(dirname "$0")/../../.." && set -eu
prompts=50 tokens=256 masks="resident sketch" threads="1 2" sources="uring pread buffered" layers=3 embd=256 ff=1024
opts="prompts tokens masks threads sources layers embd ff"
. tests/bench/flash/lib.sh
flash_args "$@"
exec python3 - <<'PY'
import concurrent.futures, hashlib, random, threading, time
from bench import *

n_prompt, n_tok = (8, 48) if QUICK else (count('prompts'), count('tokens'))
all_threads = each('threads')
E['threads'] = all_threads[0]
shape = [w for k in ('layers', 'embd', 'ff') for w in (f'--{k}', arg(k))] + ['--heads', '8', '--kv', '4', '--vocab', '2048']
name = f"exact-{arg('layers')}x{arg('embd')}x{arg('ff')}"
plain = made(os.path.join(DIR, name + '.gguf'), [f'{BENCH}/synth_gguf', '--type', 'f16', '--seed', '5', '--activation', 'relu',
                                                 '--active', '0.1', *shape])
ctx = n_tok + 64
rng = random.Random(2)
# ids: the synthetic vocabulary's words cannot be spelt from their letters
texts = [[rng.randrange(3, 2048) for _ in range(rng.randrange(2, 40))] for _ in range(n_prompt)]


def answer(server, ids):
    d = server.complete(ids, n_tok, temperature=0, ignore_eos=True, logprobs=1)['logprobs']
    return json.dumps([d['tokens'], d['token_logprobs'], d['top_logprobs']])


def come_and_go(server, stop):
    r = random.Random(9)
    while not stop.is_set():
        ids = [r.randrange(3, 2048) for _ in range(r.randrange(1, 60))]
        server.complete(ids, r.randrange(1, 30), temperature=1, seed=r.randrange(999))


def run(server, crowded):
    if not crowded:
        return [answer(server, t) for t in texts]
    stop = threading.Event()
    side = threading.Thread(target=come_and_go, args=(server, stop))
    side.start()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        out = list(pool.map(lambda t: answer(server, t), texts))
    stop.set()
    side.join()
    return out


def hash_of(out):
    return hashlib.sha256('\n'.join(out).encode()).hexdigest()


def ram_for(file, share):
    """The least budget that caches this share of neurons; the engine takes what it is given, so the plan is asked."""
    ask = lambda ram: strobe('estimate', file, '--ram', ram, '--ctx', ctx, '--slots', 4, '--flash', 'sparse', ok=(0, 4))
    low = ask(1)['least_bytes']
    low, high = ask(low)['least_bytes'], low * 8 # defaults may grow with the budget
    want = int(share * int(arg('ff')))
    while high - low > 4096:
        mid = (low + high) // 2
        d = ask(mid)
        low, high = (low, mid) if d['fits'] and d['neurons_cached_per_layer'] >= want else (mid, high)
    return high


machine(plain)
rows, bad, reference = [], 0, None


def check(label, server, crowded, **what):
    global reference, bad
    start = time.monotonic()
    out = run(server, crowded)
    stats = server.stats()
    h = hash_of(out)
    reference = reference or out
    same = out == reference
    where = next((i for i, (x, y) in enumerate(zip(out, reference)) if x != y), None)
    record(kind='run', label=label, crowded=crowded, hash=h, same=same, first_difference=where, seconds=time.monotonic() - start,
           misses=stats.get('neurons_missed'), needed=stats.get('neurons_needed'), mode=stats['mode'], source=stats.get('source'), **what)
    miss = f"{stats['neurons_missed'] / stats['neurons_needed'] * 100:.0f} %" if stats.get('neurons_needed') else '-'
    rows.append([label, 'crowded' if crowded else 'alone', stats['mode'], stats.get('source'), miss, h[:16], 'same' if same else f'DIFFERS at prompt {where}'])
    bad += not same


def runs(label, file, ram, threads, *words, both=True, **what):
    server = Server(file, threads, ctx, 4, *(['--ram', ram] if ram else []), *words)
    try:
        for crowded in ((False, True) if both else (False,)):
            check(label, server, crowded, threads=int(threads), ram=ram, **what)
    finally:
        server.close()


runs('not packed, in RAM', plain, 0, all_threads[0], '--flash', 'off', both=False)
for mask in each('masks'):
    pack = packed(plain, mask)
    budgets = {'100 %': ram_for(pack, 1), '10 %': ram_for(pack, 0.1)}
    runs(f'{mask}, in RAM', pack, 0, all_threads[-1], '--flash', 'off', mask=mask)
    for threads in all_threads:
        for share, ram in budgets.items():
            for source in each('sources')[:1 if share == '100 %' else None]: # with all in memory hardly anything is read
                runs(f'{mask}, {share} cached, {threads} threads', pack, ram, threads, '--flash', 'sparse', '--source', source, mask=mask, share=share)
table(['run', 'company', 'mode', 'source', 'missed', 'sha256', 'verdict'], rows)
if bad:
    fail(f'{bad} of {len(rows)} runs differ')
print(f'\nPASS: {len(rows)} runs of {n_prompt} prompts x {n_tok} tokens, one hash')
PY
