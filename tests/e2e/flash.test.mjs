// A packed model served neuron by neuron: what a traced request tells, and that its other form is a
// valid trace-event document.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packedModel, ramFor, slow, startServer, until } from './lib.mjs';

const dir = mkdtempSync(join(tmpdir(), 'strobe-flash-'));
const model = packedModel('flash', dir);
const opts = { skip: model ? false : 'no synth_gguf', timeout: 60000 * slow };
const PHASES = ['attention_ns', 'mask_ns', 'wait_ns', 'compute_ns'];
let server;

before(async () => {
  if (!model) return;
  const args = ['-m', model, '--slots', '2', '--ctx', '512'];
  server = await startServer([...args, '--ram', ramFor(args, 3 << 20)]);
});
after(async () => {
  if (server) assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.log());
  rmSync(dir, { recursive: true });
});

const get = async (path, status = 200) => {
  const r = await fetch(server.url + path);
  assert.equal(r.status, status, `${path}: ${r.status}`);
  return r.json();
};
const complete = async (more) => {
  const r = await fetch(`${server.url}/v1/completions`, { method: 'POST',
    body: JSON.stringify({ prompt: 'A neuron walks into a bar', max_tokens: 20, ignore_eos: true, temperature: 0, draft_max: 0, ...more }) });
  assert.equal(r.status, 200);
  return { id: r.headers.get('x-request-id'), body: await r.json() };
};
const sum = (list, key) => list.reduce((n, x) => n + x[key], 0);

test('a traced request names its trace, whose figures agree with each other and with the totals', opts, async () => {
  const before0 = await get('/api/flash/layers');
  const stats0 = await get('/api/flash/stats');
  const { id, body } = await complete({ flash: { trace: true } });
  const t = await get(`/api/flash/traces/${id}`);
  assert.deepEqual(body.flash, { trace: id });
  assert.equal(t.id, id);
  assert.equal(t.mode, 'sparse');
  assert.equal(t.complete, true);
  assert.equal(sum(t.passes, 'emitted_tokens'), 20);
  assert.equal(sum(t.passes.filter((p) => p.phase === 'prompt'), 'own_tokens'), body.usage.prompt_tokens);
  let end = 0;
  for (const p of t.passes) {
    assert.ok(p.start_ns >= end);
    end = p.start_ns + p.total_ns;
    assert.equal(p.layers.length, t.layers);
    let at = p.start_ns;
    for (const l of p.layers) {
      assert.ok(l.start_ns >= at);
      at = l.start_ns + PHASES.reduce((n, k) => n + l[k], 0);
      assert.ok(l.ffn_start_ns >= l.start_ns && l.ffn_start_ns <= end, JSON.stringify(l));
      assert.ok(l.missed <= l.needed && l.active <= l.needed && l.needed > 0, JSON.stringify(l));
      assert.equal(l.reads > 0, l.bytes > 0, JSON.stringify(l));
    }
    // A layer's reads may have come while the one before was computed: where the disk is slow they are guessed.
    assert.ok(sum(p.layers, 'missed') === 0 || sum(p.layers, 'reads') > 0, JSON.stringify(p));
    assert.ok(at <= end, 'the layers end within the pass');
  }
  for (const p of t.passes) for (const k of PHASES) assert.ok(sum(p.layers, k) <= p.total_ns);
  const reads = sum(t.passes.flatMap((p) => p.layers), 'reads');
  assert.equal(t.reads.length + t.dropped.reads, reads, 'every read is kept or counted');
  for (const r of t.reads) assert.ok(r.layer === null || (Number.isInteger(r.layer) && r.layer >= 0 && r.layer < t.layers), JSON.stringify(r));
  for (let l = 0; l < t.layers; l += 1) {
    const missed = t.passes.reduce((n, p) => n + p.layers[l].missed, 0);
    assert.ok(missed === 0 || t.dropped.reads > 0 || t.reads.some((r) => r.layer === l), `layer ${l} missed ${missed} neurons, and no read is said to be for it`);
  }
  // Nobody else asks: what the totals grew by is what the trace holds.
  const after0 = await get('/api/flash/layers');
  const stats1 = await get('/api/flash/stats');
  for (const key of ['needed', 'missed', 'active', 'bytes', 'reads', ...PHASES]) {
    for (let l = 0; l < t.layers; l += 1) {
      assert.equal(after0.layers[l][key] - before0.layers[l][key], t.passes.reduce((n, p) => n + p.layers[l][key], 0), `layer ${l} ${key}`);
    }
  }
  assert.equal(stats1.bytes_read - stats0.bytes_read, sum(t.passes.flatMap((p) => p.layers), 'bytes'));
  assert.equal(sum(stats1.read_latency, 'reads'), stats1.reads);
  assert.ok(stats1.cache_hit_rate > 0 && stats1.cache_hit_rate < 1);
  assert.ok(stats1.read_amplification >= 1);
  const { mask } = stats1;
  assert.ok(mask.exact && mask.recall === 1 && mask.missed_mass === 0 && mask.checked === 0 && mask.over_load >= 1, JSON.stringify(mask));
  assert.equal(stats1.read_amplification, stats1.bytes_read / stats1.bytes_wanted);
  for (const l of after0.layers) assert.ok(l.mode === 'sparse' && l.cached > 0 && l.cached <= after0.slots_per_layer);
});

test('tracing does not change the answer', opts, async () => {
  const plain = await complete({ seed: 5 });
  const traced = await complete({ seed: 5, flash: { trace: true } });
  assert.equal(plain.body.choices[0].text, traced.body.choices[0].text);
  assert.equal(plain.body.flash, undefined);
  const e = await get(`/api/flash/traces/${plain.id}`, 404);
  assert.match(e.error.message, new RegExp(plain.id));
});

test('requests that run together have traces of the passes they share', opts, async () => {
  await until('a shared pass', async () => { // one may have ended before the other comes: then they are asked again
    const [a, b] = await Promise.all([complete({ flash: { trace: true } }), complete({ flash: { trace: true }, max_tokens: 40 })]);
    const [s, t] = [await get(`/api/flash/traces/${a.id}`), await get(`/api/flash/traces/${b.id}`)];
    assert.equal(sum(s.passes, 'emitted_tokens'), 20);
    assert.equal(sum(t.passes, 'emitted_tokens'), 40);
    for (const p of [...s.passes, ...t.passes]) assert.ok(p.batch_tokens >= p.own_tokens);
    const shared = (x) => x.passes.some((p) => p.batch_tokens > p.own_tokens);
    assert.equal(shared(s), shared(t), 'both or none');
    return shared(s);
  });
});

test('the perfetto form is a trace-event document', opts, async () => {
  const { id } = await complete({ flash: { trace: true } });
  const plain = await get(`/api/flash/traces/${id}?format=json`);
  const doc = await get(`/api/flash/traces/${id}?format=perfetto`);
  const tracks = new Map();
  const end = new Map();
  const open = new Map();
  let reads = 0;
  const seen = {};
  for (const e of doc.traceEvents) {
    assert.equal(typeof e.name, 'string');
    assert.equal(e.pid, 1);
    if (e.ph === 'M') {
      if (e.name === 'thread_name') tracks.set(e.tid, e.args.name);
      continue;
    }
    assert.ok(Number.isFinite(e.ts), JSON.stringify(e));
    if (e.ph === 'X') { // slices of a thread must nest: here they follow each other
      assert.ok(e.dur >= 0 && e.ts >= (end.get(e.tid) ?? 0) - 0.002, JSON.stringify(e));
      end.set(e.tid, e.ts + e.dur);
      seen[tracks.get(e.tid)] = (seen[tracks.get(e.tid)] || 0) + e.dur;
    } else if (e.ph === 'C') {
      assert.ok(Number.isInteger(e.args.value));
      seen[e.name] = (seen[e.name] || 0) + e.args.value;
    } else if (e.ph === 'b') {
      assert.ok(!open.has(e.id));
      open.set(e.id, e);
    } else {
      assert.equal(e.ph, 'e');
      const b = open.get(e.id);
      assert.ok(b && b.cat === e.cat && b.name === e.name && e.ts >= b.ts);
      open.delete(e.id);
      reads += 1;
    }
  }
  assert.equal(open.size, 0, 'every read that begins ends');
  assert.equal(reads, plain.reads.length);
  assert.deepEqual([...tracks.values()], ['passes', 'attention', 'mask', 'wait for disk', 'compute']);
  const layers = plain.passes.flatMap((p) => p.layers);
  for (const [name, key] of [['attention', 'attention_ns'], ['wait for disk', 'wait_ns'], ['compute', 'compute_ns']]) {
    assert.ok(Math.abs(seen[name] - sum(layers, key) / 1e3) < 1, name);
  }
  assert.equal(seen['bytes read in layer'], sum(layers, 'bytes'));
  assert.equal(seen['bytes read in pass'], sum(layers, 'bytes'));
});

test('only the latest traces are kept', opts, async () => {
  const ids = [];
  for (let i = 0; i < 5; i += 1) ids.push((await complete({ flash: { trace: true }, max_tokens: 1 })).id);
  await get(`/api/flash/traces/${ids[0]}`, 404);
  for (const id of ids.slice(1)) assert.equal((await get(`/api/flash/traces/${id}`)).passes.length, 1);
  assert.deepEqual((await get('/api/flash/layers')).traces, ids.slice(1).reverse());
  await get('/api/flash/traces/', 404);
  await get(`/api/flash/traces/${ids[4]}?format=svg`, 400);
});
