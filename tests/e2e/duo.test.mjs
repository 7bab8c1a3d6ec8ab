// Duo models over HTTP and the command line, on the bundled one: traces at once and as jobs, figures, routes of completions, refusals.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { slow, startServer, strobe, until } from './lib.mjs';

const duo = new URL('../../deploy/model/strobe-duo.gguf', import.meta.url).pathname;
const small = new URL('../../deploy/model/strobe-small.gguf', import.meta.url).pathname;
const openapi = new URL('../../server/openapi.json', import.meta.url).pathname;
const dir = mkdtempSync(join(tmpdir(), 'strobe-duo-'));
const opts = { timeout: 120000 * slow };
const CURVES = ['all_big', 'all_small', 'fixed_best', 'mixture', 'oracle', 'oracle_nml', 'placebo', 'router'];
const run = promisify(execFile);
let server;

before(async () => { server = await startServer(['-m', duo, '--threads', '1', '--slots', '2']); });
after(async () => {
  assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.log());
  rmSync(dir, { recursive: true });
});

async function call(path, body, base = server) {
  const res = await fetch(base.url + path, body === undefined ? {} : { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
  return { status: res.status, headers: res.headers, body: await res.json() };
}
const cheap = { text: 'Anna has 3 apples.', search: 'random', random: 24, placebo: 4, committed: 0 };

test('a small trace is answered at once, kept, listed, and its figures come from the file', opts, async () => {
  const made = await call('/api/duo/traces', cheap);
  assert.equal(made.status, 200);
  const t = made.body;
  assert.equal(t.format, 'strobe-duo-trace');
  assert.deepEqual(Object.keys(t.curves).sort(), CURVES);
  assert.equal(made.headers.get('location'), `/api/duo/traces/${t.id}`);
  assert.deepEqual((await call(`/api/duo/traces/${t.id}`)).body.curves, t.curves);
  const list = (await call('/api/duo/traces?limit=1')).body;
  assert.equal(list.object, 'list');
  assert.equal(list.data[0].id, t.id);
  for (const figure of ['budget_curve', 'layer_usage', 'layer_position', 'tokens', 'difficulty', 'schedule', 'agreement', 'controls'])
    assert.equal((await call(`/api/duo/traces/${t.id}/aggregate?figure=${figure}`)).body.figure, figure);
  const tokens = (await call(`/api/duo/traces/${t.id}/aggregate?figure=tokens&budget=6`)).body.tokens;
  assert.equal(tokens.map((x) => x.text).join('').endsWith('apples.'), true);
  for (const x of tokens) if (x.oracle !== null) assert.ok(x.oracle_route.split('b').length - 1 === 6, x.oracle_route);
});

test('the examples of the API description run as they stand', opts, async () => {
  const doc = JSON.parse(readFileSync(openapi, 'utf8'));
  const body = doc.paths['/api/duo/traces'].post.requestBody.content['application/json'];
  for (const { value } of Object.values(body.examples)) {
    const r = await call('/api/duo/traces', value);
    assert.ok([200, 202].includes(r.status), JSON.stringify(r.body));
  }
});

test('a large trace becomes a job with progress, which can be cancelled, and one that ends is a trace', opts, async () => {
  const long = await call('/api/duo/traces', { symbolic: true, tokens: 4096, committed: 0 });
  assert.equal(long.status, 202);
  await until('it runs', async () => (await call(`/api/jobs/${long.body.id}`)).body.state === 'running', 30000);
  await until('it tells how far it is', async () => {
    const { progress } = (await call(`/api/jobs/${long.body.id}`)).body;
    return progress && progress.what === 'searching' && progress.share > 0;
  }, 60000);
  await call(`/api/jobs/${long.body.id}/cancel`, {});
  await until('it is cancelled', async () => (await call(`/api/jobs/${long.body.id}`)).body.state === 'cancelled', 60000);
  assert.equal((await call(`/api/duo/traces/${long.body.id}`)).status, 404);
  const job = await call('/api/duo/traces', { symbolic: true, tokens: 8192, search: 'random', random: 2, placebo: 1, committed: 0 });
  assert.ok([200, 202].includes(job.status));
  if (job.status === 200) return;
  // It has a low priority: on a busy machine the server would wait for it long after the last test.
  await call(`/api/jobs/${job.body.id}/cancel`, {});
  await until('it ended', async () => ['done', 'cancelled'].includes((await call(`/api/jobs/${job.body.id}`)).body.state), 60000);
});

test('what is wrong is said with its name', opts, async () => {
  const cases = [[{ ...cheap, budget: 1.5 }, 'budget'], [{ ...cheap, budgets: [0.5, -1] }, 'budgets'], [{ ...cheap, search: 'magic' }, 'search'], [{ search: 'random' }, 'text'],
    [{ ...cheap, mode: 'dream' }, 'mode'], [{ ...cheap, texts: 1 }, 'texts'], [{ ...cheap, model: 'elsewhere.gguf' }, 'model'], [{ ...cheap, controls: ['hope'] }, 'controls'],
    [{ ...cheap, choices: 4 }, 'choices'], [{ file: '/etc/passwd' }, 'file']];
  for (const [body, param] of cases) {
    const r = await call('/api/duo/traces', body);
    assert.equal(r.status, 400, JSON.stringify(body));
    assert.equal(r.body.error.param, param, r.body.error.message);
  }
  const longer = await call('/api/duo/traces', { ...cheap, text: 'apples and pears and '.repeat(200) });
  assert.equal(longer.status, 400);
  assert.match(longer.body.error.message, /tokens, the model's context is 256/);
  const many = await call('/api/duo/traces', { ...cheap, search: 'exhaustive', choices: 3, symbolic: true, text: undefined, tokens: 4096 });
  assert.equal(many.status, 400);
  assert.match(many.body.error.message, /^531441 routes for 4\d\d\d tokens need a table of \d+ MiB .*(beam|random)/);
  for (const [body, param] of [[{ mode: 'fixed', pattern: 'bs' }, 'pattern'], [{ mode: 'fixed', pattern: 'x'.repeat(12) }, 'pattern'], [{ search: 'fixed' }, 'pattern'], [{ pattern: 'b'.repeat(12) }, 'pattern'],
    [{ search: 'restricted' }, 'search']]) {
    const r = await call('/api/duo/traces', { text: 'Tom has 4 pears.', committed: 0, placebo: 0, ...body });
    assert.equal(r.status, 400, JSON.stringify(body));
    assert.equal(r.body.error.param, param, r.body.error.message);
  }
  assert.equal((await call('/api/duo/traces/none')).status, 404);
  assert.equal((await call('/api/duo/traces/..%2F..%2Fetc')).status, 404);
  assert.equal((await call('/api/duo/traces/none/aggregate?figure=budget_curve')).status, 404);
});

test('every mode of a trace does what it says', opts, async () => {
  const ask = async (more) => {
    const r = await call('/api/duo/traces', { text: 'Tom has 4 pears and eats 2.', committed: 0, placebo: 4, random: 12, ...more });
    assert.equal(r.status, 200, JSON.stringify(r.body));
    return r.body;
  };
  const tried = (t) => t.routes.reduce((a, b) => a + b, 0);
  const all = await ask({ mode: 'all', search: 'random' });
  assert.ok(all.router && all.curves.router.length === 13 && all.curves.placebo.length > 0);
  const oracle = await ask({ mode: 'oracle', search: 'random' });
  assert.equal(oracle.router, false);
  assert.equal(oracle.curves.router.length, 0);
  assert.deepEqual(oracle.curves.oracle, all.curves.oracle);
  const router = await ask({ mode: 'router' });
  assert.deepEqual(router.curves.router, all.curves.router);
  assert.equal(tried(router), 12);
  const random = await ask({ mode: 'random', random: 30 });
  assert.deepEqual([tried(random), random.search], [30, 'random']);
  const fixed = await ask({ mode: 'fixed', pattern: 'bsbsbsbsbsbs' });
  assert.deepEqual([tried(fixed), fixed.search, fixed.routes[6], fixed.fixed_routes[6], fixed.evaluations], [1, 'fixed', 1, 'bsbsbsbsbsbs', 12]);
  assert.equal(fixed.curves.fixed_best[0].nats, fixed.curves.oracle[0].nats);
  assert.equal(tried(await ask({ mode: 'fixed' })), 12);
});

test('only so many traces are kept, the oldest go, and one can be deleted', opts, async () => {
  const few = await startServer(['-m', duo, '--threads', '1', '--slots', '1', '--duo-traces-max', '2']);
  try {
    const quick = { text: 'Tom has 4', search: 'random', random: 2, committed: 0, placebo: 0, nml: false };
    const ids = [];
    for (let i = 0; i < 4; i += 1) ids.push((await call('/api/duo/traces', quick, few)).body.id);
    const list = async () => (await call('/api/duo/traces', undefined, few)).body;
    const kept = await list();
    assert.deepEqual(kept.data.map((x) => x.id), [ids[3], ids[2]]);
    assert.deepEqual([kept.kept.traces, kept.kept.max_traces, kept.kept.max_bytes], [2, 2, 2 ** 30]);
    assert.equal(kept.kept.bytes, kept.data[0].bytes + kept.data[1].bytes);
    assert.equal((await call(`/api/duo/traces/${ids[0]}`, undefined, few)).status, 404);
    const remove = (id) => fetch(`${few.url}/api/duo/traces/${id}`, { method: 'DELETE' });
    const gone = await remove(ids[3]);
    assert.deepEqual([gone.status, await gone.json()], [200, { id: ids[3], deleted: true }]);
    assert.equal((await remove(ids[3])).status, 404);
    assert.equal((await remove('..%2F..%2Fevals.db')).status, 404);
    assert.deepEqual((await list()).data.map((x) => x.id), [ids[2]]);
    // A trace that was damaged on the disk says so, and goes all the same.
    const path = join(few.data, 'duo', ids[2], 'trace.bin');
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1] ^= 1;
    writeFileSync(path, bytes);
    const bad = await call(`/api/duo/traces/${ids[2]}`, undefined, few);
    assert.deepEqual([bad.status, bad.body.error.code], [503, 'disk_error']);
    assert.match(bad.body.error.message, /checksum/);
    assert.equal((await call(`/api/duo/traces/${ids[2]}/aggregate?figure=tokens`, undefined, few)).status, 503);
    assert.equal((await remove(ids[2])).status, 200);
  } finally {
    await few.stop();
  }
  const bytes = await startServer(['-m', duo, '--threads', '1', '--slots', '1', '--duo-traces-bytes', '1']);
  try {
    const quick = { text: 'Tom has 4', search: 'random', random: 2, committed: 0, placebo: 0, nml: false };
    await call('/api/duo/traces', quick, bytes);
    const last = (await call('/api/duo/traces', quick, bytes)).body.id;
    assert.deepEqual((await call('/api/duo/traces', undefined, bytes)).body.data.map((x) => x.id), [last], 'the newest stays');
  } finally {
    await bytes.stop();
  }
});

test('of jobs too only so many traces are kept, and the jobs stay', opts, async () => {
  // A program that takes no time in the place of a long search.
  const made = join(dir, 'made.bin');
  await run(strobe, ['duo', 'trace', '-m', duo, '--text', 'Tom has 4', '--search', 'random', '--random', '2', '--placebo', '0', '--committed', '0', '--threads', '1', '-q', '-o', made]);
  const program = join(dir, 'job.sh');
  writeFileSync(program, `#!/bin/sh\nmkdir -p "$7" && cp '${made}' "$7/trace.bin" && echo '{"trace":"trace.bin"}'\n`, { mode: 0o755 });
  const few = await startServer(['-m', duo, '--threads', '1', '--slots', '1', '--duo-job-traces-max', '2'], { env: { STROBE_JOB_PROGRAM: program } });
  try {
    const ids = [];
    for (let i = 0; i < 4; i += 1) {
      const { body } = await call('/api/duo/traces', { symbolic: true, tokens: 4096 }, few);
      await until('it is done', async () => (await call(`/api/jobs/${body.id}`, undefined, few)).body.state === 'done', 60000);
      ids.push(body.id);
    }
    const list = (await call('/api/duo/traces', undefined, few)).body;
    assert.deepEqual(list.data.map((x) => [x.id, x.job]), [[ids[3], true], [ids[2], true]]);
    assert.deepEqual([list.kept.traces, list.kept_of_jobs.traces, list.kept_of_jobs.max_traces, list.kept_of_jobs.max_bytes], [0, 2, 2, 2 ** 32]);
    assert.equal((await call(`/api/duo/traces/${ids[0]}`, undefined, few)).status, 404);
    assert.equal((await call(`/api/jobs/${ids[0]}`, undefined, few)).body.state, 'done');
    assert.equal((await call(`/api/duo/traces/${ids[3]}`, undefined, few)).status, 200);
  } finally {
    await few.stop();
  }
});

test('a completion takes its route, tells it, and all big is the plain completion', opts, async () => {
  const ask = (more) => call('/v1/completions', { prompt: 'Anna has 3 apples and', max_tokens: 24, temperature: 0, ...more });
  const plain = (await ask({})).body;
  const big = (await ask({ duo: { mode: 'big' } })).body;
  assert.equal(big.choices[0].text, plain.choices[0].text);
  assert.equal(plain.duo, undefined);
  const small_ = (await ask({ duo: { mode: 'small' } })).body;
  assert.equal(small_.duo.small, 1);
  const half = (await ask({ duo: { mode: 'router', budget: 0.5 } })).body;
  assert.ok(half.duo.big > 0.2 && half.duo.big < 0.8, JSON.stringify(half.duo));
  const all = (await ask({ duo: { mode: 'router', budget: 1 } })).body;
  assert.equal(all.duo.big, 1);
  assert.equal(all.choices[0].text, plain.choices[0].text);
  const fixed = (await ask({ duo: { mode: 'fixed', pattern: 'b'.repeat(6) + 's'.repeat(6) } })).body;
  assert.equal(fixed.duo.big, 0.5);
  assert.deepEqual((await ask({ duo: { mode: 'fixed', pattern: 'b'.repeat(6) + 's'.repeat(6) } })).body.choices, fixed.choices);
  for (const budget of [0, 0.5, 1]) {
    const coin = (await ask({ duo: { mode: 'random', budget } })).body;
    assert.ok(Math.abs(coin.duo.big - budget) < (budget === 0.5 ? 0.12 : 1e-9), JSON.stringify(coin.duo));
    assert.deepEqual((await ask({ duo: { mode: 'random', budget } })).body.choices, coin.choices, 'the same coins');
  }
  for (const [d, param] of [[{ mode: 'router' }, 'duo.budget'], [{ mode: 'random' }, 'duo.budget'], [{ mode: 'random', budget: -0.1 }, 'duo.budget'], [{ mode: 'big', budget: 0.5 }, 'duo.budget'], [{ mode: 'router', budget: 2 }, 'duo.budget'], [{ mode: 'fixed', pattern: 'b' }, 'duo.pattern'], [{ mode: 'x' }, 'duo.mode'], [3, 'duo'],
    [{ mode: 'router', bugdet: 0.5 }, 'duo.bugdet'], [{ mode: 'big', extra: null }, 'duo.extra']]) {
    const r = await ask({ duo: d });
    assert.equal(r.status, 400);
    assert.equal(r.body.error.param, param, r.body.error.message);
  }
  assert.match((await ask({ duo: { mode: 'router', bugdet: 0.5 } })).body.error.message, /there is no setting 'bugdet'; did you mean 'budget'\?/);
  assert.match((await call('/api/duo/traces', { ...cheap, serach: 'beam' })).body.error.message, /did you mean 'search'\?/);
});

test('a model without Duo modules says so', opts, async () => {
  const other = await startServer(['-m', small, '--threads', '1', '--slots', '1']);
  try {
    const r = await call('/v1/completions', { prompt: 'a', max_tokens: 1, duo: { mode: 'router', budget: 0.5 } }, other);
    assert.equal(r.status, 400);
    assert.match(r.body.error.message, /no Duo modules/);
    const t = await call('/api/duo/traces', cheap, other);
    assert.equal(t.status, 400);
    assert.match(t.body.error.message, /no Duo modules/);
    copyFileSync(duo, join(other.data, 'own.gguf'));
    assert.equal((await call('/api/duo/traces', { ...cheap, model: 'own.gguf' }, other)).status, 200);
  } finally {
    await other.stop();
  }
});

test('the command line: both forms of a trace give the same figures, damage is seen', opts, async () => {
  const json = join(dir, 't.jsonl');
  const bin = join(dir, 't.bin');
  const args = ['-m', duo, '--text', 'Tom has 4 pears.', '--search', 'random', '--random', '24', '--placebo', '2', '--committed', '0', '--threads', '1', '-q'];
  await run(strobe, ['duo', 'trace', ...args, '-o', json]);
  await run(strobe, ['duo', 'trace', ...args, '-o', bin]);
  const figure = async (path, name) => JSON.parse((await run(strobe, ['duo', 'figures', path, '--figure', name, '--json'])).stdout);
  for (const name of ['layer_usage', 'agreement']) assert.deepEqual(await figure(json, name), await figure(bin, name));
  const bytes = readFileSync(bin);
  bytes[bytes.length >> 1] ^= 1;
  writeFileSync(join(dir, 'bad.bin'), bytes);
  const bad = spawnSync(strobe, ['duo', 'figures', join(dir, 'bad.bin')], { encoding: 'utf8' });
  assert.equal(bad.status, 3);
  assert.match(bad.stderr, /checksum/);
  writeFileSync(join(dir, 'cut.jsonl'), readFileSync(json, 'utf8').split('\n').slice(0, 1).join('\n'));
  const cut = spawnSync(strobe, ['duo', 'figures', join(dir, 'cut.jsonl')], { encoding: 'utf8' });
  assert.equal(cut.status, 3);
  assert.match(cut.stderr, /cut off/);
  const wrong = spawnSync(strobe, ['duo', 'trace', '-m', small, '--text', 'a b c', '-o', json], { encoding: 'utf8' });
  assert.equal(wrong.status, 3);
  assert.match(wrong.stderr, /no Duo modules/);
  assert.ok(existsSync(json));
  const budget = spawnSync(strobe, ['duo', 'oracle', '-m', duo, '--text', 'a b c', '--search', 'restricted', '--budget', '1.5'], { encoding: 'utf8' });
  assert.equal(budget.status, 2);
  assert.match(budget.stderr, /budget/);
  const many = spawnSync(strobe, ['duo', 'oracle', '-m', duo, '--symbolic', '--choices', '3', '--tokens', '4096', '-q'], { encoding: 'utf8' });
  assert.notEqual(many.status, 0);
  assert.match(many.stderr, /531441 routes .* MiB/);
  // Where nothing can be written nothing is begun: the model is not even looked for.
  for (const word of ['trace', 'oracle', 'router']) {
    const nowhere = spawnSync(strobe, ['duo', word, '-m', join(dir, 'absent.gguf'), ...(word === 'router' ? [] : ['--symbolic']), '-o', join(dir, 'none', 'out')], { encoding: 'utf8' });
    assert.notEqual(nowhere.status, 0);
    assert.match(nowhere.stderr, /none\/out/, word);
  }
  assert.ok(!existsSync(join(dir, 'none')));
  const router = spawnSync(strobe, ['duo', 'router', '-m', small, '-o', join(dir, 'no.gguf'), '--tokens', '600'], { encoding: 'utf8' });
  assert.equal(router.status, 3);
  assert.match(router.stderr, /no Duo modules/);
});

test('a Duo network is trained, gets a router of each kind, and is served from less memory with the same tokens', opts, async () => {
  const text = join(dir, 'text');
  execFileSync(strobe, ['corpus', '-o', text, '--seed', '3', '--problems', '400', '-q']);
  const common = ['--n_layer', '3', '--d_model', '32', '--n_head', '2', '--d_ff', '64', '--d_small', '8', '--n_vocab', '300', '--data', join(text, 'train.txt'), '--batch', '4', '--ctx', '64',
    '--lr', '0.01', '--threads', '1', '-q'];
  await run(strobe, ['duo', 'train', ...common, '--steps', '20', '--out', join(dir, 'run')]);
  const info = JSON.parse((await run(strobe, ['inspect', '-m', join(dir, 'run/model.gguf'), '--json'])).stdout);
  assert.equal(info.ffn_small ?? info.shape?.ffn_small, 8);
  // Three ways, and a model whose tokens skip whole layers.
  await run(strobe, ['duo', 'train', ...common, '--skip_scope', 'layer', '--p_skip', '0.2', '--steps', '12', '--out', join(dir, 'skip')]);
  for (const base of ['run', 'skip']) {
    const out = join(dir, `${base}-three.gguf`);
    await run(strobe, ['duo', 'router', '-m', join(dir, base, 'model.gguf'), '-o', out, '--choices', '3', '--steps', '8', '--rows', '2', '--tokens', '600', '--threads', '1', '--json']);
    const three = async (...more) => JSON.parse((await run(strobe, ['generate', '-m', out, '-p', 'Anna has', '-n', '16', '--temp', '0', '--ignore-eos', '--duo', 'router:0.4', '--ctx', '64', '--threads', '1',
      '--json', '-q', ...more])).stdout);
    const here = await three();
    assert.ok(here.duo.big > 0 && here.duo.big < 1, JSON.stringify(here.duo));
    assert.ok(Math.abs(here.duo.big + here.duo.small + here.duo.skip - 1) < 1e-9);
    assert.deepEqual((await three('--flash', 'dense')).tokens, here.tokens);
    const traced = JSON.parse((await run(strobe, ['duo', 'oracle', '-m', out, '--symbolic', '--tokens', '60', '--choices', '3', '--placebo', '2', '--committed', '4', '--threads', '1', '--json', '-q'])).stdout);
    assert.equal(traced.evaluations, 39);
  }
  for (const kind of ['linear', 'mlp', 'straight', 'distil']) {
    const out = join(dir, `${kind}.gguf`);
    const r = JSON.parse((await run(strobe, ['duo', 'router', '-m', join(dir, 'run/model.gguf'), '-o', out, '--kind', kind, '--steps', '4', '--rows', '2', '--tokens', '600', '--hidden', '4', '--threads', '1', '--json'])).stdout);
    assert.equal(r.budgets.length, 11);
    for (let i = 1; i < 11; i += 1) assert.ok(r.budgets[i].realised >= r.budgets[i - 1].realised - 1e-9, `${kind}: ${JSON.stringify(r.budgets)}`);
    assert.deepEqual([r.budgets[0].realised, r.budgets[10].realised], [0, 1]);
    // A router whose hidden neurons sleep is a constant for a layer: its shares jump.
    if (kind === 'linear') assert.ok(Math.abs(r.budgets[5].realised - 0.5) < 0.1, JSON.stringify(r.budgets[5]));
  }
  const generate = async (...more) => JSON.parse((await run(strobe, ['generate', '-m', join(dir, 'linear.gguf'), '-p', 'Anna has', '-n', '16', '--temp', '0', '--ignore-eos', '--duo', 'router:0.5',
    '--ctx', '64', '--threads', '1', '--json', '-q', ...more])).stdout);
  const resident = await generate();
  const streamed = await generate('--flash', 'dense');
  assert.equal(streamed.flash.mode, 'dense');
  assert.deepEqual(streamed.tokens, resident.tokens);
});
