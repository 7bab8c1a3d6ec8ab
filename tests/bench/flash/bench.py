"""What the protocols of this folder share: models, runs under a memory cap, records, tables. See lib.sh for the environment."""
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import urllib.request

E = os.environ
STROBE, BENCH, DIR, OUT = E['STROBE'], E['BENCH'], E['DIR'], E['OUT']
QUICK = bool(E['quick'])
# Sampling from the whole distribution: greedy text of random weights falls into loops, which would flatter a neuron cache.
FREE_RUN = ['--temp', '1', '--top-k', '0', '--top-p', '1', '--min-p', '0', '--ignore-eos', '--draft', '0']


def arg(name):
    return E[name]


def count(name):
    return int(E[name])


def each(name):
    return E[name].split()


def fail(text):
    sys.exit(f'{E["PROTOCOL"]}: FAILED: {text}')


def record(**d):
    """One JSON line in the result file; a short form on stderr so that a long run shows life."""
    d = {'protocol': E['PROTOCOL'], **d}
    with open(OUT, 'a') as f:
        f.write(json.dumps(d) + '\n')
    print(json.dumps(d), file=sys.stderr)
    return d


def machine(file=None):
    """CPU, cores, load, memory, kernel and, with a file, the disk's sequential rate now."""
    cpu = next((line.split(': ')[1].strip() for line in open('/proc/cpuinfo') if line.startswith('model name')), '?')
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True).stdout.strip()
    ram = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    d = {'machine': cpu, 'cores': os.cpu_count(), 'load': os.getloadavg()[0], 'ram': ram, 'kernel': platform.release(),
         'commit': commit}
    if file:
        d['disk_bytes_per_second'] = best_rate(file)
    record(**d)
    print(f"# {cpu}, {os.cpu_count()} cores, load {d['load']:.1f}, {ram / 1e9:.0f} GB, kernel {d['kernel']}, {commit}"
          + (f", disk {d['disk_bytes_per_second'] / 1e9:.2f} GB/s" if file else ''))
    return d


def calibrate(file):
    """Measures the disk that the file is on; estimates and runs from here on rest on it, as a user's do after `strobe calibrate`."""
    global DATA # lives as long as the protocol
    DATA = tempfile.TemporaryDirectory()
    E['STROBE_DATA'] = DATA.name
    run = subprocess.run([STROBE, 'calibrate', file, '--json', '-q', '--data', DATA.name, '--seconds', '3' if QUICK else '10'], capture_output=True,
                         text=True, check=True)
    return record(kind='model', **json.loads(run.stdout))


def disk(file, piece, depth, seconds=1, how='seq'):
    run = subprocess.run([f'{BENCH}/disk_rate', file, str(piece), str(depth), str(seconds), how], capture_output=True,
                         text=True, check=True)
    return json.loads(run.stdout)


def best_rate(file):
    return max(disk(file, piece << 20, depth)['bytes_per_second'] for piece, depth in ((2, 8), (2, 32), (4, 16)))


# ---- models; files are kept and reused ----

def made(path, command):
    if not os.path.exists(path):
        part = path + '.part'
        print(f'# makes {path}', file=sys.stderr)
        subprocess.run([*command, part], check=True, stdout=subprocess.DEVNULL)
        os.rename(part, path)
    return path


def spread_of(active):
    """Deviation of the neurons' thresholds: at these, activity overlaps between tokens as published (sparsity.sh measures it; flash.md
    1.4, 2.3: 24 % of the neurons over 5 tokens at 10 % per token, half of them over 150). SPREAD in the environment overrides."""
    return float(E.get('SPREAD') or (1.45 if active >= 0.06 else 1.0))


def synth(preset, kind='', type='f16', active=None, extra=()):
    """kind '': the preset's own activation. 'relu': neurons fire for a share `active` of tokens."""
    words = [f'{BENCH}/synth_gguf', '--preset', preset, '--type', type, '--seed', '1', *extra]
    if kind == 'relu':
        spread = spread_of(float(active))
        words += ['--active', str(active), '--spread', str(spread)] + ([] if preset.startswith('opt') else ['--activation', 'relu'])
        kind = f'relu-a{active}-s{spread:g}'
    return made(os.path.join(DIR, f"{preset}{'-' + kind if kind else ''}-{type}.gguf"), words)


def packed(plain, mask='auto', type=None):
    path = f"{plain[:-5]}{'-' + type if type else ''}-{mask}.gguf"
    words = [STROBE, 'pack', '-q', '-m', plain, '--mask', mask] + (['--type', type] if type else [])
    return made(path, [*words, '-o'])


def rated(plain, mask, place='none'):
    """Packed with the firing rates of a recorded text of 192 tokens (other tokens than the measured ones: another prompt and
    seed). The file without rates, which records them, goes: big models would not fit on the disk twice."""
    path = f"{plain[:-5]}-{mask}-rated{'' if place == 'none' else '-' + place}.gguf"
    trace = f'{plain[:-5]}-{mask}.trace'
    if not os.path.exists(path):
        if not os.path.exists(trace):
            first = packed(plain, mask)
            made(trace, [STROBE, 'generate', '-q', '-m', first, '-p', 'w7 w77 w777', '-n', '192', '--ctx', '256', '--seed', '77', '--threads',
                         arg('threads'), *FREE_RUN, '--neuron-trace'])
            os.remove(first)
        words = [STROBE, 'pack', '-q', '-m', plain, '--mask', mask, '--rates', trace] + (['--place', place] if place != 'none' else [])
        made(path, [*words, '-o'])
    return path


# ---- runs ----

def strobe(command, file, *words, ok=(0,)):
    run = subprocess.run([STROBE, command, '-m', file, '--json', '-q', *map(str, words)], capture_output=True, text=True)
    if run.returncode not in ok:
        fail(f'{command} {file} {words}: exit code {run.returncode}: {run.stderr.strip()[-400:]}')
    return json.loads(run.stdout) if run.stdout else {}


def plan(file, ram, ctx, flash='auto'):
    """The estimate; `fits` says whether this much memory is enough."""
    return strobe('estimate', file, '--ram', int(ram), '--ctx', ctx, '--slots', 1, '--threads', arg('threads'), '--flash',
                  flash, ok=(0, 4))


def least(file, ctx, flash='auto'):
    """The smallest budget: nothing is pinned but what cannot be streamed, no neuron is cached."""
    return plan(file, 1, ctx, flash)['least_bytes']


def capped(limit, command, drop=(), sample=None, env=None, slow=None):
    """Runs a command in its own memory cgroup, with the files dropped from the page cache. slow: {'riops', 'rbps'}, what the
    disk of the first file gives it at most. Returns (stdout, the group)."""
    with tempfile.NamedTemporaryFile('r') as report:
        words = ['tests/bench/flash/cgroup.sh', str(int(limit)), '--report', report.name]
        for f in drop:
            words += ['--drop', f]
        words += ['--sample', sample] if sample else []
        words += ['--disk', drop[0]] if slow else []
        for what, value in (slow or {}).items():
            words += [f'--{what}', str(int(value))]
        run = subprocess.run([*words, '--', *map(str, command)], capture_output=True, text=True, env={**E, **(env or {})})
        if run.returncode == 77:
            print(run.stderr.strip(), file=sys.stderr)
            sys.exit(77)
        text = report.read()
        group = json.loads(text) if text else {}
        group['exit'] = run.returncode
        return run, group


def generate(file, ram, n, *words, prompt='w1 w22 w333', ctx=512, limit=None, sample=None, must=True, slow=None):
    """One `strobe generate` in a cgroup of `limit` bytes (the budget unless given). None: it failed and need not work."""
    command = [STROBE, 'generate', '-m', file, '-p', prompt, '-n', n, '--ram', int(ram), '--ctx', ctx, '--threads',
               arg('threads'), '--json', '-q', *words]
    run, group = capped(limit or ram, command, [file], sample, slow=slow)
    if run.returncode:
        if must:
            fail(f'{file} with {int(ram)} bytes: exit code {run.returncode}, {group}: {run.stderr.strip()[-400:]}')
        return None
    d = json.loads(run.stdout)
    d['group'] = group
    return d


def figures(d):
    """The numbers of a generate document that most protocols record."""
    f, t = d['flash'], d['timings']
    needed = f.get('neurons_needed', 0)
    return {'tokens_per_second': t['tokens_per_second'], 'prefill_ms': t['prefill_ms'], 'bytes_read': f['bytes_read'],
            'reads': f['reads'], 'stall_ms': f['stall_ms'], 'ram_peak': f['ram_peak'], 'group_peak': d['group'].get('peak'),
            'major_faults': d['group'].get('major_faults'),
            'miss_rate': f['neurons_missed'] / needed if needed else None}


DECODED = ('ms', 'wait_ms', 'mask_ms', 'book_ms', 'copy_ms', 'reads', 'missed', 'guessed', 'right')


def decoded(file, ram, n, few=2, **more):
    """What one decoded token takes, waits for and reads: the difference between a long and a short run, so that opening and
    prompt do not count."""
    def sums(tokens):
        d = generate(file, ram, tokens, *FREE_RUN, '--flash', 'sparse', **more)
        f = d['flash']
        return [d['timings']['decode_ms'], f['stall_ms'], f['mask_ms'], f['bookkeeping_ms'], f['copy_ms'], f['reads'], f['neurons_missed'],
                f['neurons_guessed'], f['guessed_right']]
    short, long = sums(few), sums(few + n)
    return dict(zip(DECODED, [(b - a) / n for a, b in zip(short, long)]))


def middle(runs):
    """The median of each figure."""
    return {k: statistics.median(r[k] for r in runs) for k in runs[0]}


class Server:
    """`strobe serve` on a free port of the loopback; close() ends it and checks its exit code."""

    def __init__(self, file, threads, ctx, slots, *words):
        self.data = tempfile.TemporaryDirectory()
        self.p = subprocess.Popen([STROBE, 'serve', '-m', file, '--port', '0', '--ctx', str(ctx), '--slots', str(slots), '--threads',
                                   str(threads), '--data', self.data.name, '-q', *map(str, words)],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.p.stdout.readline()
        if 'listening on' not in line:
            fail(f'the server said {line!r} ({file}, {words})')
        self.url = line.split()[-1]

    def open(self, path, body=None):
        data = json.dumps(body).encode() if body is not None else None
        ask = urllib.request.Request(self.url + path, data, {'Content-Type': 'application/json'})
        return urllib.request.urlopen(ask, timeout=600)

    def complete(self, prompt, n, **more):
        """A completion with its log probabilities, nothing taken from an earlier request's cache."""
        with self.open('/v1/completions', {'prompt': prompt, 'max_tokens': n, 'cache_prompt': False, **more}) as reply:
            return json.load(reply)['choices'][0]

    def stats(self):
        with self.open('/api/flash/stats') as reply:
            return json.load(reply)

    def close(self):
        self.p.send_signal(signal.SIGTERM)
        self.p.stdout.close()
        code = self.p.wait(timeout=60)
        self.data.cleanup()
        if code:
            fail(f'the server ended with {code}')


# ---- tables ----

def spread(values, digits=2):
    v = [x for x in values if x is not None]
    return f'{statistics.median(v):.{digits}f} [{min(v):.{digits}f}..{max(v):.{digits}f}]' if v else '-'


def table(head, rows):
    print('| ' + ' | '.join(head) + ' |')
    print('|' + '---|' * len(head))
    for r in rows:
        print('| ' + ' | '.join(str(c) for c in r) + ' |')
