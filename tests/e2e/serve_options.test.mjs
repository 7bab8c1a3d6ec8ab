// Every option of `strobe serve`: its bounds are kept, and a mistake is one line that names it, with exit code 2.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { slow, strobe } from './lib.mjs';

const run = (...args) => new Promise((resolve) => {
  execFile(strobe, ['serve', ...args], { timeout: 60000 * slow }, (e, stdout, stderr) => resolve({ code: e ? e.code : 0, stdout, stderr }));
});
// An absent model file ends a run whose options were fine: exit code 3.
const absent = ['-m', '/no/such/model.gguf', '--port', '0'];

// bad: refused with code 2; good: reaches the model. Options without a value have neither.
const table = {
  json: {}, quiet: {}, verbose: {}, help: {}, 'log-json': {},
  threads: { bad: ['0', '257', 'x', '-1', '1.5'], good: ['1', '256'] },
  model: {},
  ram: { bad: ['x', '-1', '5parsec', ''], good: ['1GiB', '6GB', '1000000'] },
  ctx: { bad: ['0', '16777217', 'x'], good: ['1', '16777216'] },
  flash: { bad: ['on', ''], good: ['auto', 'off', 'dense'] },
  source: { bad: ['tape', ''], good: ['auto', 'uring', 'pread', 'buffered', 'mmap'] },
  cpu: { bad: ['sse9', ''], good: ['ref'] },
  activation: {},
  'cache-policy': { bad: ['fifo', ''], good: ['adaptive', 'lfu', 'lru', 'window', 'static'] },
  keep: { bad: ['-0.1', '0', '1.5', 'x'], good: ['0.5', '1'] },
  'no-overlap': {},
  'draft-model': {},
  'draft-self': {},
  reuse: { bad: ['-1', '1048577', 'x'], good: ['0', '1048576'] },
  'mask-sigma': { bad: ['-1', '101', 'x'], good: ['0', '2.5', '100'] },
  'mask-check': { bad: ['-1', '16777217', 'x', '1.5'], good: ['0', '1', '16777216'] },
  kv: { bad: ['f8', ''], good: ['f16', 'f32', 'auto'] },
  data: {},
  slots: { bad: ['0', '257', 'x'], good: ['1', '256'] },
  batch: { bad: ['0', '65537', 'x'], good: ['1', '65536'] },
  span: { bad: ['0', '65537', 'x'], good: ['1', '65536'] },
  queue: { bad: ['0', '65537', 'x'], good: ['1', '65536'] },
  host: {},
  port: { bad: ['-1', '65536', 'x', '80.5', '0x50'], good: ['1', '65535'] },
  'api-key-file': {},
  'cors-origin': { bad: ['', 'x', 'http://', 'http://a/', 'http://a b', 'http://a,http://b'], good: ['*', 'https://ui.example', 'http://localhost:3000'] },
  'max-body': { bad: ['x', '0', '-1', '10 apples'], good: ['1KiB', '1GiB'] },
  jobs: { bad: ['0', '17', 'x'], good: ['1', '16'] },
  store: { bad: ['x', 'mysql://u:secret@h/d'], good: ['sqlite:/no/such/file', 'postgresql://u@h/d'] },
  'duo-model': {},
  'duo-traces-max': { bad: ['0', '4097', 'x'], good: ['1', '4096'] },
  'duo-traces-bytes': { bad: ['x', '0', '-1', '10 apples'], good: ['1KiB', '1GiB'] },
  'duo-job-traces-max': { bad: ['0', '4097', 'x'], good: ['1', '4096'] },
  'duo-job-traces-bytes': { bad: ['x', '0', '-1', '10 apples'], good: ['1KiB', '4GiB'] },
  'eval-store': { bad: ['x', 'mysql://u:secret@h/d'], good: ['sqlite:/no/such/file', 'postgresql://u@h/d'] },
  'recsys-store': { bad: ['x', 'mysql://u:secret@h/d'], good: ['sqlite:/no/such/file', 'postgresql://u@h/d'] },
  'allow-paths': {},
  drain: { bad: ['0', '3601', 'x'], good: ['1', '3600'] },
};

test('every option is in the help and in this table', async () => {
  const { code, stdout, stderr } = await run('--help');
  assert.equal(code, 0);
  assert.equal(stderr, '');
  const named = [...stdout.matchAll(/^ {2}(?:-.,| {3}) --([a-z-]+)( [A-Z]+)? +\S/gm)];
  assert.deepEqual(named.map((m) => m[1]).sort(), Object.keys(table).sort());
  for (const [, name, value] of named) {
    if (!value) continue;
    const r = await run(`--${name}`);
    assert.equal(r.code, 2, `--${name} without a value`);
    assert.match(r.stderr, new RegExp(`^strobe serve: --${name} needs a value`));
  }
});

test('values out of bounds are refused by name, those at the bounds are taken', async () => {
  for (const [name, { bad = [], good = [] }] of Object.entries(table)) {
    for (const v of bad) {
      const r = await run(...absent, `--${name}=${v}`);
      assert.equal(r.code, 2, `--${name}=${v}: ${r.code} ${r.stderr}`);
      assert.match(r.stderr, new RegExp(`^strobe serve: .*--${name}.*\\n$`), `--${name}=${v}`);
      assert.equal(r.stdout, '');
    }
    for (const v of good) {
      const r = await run(...absent, `--${name}=${v}`);
      assert.equal(r.code, 3, `--${name}=${v}: ${r.code} ${r.stderr}`);
    }
  }
});

test('what is unknown or unsafe ends with code 2', async () => {
  for (const args of [['--fly'], ['-z'], ['word'], ['--json=1'], ['--quiet=yes'], ['--host', '0.0.0.0', '--port', '0'], ['--host', '::', '--port', '0']]) {
    const r = await run(...args);
    assert.equal(r.code, 2, `${args}: ${r.code} ${r.stderr}`);
    assert.equal(r.stderr.trim().split('\n').length, 1, r.stderr);
  }
  assert.match((await run('--prot', '0')).stderr, /did you mean '--port'\?/);
  assert.doesNotMatch((await run('--store', 'mysql://u:secret@h/d')).stderr, /secret/);
});
