// `mpirun -n N strobe train`: several processes train as one does, with all moments everywhere or with shares of them (zero1).
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { slow, strobe } from './lib.mjs';

const dir = mkdtempSync(join(tmpdir(), 'strobe-ranks-'));
const env = { ...process.env, OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' };
const STEPS = 12;
// As the program under test sees it: one of two processes says what it lacks.
const probe = spawnSync('mpirun', ['--oversubscribe', '-n', '1', strobe, 'train', '--out', join(dir, 'none')], { env, encoding: 'utf8' });
const why = probe.error ? 'no mpirun' : /MPI|libmpi/.test(probe.stderr) && !/no folder|data/.test(probe.stderr) ? probe.stderr.split('\n')[0] : null;
if (why) console.error(`SKIPPED: training on several processes (${why})`);
const opts = { skip: why ?? false, timeout: 240000 * slow };

before(() => {
  const animals = ['cat', 'dog', 'hen', 'cow', 'owl'];
  let text = '';
  for (let i = 0; i < 600; i++) text += `The ${animals[i % 5]} has ${i % 17} seeds and finds ${i % 7} more. Now it has ${i % 17 + i % 7}.<|endoftext|>\n`;
  writeFileSync(join(dir, 'text.txt'), text);
  writeFileSync(join(dir, 'c.json'), JSON.stringify({ data: join(dir, 'text.txt'), n_vocab: 290, n_layer: 3, d_model: 64, n_head: 2, ctx: 32,
    batch: 4, accumulate: 2, steps: STEPS, eval_every: 4, checkpoint_every: 4, threads: 1, clip: 0.5 }));
});
after(() => rmSync(dir, { recursive: true }));

// n 0: without mpirun.
function train(n, run, ...args) {
  const own = ['train', '--config', join(dir, 'c.json'), '--json', '-q', ...args];
  const command = n ? ['mpirun', '--oversubscribe', '--bind-to', 'none', '-n', String(n), strobe, ...own] : [strobe, ...own];
  if (!args.includes('--resume')) command.push('--out', join(dir, run));
  return spawnSync(command[0], command.slice(1), { env, encoding: 'utf8', timeout: 120000 * slow });
}
function trained(n, run, ...args) {
  const r = train(n, run, ...args);
  assert.equal(r.status, 0, r.stderr);
  assert.equal(r.stdout.trim().split('\n').length, 1, `one rank prints one document: ${r.stdout}`);
  return JSON.parse(r.stdout);
}
const state = (run, file) => readFileSync(join(dir, run, 'checkpoints/last', `${file}.bin`));
const lines = (run) => readFileSync(join(dir, run, 'metrics.jsonl'), 'utf8').trim().split('\n').map((l) => JSON.parse(l));
function sameState(a, b) {
  for (const f of ['params', 'm', 'v']) assert.ok(state(a, f).equals(state(b, f)), `${f} of ${a} and ${b}`);
}
function closeLosses(a, b) {
  const [x, y] = [lines(a), lines(b)];
  assert.equal(x.length, STEPS);
  assert.equal(y.length, STEPS);
  x.forEach((l, i) => {
    for (const key of ['loss', 'val_loss', 'grad_norm']) {
      if (l[key] === undefined) continue;
      assert.ok(Math.abs(l[key] - y[i][key]) <= 1e-6 * Math.abs(l[key]), `step ${l.step}, ${key}: ${l[key]} and ${y[i][key]}`);
    }
  });
}

test('two ranks with half of the batch each train as one rank with all of it', opts, () => {
  trained(0, 'one');
  const r = trained(2, 'two');
  assert.equal(r.steps, STEPS);
  assert.equal(r.tokens, STEPS * 4 * 2 * 32);
  closeLosses('one', 'two');
});

test('two ranks run twice, and ranks with other numbers of threads, give the same bits', opts, () => {
  trained(2, 'again', '--threads', '2');
  sameState('two', 'again');
});

test('shares of the moments give the same bits as all of them, and a checkpoint has all', opts, () => {
  trained(2, 'shares', '--zero1', 'true');
  sameState('two', 'shares');
  assert.deepEqual(lines('two').map((l) => [l.step, l.loss, l.val_loss, l.grad_norm]),
    lines('shares').map((l) => [l.step, l.loss, l.val_loss, l.grad_norm]));
});

test('a stopped run goes on with shares or without, bit for bit', opts, () => {
  trained(2, 'parts', '--stop_at', '5', '--zero1', 'true');
  trained(2, 'parts', '--resume', join(dir, 'parts'), '--stop_at', '8', '--zero1', 'false');
  trained(2, 'parts', '--resume', join(dir, 'parts'), '--stop_at', '0', '--zero1', 'true');
  sameState('two', 'parts');
});

test('a run goes on with another number of ranks', opts, () => {
  trained(2, 'fewer', '--stop_at', '5');
  trained(0, 'fewer', '--resume', join(dir, 'fewer'), '--stop_at', '9');
  const r = trained(3, 'fewer', '--resume', join(dir, 'fewer'), '--stop_at', '0', '--zero1', 'true');
  assert.equal(r.steps, STEPS);
  closeLosses('one', 'fewer');
});

test('a rank that fails ends them all, with its exit code and one message', opts, () => {
  const r = train(2, 'two'); // holds a run already: rank 0 alone knows
  assert.equal(r.status, 2, r.stderr);
  assert.match(r.stderr, /holds a run already/);
  assert.equal(r.stdout.trim(), '');
});

test('more ranks than sequences are refused', opts, () => {
  const r = train(5, 'many');
  assert.equal(r.status, 2, r.stderr);
  assert.match(r.stderr, /batch is 4, but 5 processes/);
  assert.ok(!existsSync(join(dir, 'many')) || !readdirSync(join(dir, 'many')).includes('run.json'));
});
