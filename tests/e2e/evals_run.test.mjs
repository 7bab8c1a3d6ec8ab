// Evaluation runs from outside: killed and gone on with, paused, cancelled, refused, over the command line and over HTTP; the server's
// own model asked.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startServer, strobe, until } from './lib.mjs';

const run = promisify(execFile);
const bundled = new URL('../../deploy/model/strobe-small.gguf', import.meta.url).pathname;
const KEY = 'sk-secret-of-the-test-7319';
const homes = [];
const newHome = () => {
  const d = mkdtempSync(join(tmpdir(), 'strobe-evalrun-'));
  homes.push(d);
  return d;
};
const LIST = ['--template', 'bakery-tip', '--variant', 'both', '-n'];

let endpoint;
let url;
let asked; // question -> times
let keys; // seen
let delay = 0;
let hold = null; // {from, release}: so many answers are given, the others when `release` is

before(async () => {
  asked = new Map();
  keys = new Set();
  endpoint = createServer((req, res) => {
    let body = '';
    req.on('data', (d) => { body += d; });
    req.on('end', async () => {
      const m = JSON.parse(body).messages;
      const q = m[m.length - 1].content;
      keys.add(req.headers.authorization);
      if (hold && hold.from-- <= 0) await hold.release;
      setTimeout(() => {
        asked.set(q, (asked.get(q) || 0) + 1);
        res.setHeader('content-type', 'application/json');
        res.end(JSON.stringify({ choices: [{ message: { content: `The final answer is ${q.length}.` }, finish_reason: 'stop' }], usage: { prompt_tokens: 9, completion_tokens: 5 } }));
      }, delay);
    });
  });
  await new Promise((ready) => { endpoint.listen(0, '127.0.0.1', ready); });
  url = `http://127.0.0.1:${endpoint.address().port}/v1`;
});

after(() => {
  endpoint.close();
  endpoint.closeAllConnections();
  for (const d of homes) rmSync(d, { recursive: true, force: true });
});

const words = (home, more) => ['eval', 'run', '--endpoint', url, '--model', 'm', '--data', home, ...LIST, ...more];
const cli = async (args, env) => JSON.parse((await run(strobe, [...args, '--json'], { env: { ...process.env, ...env }, maxBuffer: 1 << 26 })).stdout);
const list = async (home) => (await cli(['eval', 'list', '--data', home])).runs;

function everyFile(dir) {
  return readdirSync(dir).flatMap((f) => {
    const p = join(dir, f);
    return statSync(p).isDirectory() ? everyFile(p) : [p];
  });
}

test('killed with -9 and started again, the command line loses nothing and asks nothing twice that was stored', async () => {
  const home = newHome();
  delay = 15;
  asked.clear();
  for (let kills = 0; kills < 4; kills += 1) {
    const child = spawn(strobe, words(home, ['60', '--concurrency', '2']), { stdio: 'ignore' });
    const target = (kills + 1) * 10;
    await until('answers', () => asked.size >= target || child.exitCode !== null, 60000);
    child.kill('SIGKILL');
    await new Promise((done) => { child.on('exit', done); if (child.exitCode !== null || child.signalCode) done(); });
  }
  delay = 0;
  const end = await cli(words(home, ['60']));
  assert.equal(end.ending, 'done');
  assert.equal(end.counts.done, 60);
  assert.equal(end.counts.attempts, 60, 'each was stored once');
  const runs = await list(home);
  assert.equal(runs.length, 1, 'it was one run all the time');
  // At most what was in flight at a kill was asked again.
  const twice = [...asked.values()].reduce((n, k) => n + k - 1, 0);
  assert.ok(twice <= 4 * 64, `${twice}`);
});

test('another prompt, temperature or model is refused by a diff; the key is sent and nowhere kept', async () => {
  const home = newHome();
  const first = await cli(words(home, ['5', '--key-env', 'TEST_EVAL_KEY']), { TEST_EVAL_KEY: KEY });
  assert.equal(first.ending, 'done');
  assert.ok(keys.has(`Bearer ${KEY}`));
  for (const f of everyFile(home)) assert.ok(!readFileSync(f).includes(KEY), f);
  const e = await run(strobe, words(home, ['5', '--run', first.run, '--temp', '0.7', '--shots', '2'])).then(() => assert.fail('it worked'), (x) => x);
  assert.equal(e.code, 2);
  assert.match(e.stderr, /prompt\.shots: 8 -> 2/);
  assert.match(e.stderr, /decoding\.temperature: 0 -> 0\.7\n/);
  const missing = await run(strobe, words(home, ['5', '--key-env', 'NO_SUCH_VARIABLE', '--again'])).then(() => assert.fail('it worked'), (x) => x);
  assert.match(missing.stderr, /NO_SUCH_VARIABLE/);
  const dead = await run(strobe, ['eval', 'run', '--endpoint', 'http://127.0.0.1:9', '--model', 'm', '--data', home, ...LIST, '30']).then(() => assert.fail('it worked'), (x) => x);
  assert.equal(dead.code, 1);
  assert.match(dead.stderr, /does not answer: 12 failures in a row/);
  const paused = (await list(home))[0];
  assert.equal(paused.state, 'paused');
  assert.equal(paused.counts.failed, 0);
  assert.match(paused.note, /in a row/);
});

const get = async (s, path) => {
  const r = await fetch(s.url + path);
  return { status: r.status, body: await r.json() };
};
const post = async (s, path, body) => {
  const r = await fetch(s.url + path, { method: 'POST', body: body === undefined ? undefined : JSON.stringify(body) });
  return { status: r.status, body: await r.json() };
};
const body = (more) => ({ endpoint: url, model: 'm', templates: ['bakery-tip'], variants: ['both'], concurrency: 1, ...more });

test('over HTTP: made, watched, paused, resumed, cancelled; the same again is the same run', async () => {
  const s = await startServer();
  try {
    delay = 40;
    let go;
    hold = { from: 20, release: new Promise((r) => { go = r; }) };
    const made = await post(s, '/api/evals/runs', body({ count: 200 }));
    assert.equal(made.status, 201, JSON.stringify(made.body));
    const { id } = made.body;
    const events = await fetch(`${s.url}/api/evals/runs/${id}/events`);
    assert.match(events.headers.get('content-type'), /event-stream/);
    await until('a few answers', async () => (await get(s, `/api/evals/runs/${id}`)).body.counts.done >= 3, 60000);
    const paused = await post(s, `/api/evals/runs/${id}/pause`);
    assert.equal(paused.status, 200);
    assert.equal(paused.body.state, 'paused');
    hold = null;
    go();
    const told = (await events.text()).split('\n').filter((l) => l.startsWith('data: ')).map((l) => JSON.parse(l.slice(6)));
    assert.ok(told.length >= 1 && told[told.length - 1].state === 'paused', 'the stream ends with the state');
    await until('the worker leaves', async () => (await get(s, '/api/jobs')).body.data[0].state === 'done', 60000);
    const before = (await get(s, `/api/evals/runs/${id}`)).body;
    assert.equal(before.counts.leased, 0);
    assert.ok(before.counts.done < 200 && before.state === 'paused');
    delay = 0;
    const resumed = await post(s, `/api/evals/runs/${id}/resume`);
    assert.equal(resumed.status, 200);
    const done = await until('done', async () => {
      const r = (await get(s, `/api/evals/runs/${id}`)).body;
      return r.state === 'done' && r;
    }, 60000);
    assert.equal(done.counts.done, 200);
    assert.equal(done.counts.attempts, 200);
    const again = await post(s, '/api/evals/runs', body({ count: 200 }));
    assert.equal(again.status, 200);
    assert.equal(again.body.id, id);
    assert.equal((await post(s, `/api/evals/runs/${id}/cancel`)).status, 409, 'what is done stays done');
    const page = (await get(s, `/api/evals/runs/${id}/samples?limit=30`)).body;
    const next = (await get(s, `/api/evals/runs/${id}/samples?limit=1000&after=${page.last_id}`)).body;
    assert.equal(page.data.length, 30);
    assert.ok(page.has_more && !next.has_more);
    assert.equal(next.data.length, 170);
    const one = (await get(s, `/api/evals/runs/${id}/samples/${page.data[3].ord}`)).body;
    assert.match(one.response, /The final answer is/);
    assert.equal(one.log.length, 1);
    assert.equal(one.extracted.length, 10);
    assert.equal((await post(s, '/api/evals/runs', body({ count: 5, key_env: 'PATH' }))).status, 400, 'not every variable is sent away');
    assert.equal((await post(s, '/api/evals/runs', body({ count: 5, prompt: '/etc/passwd' }))).status, 400);
    assert.equal((await get(s, '/api/evals/runs/run-nobody')).status, 404);
  } finally {
    await s.stop();
  }
});

test('a server killed with -9 goes on with the run when it is back', async () => {
  const home = newHome();
  delay = 30;
  let s = await startServer([], { data: home });
  const { id } = (await post(s, '/api/evals/runs', body({ count: 60, name: 'survivor' }))).body;
  await until('a few answers', async () => (await get(s, `/api/evals/runs/${id}`)).body.counts.done >= 5, 60000);
  await s.kill();
  delay = 0;
  s = await startServer([], { data: home });
  try {
    const r = await until('done', async () => {
      const x = (await get(s, `/api/evals/runs/${id}`)).body;
      return x.state === 'done' && x;
    }, 120000);
    assert.equal(r.counts.done, 60);
    assert.equal(r.counts.attempts, 60);
  } finally {
    await s.stop();
  }
});

test("the server's own model is asked through the server's own queue; fewer examples fit and the run says so", async () => {
  const s = await startServer(['-m', bundled, '--threads', '1']);
  try {
    const made = await post(s, '/api/evals/runs', { templates: ['bakery-tip'], variants: ['both'], count: 6, max_tokens: 24 });
    assert.equal(made.status, 201, JSON.stringify(made.body));
    assert.match(made.body.prompt.why, /of 8 worked examples: more do not fit/);
    const r = await until('done', async () => {
      const x = (await get(s, `/api/evals/runs/${made.body.id}`)).body;
      return x.state === 'done' && x;
    }, 120000);
    assert.equal(r.counts.done, 6);
    assert.equal(r.model.backend, 'engine');
    if (r.prompt.shots > 0) assert.ok(r.counts.cached_tokens > 0, 'the examples are computed once');
    assert.equal((await post(s, '/api/evals/runs', { model: 'another', count: 2 })).status, 400);
  } finally {
    await s.stop();
  }
});
