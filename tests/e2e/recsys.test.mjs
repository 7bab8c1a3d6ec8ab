// The recommender over HTTP: events in, durable and counted once; a fit as a job; what now, why, and when; models change
// without a pause; kill -9 and a full disk lose nothing that was acknowledged.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { slow, startServer, strobe, until } from './lib.mjs';

const TIMEOUT = { timeout: 120000 * slow };
const NOW = Math.floor(Date.now() / 1000);

async function call(server, method, path, body, headers = {}) {
  const res = await fetch(server.url + path, { method, body: typeof body === 'object' ? JSON.stringify(body) : body, headers });
  const text = await res.text();
  return { status: res.status, headers: res.headers, body: text.startsWith('{') ? JSON.parse(text) : text };
}
const get = (s, path) => call(s, 'GET', path);
const post = (s, path, body, headers) => call(s, 'POST', path, body, headers);
const ok = (r) => { assert.equal(r.status, 200, JSON.stringify(r.body)); return r.body; };
const TSV = { 'Content-Type': 'text/tab-separated-values' };

function folder(t) {
  const dir = mkdtempSync(join(tmpdir(), 'strobe-recsys-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function done(server, id) {
  return until(`job ${id}`, async () => {
    const j = ok(await get(server, `/api/jobs/${id}`));
    assert.ok(!['failed', 'cancelled'].includes(j.state), JSON.stringify(j));
    return j.state === 'done' && j;
  }, 60000);
}

async function demo(server) {
  const made = await post(server, '/api/recsys/demo', { k: 8, iters: 20 });
  assert.equal(made.status, 202, JSON.stringify(made.body));
  return done(server, made.body.id);
}

test('the demo is loaded with one call, and everything can be asked', TIMEOUT, async (t) => {
  const s = await startServer();
  t.after(() => s.stop());
  assert.equal((await get(s, '/api/recsys/users/nobody/recommend')).status, 409);
  const job = await demo(s);
  const { model } = job.result;
  const stats = ok(await get(s, '/api/recsys/stats'));
  assert.equal(stats.active, model);
  assert.ok(stats.events > 10000 && stats.users === 240 && stats.follows > 500, JSON.stringify(stats));

  const { data } = ok(await get(s, '/api/recsys/users?limit=3&prefix=ada'));
  assert.ok(data.length === 3 && data.every((u) => u.user.startsWith('ada')));
  const user = data[0].user;

  const rec = ok(await get(s, `/api/recsys/users/${user}/recommend?n=12&explain=1`));
  assert.equal(rec.items.length, 12);
  for (const x of rec.items) {
    const parts = Object.values(x.parts).reduce((a, b) => a + b, 0);
    assert.ok(Math.abs(parts - x.rate) <= 1e-12 * x.rate, 'parts add up to the rate');
    assert.ok(Math.abs(x.reasons.reduce((a, r) => a + r.share, 0) - 1) < 1e-9, 'shares add up to one');
  }
  for (let i = 1; i < 12; i += 1) assert.ok(rec.items[i - 1].rate >= rec.items[i].rate);

  const fresh = ok(await get(s, `/api/recsys/users/${user}/recommend?n=12&seen=exclude`));
  assert.ok(fresh.items.length > 0 && fresh.items.every((x) => x.own_events === 0));
  const again = ok(await get(s, `/api/recsys/users/${user}/recommend?n=12&seen=only`));
  assert.ok(again.items.length > 0 && again.items.every((x) => x.own_events > 0));
  const cool = ok(await get(s, `/api/recsys/users/${user}/recommend?n=50&cooldown=604800`));
  assert.ok(cool.items.every((x) => x.last === null || cool.at - x.last >= 604799));

  const back = ok(await get(s, `/api/recsys/users/${user}/return-time`));
  const hours = back.quantiles.map((q) => q.hours);
  assert.ok(back.median_hours > 0 && hours.every((h, i) => i === 0 || h === null || h >= hours[i - 1]));
  const far = ok(await get(s, `/api/recsys/users/${user}/return-time?at=${NOW + 90 * 86400}`));
  assert.ok(far.median_hours >= back.median_hours, 'silence makes the next event less likely soon');

  const curve = ok(await get(s, `/api/recsys/users/${user}/intensity?points=50`));
  assert.ok(curve.rates.base.length === 50 && curve.events.length > 0 && curve.rates.own.some((v) => v > 0));
  const item = rec.items[0].item;
  const like = ok(await get(s, `/api/recsys/items/${encodeURIComponent(item)}/similar?n=5`));
  assert.ok(like.items.length === 5 && like.items.every((x) => x.item !== item));
  const health = ok(await get(s, '/api/recsys/health'));
  assert.ok(health.events === stats.events && health.repeat_share > 0.5);
  const models = ok(await get(s, '/api/recsys/models'));
  assert.equal(models.active, model);
  const one = ok(await get(s, `/api/recsys/models/${model}`));
  const elbo = one.trace.filter((x) => x.phase === 'all' && x.elbo !== undefined).map((x) => x.elbo);
  assert.ok(elbo.length > 0 && elbo.every((v, i) => i === 0 || v >= elbo[i - 1] - 1e-6 * Math.abs(v)), 'the bound does not fall');
  const metrics = await get(s, '/metrics');
  assert.match(metrics.body, new RegExp(`strobe_recsys_events_total ${stats.events}\n`));
});

test('the next answer knows the last event, and a switch of models loses none', TIMEOUT, async (t) => {
  const s = await startServer();
  t.after(() => s.stop());
  const first = (await demo(s)).result.model;
  const { user } = ok(await get(s, '/api/recsys/users?limit=1')).data[0];
  const all = ok(await get(s, `/api/recsys/users/${user}/recommend?n=96&seen=exclude`)).items;
  const { item } = all[all.length - 1];
  const rate = async () => ok(await get(s, `/api/recsys/users/${user}/recommend?n=1000`)).items.find((x) => x.item === item);
  const before = await rate();
  assert.equal(ok(await post(s, '/api/recsys/events', { events: [{ user, item, time: NOW - 1 }] })).accepted, 1);
  const after = await rate();
  assert.ok(after.parts.own > 0 && after.rate > before.rate && after.own_events === 1);

  const newcomer = ok(await get(s, '/api/recsys/users/newcomer/recommend?n=3'));
  assert.ok(!newcomer.known && newcomer.items.length === 3);
  const events = all.slice(0, 4).map((x, i) => ({ user: 'newcomer', item: x.item, time: NOW - 3600 * (i + 1) }));
  assert.equal(ok(await post(s, '/api/recsys/events', events)).accepted, 4);
  const folded = await until('folding in', async () => {
    const r = ok(await get(s, '/api/recsys/users/newcomer/recommend?n=5&explain=1'));
    return r.folded && r;
  });
  assert.ok(folded.known && !folded.in_model && folded.items[0].own_events === 1);

  const made = await post(s, '/api/recsys/fit', { variant: 'hpf', k: 4, iters: 5, holdout: 0 });
  const stop = { now: false };
  const errors = [];
  const reader = (async () => { // somebody who asks all the time notices nothing
    while (!stop.now) {
      const r = await get(s, `/api/recsys/users/${user}/recommend?n=5`);
      if (r.status !== 200 || r.body.items.length !== 5) errors.push(r);
    }
  })();
  const second = (await done(s, made.body.id)).result.model;
  assert.equal(ok(await get(s, '/api/recsys/stats')).active, second);
  assert.equal((await rate()).own_events, 1);
  assert.equal((await rate()).parts.own, 0, 'this model knows no habits');
  const page = ok(await get(s, '/api/recsys/models?limit=1')); // made in the same second, in either order
  const rest = ok(await get(s, `/api/recsys/models?limit=5&after=${page.data[0].id}`));
  assert.deepEqual([page.has_more, rest.has_more, page.data.length], [true, false, 1]);
  assert.deepEqual([...page.data, ...rest.data].map((m) => m.id).sort(), [first, second].sort());
  assert.equal((await get(s, '/api/recsys/models?after=nothing')).status, 404);
  assert.equal((await get(s, '/api/recsys/models?limit=0')).status, 400);
  ok(await post(s, `/api/recsys/models/${first}/activate`, {}));
  assert.ok((await rate()).parts.own > 0);
  stop.now = true;
  await reader;
  assert.deepEqual(errors, []);
  assert.equal((await post(s, '/api/recsys/models/nothing/activate', {})).status, 404);
});

test('batches: formats, single bad lines, keys, and what is no batch', TIMEOUT, async (t) => {
  const s = await startServer();
  t.after(() => s.stop());
  const tsv = `time\titem\tuser\n${NOW}\tx\tann\n${NOW}\t\tann\n-4\tx\tann\nlater\tx\tann\n${NOW + 1e6}\tx\tann\n`;
  const r = ok(await post(s, '/api/recsys/events', tsv, TSV));
  assert.deepEqual([r.accepted, r.rejected, r.errors.map((e) => e.line)], [1, 4, [3, 4, 5, 6]]);
  const nd = ok(await post(s, '/api/recsys/events', `{"user":"ann","item":"y","time":${NOW}}\n{"user":"bob","item":"y","time":"2024-05-01T10:00:00+02:00"}\n`, { 'Content-Type': 'application/x-ndjson' }));
  assert.equal(nd.accepted, 2);
  const body = { events: [{ user: 'ann', item: 'z', time: NOW }] };
  const key = { 'Idempotency-Key': 'once' };
  assert.equal(ok(await post(s, '/api/recsys/events', body, key)).known, false);
  assert.deepEqual((({ known, accepted }) => [known, accepted])(ok(await post(s, '/api/recsys/events', body, key))), [true, 1]);
  const other = await post(s, '/api/recsys/events', { events: [] }, key);
  assert.deepEqual([other.status, other.body.error.code], [409, 'idempotency_conflict']);
  assert.equal(ok(await post(s, '/api/recsys/events', body)).merged, 1);
  for (const bad of ['', '{', '{"events":7}', '[1', 'user\titem']) {
    const refused = await post(s, '/api/recsys/events', bad);
    assert.equal(refused.status, 400, bad);
    assert.ok(refused.body.error.message.length > 5);
  }
  assert.equal((await post(s, '/api/recsys/events', 'x', { 'Content-Type': 'image/png' })).status, 415);
  assert.equal((await post(s, '/api/recsys/fit', { variant: 'magic' })).body.error.param, 'variant');
  assert.equal((await post(s, '/api/recsys/fit', { k: 0 })).body.error.param, 'k');
  assert.equal((await post(s, '/api/recsys/fit', { scales: ['soon'] })).body.error.param, 'scales');
  const f = ok(await post(s, '/api/recsys/follows', { follows: [{ user: 'ann', follows: 'bob' }, { user: 'ann', follows: 'ann' }] }));
  assert.deepEqual([f.accepted, f.rejected], [1, 1]);
  const hostile = '<img src=x onerror=alert(1)>\u202e"\\';
  assert.equal(ok(await post(s, '/api/recsys/events', { events: [{ user: hostile, item: hostile, time: NOW }] })).accepted, 1);
  assert.ok(ok(await get(s, '/api/recsys/users')).data.some((u) => u.user === hostile));
  assert.equal(ok(await get(s, '/api/recsys/stats')).events, 5);
});

test('kill -9 while events stream in: nothing acknowledged is lost, nothing counts twice', TIMEOUT, async (t) => {
  const dir = folder(t);
  let acknowledged = 0;
  let sent = 0;
  for (let round = 0; round < 3; round += 1) {
    const s = await startServer([], { data: dir });
    assert.ok(ok(await get(s, '/api/recsys/stats')).events >= acknowledged);
    let killed = null;
    const client = async () => {
      for (;;) {
        const n = sent;
        sent += 1;
        const events = Array.from({ length: 20 }, (_, i) => ({ user: `u${n % 9}`, item: `i${i}`, time: NOW - n }));
        const send = () => post(s, '/api/recsys/events', { events }, { 'Idempotency-Key': `b${n}` });
        try {
          ok(await send());
          acknowledged += 20;
          assert.equal(ok(await send()).known, true);
        } catch (e) {
          if (e.code === 'ERR_ASSERTION') throw e;
          return;
        }
        if (n >= 25 * (round + 1) && !killed) killed = s.kill();
      }
    };
    await Promise.all([client(), client(), client()]);
    await killed;
  }
  const s = await startServer([], { data: dir });
  const { events } = ok(await get(s, '/api/recsys/stats'));
  assert.ok(events >= acknowledged && events <= sent * 20, `${events} of ${acknowledged} to ${sent * 20}`);
  await s.stop();
});

test('a server that is killed while it fits goes on with the fit', TIMEOUT, async (t) => {
  const dir = folder(t);
  let s = await startServer([], { data: dir });
  const made = await post(s, '/api/recsys/demo', { k: 16, iters: 4000, holdout: 0 });
  await until('sweeps', async () => (ok(await get(s, `/api/jobs/${made.body.id}`)).progress || {}).step > 3, 60000);
  await s.kill();
  s = await startServer([], { data: dir });
  t.after(() => s.stop());
  const before = ok(await get(s, '/api/recsys/stats')).events;
  await until('it goes on', async () => {
    const j = ok(await get(s, `/api/jobs/${made.body.id}`));
    assert.notEqual(j.state, 'failed', JSON.stringify(j));
    return j.state === 'done' || (j.restarts > 0 && (j.progress || {}).step > 3);
  }, 60000);
  assert.equal(ok(await get(s, '/api/recsys/stats')).events, before, 'the demo was not loaded twice');
  const r = await post(s, `/api/jobs/${made.body.id}/cancel`, {});
  assert.ok([200, 202, 409].includes(r.status));
});

test('a full disk refuses events and loses none', TIMEOUT, async (t) => {
  const dir = folder(t);
  const child = spawn('bash', ['-c', `ulimit -f 64; exec "$0" serve --port 0 --data "$1"`, strobe, dir], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  let said = '';
  child.stdout.on('data', (d) => { said += d; });
  const [, url] = await until('it listens', () => /listening on (http:\S+)\n/.exec(said));
  const limited = { url };
  let taken = 0;
  let refused = 0;
  for (let n = 0; n < 60; n += 1) {
    const events = Array.from({ length: 100 }, (_, i) => ({ user: `u${n}`, item: `item-${i}`, time: NOW - n * 100 - i }));
    const r = await post(limited, '/api/recsys/events', { events });
    if (r.status === 200) taken += r.body.accepted;
    else {
      assert.deepEqual([r.status, r.body.error.code], [507, 'store_full'], JSON.stringify(r.body));
      refused += 1;
    }
  }
  assert.ok(taken > 0 && refused > 0, `${taken} ${refused}`);
  assert.equal(ok(await get(limited, '/api/recsys/stats')).events, taken);
  child.kill('SIGKILL');
  await new Promise((r) => { child.on('exit', r); });
  const s = await startServer([], { data: dir });
  assert.equal(ok(await get(s, '/api/recsys/stats')).events, taken);
  await s.stop();
});

test('events and evaluations lie in the database, the log is cut behind them, and a restart knows all', TIMEOUT, async (t) => {
  const dir = folder(t);
  let s = await startServer([], { data: dir });
  const { model } = (await demo(s)).result;
  const rows = await until('rows of the evaluation', async () => {
    const r = await get(s, '/api/recsys/evaluations?limit=1000');
    return r.status === 200 && r.body.data.length > 0 && r.body;
  });
  assert.ok(rows.data.every((x) => x.model === model && x.variant === 'hrpf'));
  const parts = rows.data.filter((x) => x.method === 'model').map((x) => x.part).sort();
  assert.deepEqual(parts, ['all', 'fresh', 'repeat']);
  const one = ok(await get(s, `/api/recsys/models/${model}`)).evaluation.methods.find((m) => m.name === 'model');
  assert.ok(Math.abs(rows.data.find((x) => x.method === 'model' && x.part === 'all')['recall@20'] - one['recall@20']) < 1e-6);
  assert.equal(ok(await get(s, '/api/recsys/evaluations?model=none')).data.length, 0);
  assert.equal(ok(await get(s, '/api/recsys/evaluations?limit=2')).has_more, true);
  assert.equal((await get(s, '/api/recsys/evaluations?limit=0')).status, 400);
  const before = await until('all is copied', async () => {
    const x = ok(await get(s, '/api/recsys/stats'));
    return x.store.up && x.store.backlog_bytes === 0 && x;
  });
  assert.match((await get(s, '/metrics')).body, /strobe_recsys_store_up 1\n/);
  await s.stop();
  s = await startServer([], { data: dir });
  t.after(() => s.stop());
  const after = ok(await get(s, '/api/recsys/stats'));
  assert.equal(after.log.records, 0, 'nothing had to be read from the log');
  for (const key of ['events', 'merged', 'late', 'users', 'items', 'follows', 'first', 'last', 'active']) assert.deepEqual(after[key], before[key], key);
});

test('a database that is away is told, and events are taken all the same', TIMEOUT, async (t) => {
  const s = await startServer(['--recsys-store', 'postgresql://nobody@127.0.0.1:9/nothing']);
  t.after(() => s.stop());
  assert.equal(ok(await post(s, '/api/recsys/events', { events: [{ user: 'a', item: 'b', time: NOW }] })).accepted, 1);
  const { store, events } = await until('the backlog is told', async () => {
    const x = ok(await get(s, '/api/recsys/stats'));
    return x.store.backlog_bytes > 0 && x;
  });
  assert.ok(events === 1 && !store.up && store.backlog_bytes > 0 && /event database/.test(store.fault), JSON.stringify(store));
  const r = await get(s, '/api/recsys/evaluations');
  assert.deepEqual([r.status, r.body.error.code], [503, 'store_away']);
});

test('a recommender whose events are in a database that is away opens when it is back, and so does a fit', TIMEOUT, async (t) => {
  const dir = folder(t), db = join(dir, 'db'), away = join(dir, 'away');
  const args = ['--recsys-store', `sqlite:${join(db, 'events.db')}`], how = { data: join(dir, 'data'), env: { STROBE_RECSYS_SEGMENT_BYTES: '4096' } };
  mkdirSync(db);
  mkdirSync(how.data);
  let s = await startServer(args, how);
  t.after(() => s.stop());
  for (let i = 0; i < 20; i++) {
    const lines = Array.from({ length: 100 }, (_, n) => `u${n % 12}\ti${(n * 7 + i) % 30}\t${NOW - 90000 + i * 1000 + n}`);
    ok(await post(s, '/api/recsys/events', `user\titem\ttime\n${lines.join('\n')}\n`, TSV));
  }
  await until('the log is cut', async () => {
    const { store } = ok(await get(s, '/api/recsys/stats'));
    return store.backlog_bytes === 0 && !existsSync(join(how.data, 'recsys/events/log-00000001.wal'));
  });
  await s.stop();
  renameSync(db, away);
  s = await startServer(args, how);
  const shut = await get(s, '/api/recsys/stats');
  assert.deepEqual([shut.status, shut.body.error.code, shut.headers.get('x-should-retry')], [503, 'no_recommender', null]);
  assert.match(shut.body.error.message, /in the event store only.*tried again/);
  assert.equal((await post(s, '/api/recsys/events', { events: [{ user: 'a', item: 'b', time: NOW }] })).status, 503);
  assert.match((await get(s, '/metrics')).body, /strobe_recsys_open 0\n/);
  const fit = await post(s, '/api/recsys/fit', { variant: 'hpf', k: 4, iters: 4, holdout: 0 });
  assert.equal(fit.status, 202, JSON.stringify(fit.body));
  await until('the fit waits', async () => ok(await get(s, `/api/jobs/${fit.body.id}`)).state === 'running');
  renameSync(away, db);
  const { events } = await until('it is open', async () => {
    const r = await get(s, '/api/recsys/stats');
    return r.status === 200 && r.body;
  }, 60000);
  assert.equal(events, 2000);
  assert.match((await get(s, '/metrics')).body, /strobe_recsys_open 1\n/);
  assert.ok((await done(s, fit.body.id)).result.model);
});

test('items in clusters (xiirpf) and a named time zone (hours of the week), over HTTP', TIMEOUT, async (t) => {
  const s = await startServer();
  t.after(() => s.stop());
  await demo(s);
  const refused = await post(s, '/api/recsys/fit', { variant: 'xiirpf', k: 4 });
  assert.deepEqual([refused.status, refused.body.error.param], [400, 'clusters']);
  assert.match(refused.body.error.message, /names each item's cluster/);
  assert.equal((await post(s, '/api/recsys/fit', { variant: 'hrpf', clusters: { a: 'b' } })).body.error.param, 'clusters');
  assert.equal((await post(s, '/api/recsys/fit', { variant: 'xiirpf', clusters: { a: 7 } })).body.error.param, 'clusters');
  const { user } = ok(await get(s, '/api/recsys/users?limit=1')).data[0];
  const items = ok(await get(s, `/api/recsys/users/${user}/recommend?n=1000`)).items.map((x) => x.item);
  const clusters = Object.fromEntries(items.map((x, i) => [x, `c${i % 3}`]));
  const made = await post(s, '/api/recsys/fit', { variant: 'xiirpf', k: 4, iters: 8, clusters });
  assert.equal(made.status, 202, JSON.stringify(made.body));
  const { model } = (await done(s, made.body.id)).result;
  const rec = ok(await get(s, `/api/recsys/users/${user}/recommend?n=8&explain=1`));
  assert.ok(rec.model === model && rec.items.length === 8 && rec.items.some((x) => x.parts.items > 0), JSON.stringify(rec.items[0]));
  assert.equal(ok(await get(s, `/api/recsys/models/${model}`)).settings.clusters, undefined);
  const nowhere = await post(s, '/api/recsys/fit', { variant: 'drpf', k: 4, zone: 'Nowhere/City' });
  assert.deepEqual([nowhere.status, nowhere.body.error.param], [400, 'zone'], JSON.stringify(nowhere.body));
  const zoned = await post(s, '/api/recsys/fit', { variant: 'drpf', k: 4, iters: 5, holdout: 0, zone: '+05:30' });
  await done(s, zoned.body.id);
});

test('a damaged log is told, and the rest of the server works', TIMEOUT, async (t) => {
  const dir = folder(t);
  let s = await startServer([], { data: dir });
  ok(await post(s, '/api/recsys/events', { events: [{ user: 'a', item: 'b', time: NOW }] }));
  await s.stop();
  const log = join(dir, 'recsys/events/log-00000001.wal');
  const bytes = readFileSync(log);
  bytes[9] ^= 1; // in the head
  writeFileSync(log, bytes);
  s = await startServer([], { data: dir });
  t.after(() => s.stop());
  const r = await get(s, '/api/recsys/stats');
  assert.equal(r.status, 503);
  assert.match(r.body.error.message, /log-00000001\.wal' is damaged/);
  assert.equal((await get(s, '/version')).status, 200);
});

test('the examples of the API description run', TIMEOUT, async (t) => {
  const s = await startServer();
  t.after(() => s.stop());
  await demo(s);
  const doc = ok(await get(s, '/openapi.json'));
  const examples = Object.values(doc.paths).flatMap((p) => Object.values(p)).map((o) => o['x-curl']).filter((x) => x && x.includes('/api/recsys/'));
  assert.ok(examples.length >= 12, `${examples.length} examples`);
  const { active } = ok(await get(s, '/api/recsys/models'));
  for (const line of examples) {
    const text = line.replaceAll('http://127.0.0.1:8080', s.url).replaceAll('MODEL', active);
    const out = execFileSync('bash', ['-c', `${text} -s -o /dev/null -w '%{http_code}'`], { encoding: 'utf8' });
    assert.match(out, /^20[02]$/, `${line}: ${out}`);
  }
});
