// From questions to findings: a scripted endpoint with a known skill for every template answers a run of the command line; the report
// must say exactly what it did, in every format, and the statistics must find what was planted.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createServer } from 'node:http';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { slow, startServer, strobe } from './lib.mjs';

const run = promisify(execFile);
const home = mkdtempSync(join(tmpdir(), 'strobe-evals-'));
const TEMPLATES = 16; // as many as --template may be given
const SETS = 8;
const cli = async (...args) => (await run(strobe, ['eval', ...args, '--data', home], { maxBuffer: 1 << 26 })).stdout;
const cliJson = async (...args) => JSON.parse(await cli(...args, '--json'));
const fails = (...args) => run(strobe, ['eval', ...args, '--data', home]).then(() => assert.fail('it worked'), (e) => e);

// A number in [0, 1) from a text: the same questions get the same answers.
function chance(text) {
  let h = 2166136261;
  for (const c of text) h = Math.imul(h ^ c.codePointAt(0), 16777619) >>> 0;
  h ^= h >>> 15;
  return (Math.imul(h, 2246822519) >>> 0) / 4294967296;
}

let items; // question -> item
let endpoint;
let told; // what each model answered: `${model} ${variant}` -> {n, right, trap}
let skill;

before(async () => {
  const all = await cliJson('sample', '--sets', String(SETS), '--variant', 'original', '--variant', 'both', '--variant', 'noop', '--seed', '3');
  const ids = [...new Set(all.items.filter((i) => i.variant === 'noop').map((i) => i.template))].sort().slice(0, TEMPLATES);
  assert.equal(ids.length, TEMPLATES);
  items = new Map(all.items.filter((i) => ids.includes(i.template)).map((i) => [i.question, i]));
  skill = new Map(ids.map((id, i) => [id, 0.35 + (0.6 * (i % 7)) / 6]));
  told = new Map();
  endpoint = createServer((req, res) => {
    let body = '';
    req.on('data', (d) => { body += d; });
    req.on('end', () => {
      const asked = JSON.parse(body);
      const text = asked.messages ? asked.messages.map((m) => m.content).join('\n') : asked.prompt;
      const item = [...items.values()].filter((i) => text.includes(i.question)).pop();
      const { model } = asked;
      const p = item ? skill.get(item.template) - (item.variant === 'noop' ? (model === 'weak' ? 0.5 : 0.2) : 0) : 0;
      const right = item && chance(`${model === 'weak' && item.variant === 'noop' ? 'x' : ''}${item.question}`) < p;
      const trap = item && !right && item.traps.length > 0;
      const answer = !item ? 'What?' : right ? item.gold_text : trap ? item.traps[0].value : '-1';
      if (item) {
        const key = `${model} ${item.variant}`;
        const t = told.get(key) || { n: 0, right: 0, trap: 0, by: new Map() };
        t.n += 1;
        t.right += right ? 1 : 0;
        t.trap += trap ? 1 : 0;
        t.by.set(item.template, (t.by.get(item.template) || 0) + (right ? 1 : 0));
        told.set(key, t);
      }
      const content = `Let us see. The final answer is ${answer}.`;
      const choice = asked.messages ? { message: { role: 'assistant', content } } : { text: content };
      res.setHeader('content-type', 'application/json');
      res.end(JSON.stringify({ id: 'x', object: 'chat.completion', model, choices: [{ index: 0, finish_reason: 'stop', ...choice }], usage: { prompt_tokens: 9, completion_tokens: 7, total_tokens: 16 } }));
    });
  });
  await new Promise((done) => { endpoint.listen(0, '127.0.0.1', done); });
  const url = `http://127.0.0.1:${endpoint.address().port}/v1`;
  for (const model of ['strong', 'weak']) {
    await cli('run', '--endpoint', url, '--model', model, '--api', 'chat', '--name', model, '--sets', String(SETS), '--seed', '3', '--primary', 'noop:both', '--variant', 'original', '--variant', 'both', '--variant', 'noop', ...ids.flatMap((id) => ['--template', id]));
  }
});
after(async () => {
  if (endpoint) {
    endpoint.closeAllConnections();
    await new Promise((done) => { endpoint.close(done); });
  }
  rmSync(home, { recursive: true, force: true });
});

const opts = { timeout: 180000 * slow };
const condition = (doc, variant) => doc.conditions.find((c) => c.variant === variant && c.level === 0);

// The part of JSON Schema that report.schema.json uses.
function invalid(schema, v, at = '$') {
  const kind = v === null ? 'null' : Array.isArray(v) ? 'array' : typeof v;
  const types = schema.type === undefined ? null : [].concat(schema.type);
  const is = (t) => t === kind || (t === 'integer' && Number.isInteger(v));
  if (types && !types.some(is)) return `${at}: ${kind} is not ${types}`;
  if ('const' in schema && v !== schema.const) return `${at}: ${v}`;
  if (schema.enum && !schema.enum.includes(v)) return `${at}: ${v} is none of ${schema.enum}`;
  if (kind === 'number' && (v < (schema.minimum ?? -Infinity) || v > (schema.maximum ?? Infinity))) return `${at}: ${v} is out of bounds`;
  if (kind === 'object') {
    for (const k of schema.required || []) if (!(k in v)) return `${at}.${k} is missing`;
    for (const [k, s] of Object.entries(schema.properties || {})) if (k in v) { const bad = invalid(s, v[k], `${at}.${k}`); if (bad) return bad; }
  }
  if (kind === 'array' && schema.items) for (const [i, x] of v.entries()) { const bad = invalid(schema.items, x, `${at}[${i}]`); if (bad) return bad; }
  return null;
}

test('the report says what the endpoint did, to the last answer', opts, async () => {
  const doc = await cliJson('report', 'weak');
  for (const variant of ['original', 'both', 'noop']) {
    const t = told.get(`weak ${variant}`);
    const c = condition(doc, variant);
    assert.deepEqual([c.scored, c.correct], [t.n, t.right], variant);
    const j = doc.heat.conditions.findIndex((x) => x.variant === variant);
    for (const row of doc.heat.templates) assert.equal(row.correct[j], t.by.get(row.id) || 0, `${row.id} ${variant}`);
  }
  const noop = doc.noop.find((x) => x.variant === 'noop');
  assert.equal(noop.all.trap, told.get('weak noop').trap);
  assert.equal(noop.all.wrong, told.get('weak noop').n - told.get('weak noop').right);
  assert.deepEqual(doc.suspect, []);
});

test('what was planted is found, and the claim that was declared is the one that is adjusted', opts, async () => {
  const doc = await cliJson('report', 'weak');
  const c = doc.contrasts.find((x) => x.id === 'noop:both');
  assert.equal(c.primary, true);
  assert.equal(c.p_holm, c.p, 'one declared contrast: nothing to adjust');
  assert.ok(c.p < 0.01 && c.paired.difference < -0.25 && c.paired.difference > -0.7, JSON.stringify(c.paired));
  assert.ok(doc.contrasts.filter((x) => x.id !== 'noop:both').every((x) => x.p_holm === null));
  const both = condition(doc, 'both');
  const mean = doc.heat.templates.reduce((s, t) => s + skill.get(t.id), 0) / doc.heat.templates.length;
  assert.ok(Math.abs(both.accuracy - mean) < 4 * both.fixed.se, `${both.accuracy}, planted ${mean}`);
  assert.ok(both.decomposition.between > 0);
});

test('the document follows its schema, and so does one of the public API', opts, async () => {
  const schema = JSON.parse(readFileSync(new URL('../../eval/report/report.schema.json', import.meta.url), 'utf8'));
  const doc = await cliJson('report', 'strong');
  assert.equal(invalid(schema, doc), null);
  assert.match(invalid(schema, { ...doc, level: 'x' }), /\$\.level/); // the validator can fail
  const server = await startServer([], { data: home });
  try {
    const got = await (await fetch(`${server.url}/api/evals/runs/strong/report`)).json();
    assert.deepEqual(got, doc, 'the same document, from the command line and over HTTP');
  } finally {
    await server.stop();
  }
});

test('CSV, HTML, text and JSON lines agree with it', opts, async () => {
  const doc = await cliJson('report', 'weak');
  const right = doc.conditions.reduce((s, c) => s + c.correct, 0);
  const lines = (await cli('report', 'weak', '-f', 'jsonl')).trim().split('\n').map((l) => JSON.parse(l));
  assert.equal(lines.length, doc.counts.asked);
  assert.equal(lines.filter((l) => l.correct).length, right);
  const csv = (await cli('report', 'weak', '-f', 'csv')).trim().split('\r\n');
  assert.equal(csv.length, 1 + doc.conditions.length);
  const column = csv[0].split(',').indexOf('correct');
  assert.equal(csv.slice(1).reduce((s, l) => s + Number(l.split(',')[column]), 0), right);
  const heat = (await cli('report', 'weak', '-f', 'csv', '--table', 'heat')).trim().split('\r\n').slice(1);
  assert.equal(heat.reduce((s, l) => s + Number(l.split(',')[3]), 0), right);
  assert.match(await cli('report', 'weak'), new RegExp(`${doc.counts.scored} scored, ${right} right`));
  const file = join(home, 'report.html');
  await cli('report', 'weak', '-f', 'html', '-o', file);
  assert.ok(readFileSync(file, 'utf8').includes(`${right} of ${doc.counts.asked} answers right`));
  for (const c of doc.conditions) assert.equal(c.histogram.counts.reduce((a, b) => a + b, 0), c.sets.n, c.variant);
});

test('two models are compared on the questions that both answered', opts, async () => {
  const doc = await cliJson('compare', 'strong', 'weak');
  assert.equal(doc.format, 'strobe-compare/1');
  const noop = condition(doc, 'noop');
  const s = told.get('strong noop');
  const w = told.get('weak noop');
  assert.equal(noop.items, s.n);
  assert.ok(Math.abs(noop.accuracy_a - s.right / s.n) < 1e-12 && Math.abs(noop.accuracy_b - w.right / w.n) < 1e-12);
  assert.equal(noop.only_a - noop.only_b, s.right - w.right);
  assert.ok(noop.p_holm < 0.05, String(noop.p_holm));
  assert.equal(condition(doc, 'both').only_a, 0, 'the same answers');
});

test('mistakes are said in one line', opts, async () => {
  for (const [args, code, text] of [
    [['report'], 2, /which run/], [['report', 'nope'], 3, /no run 'nope'/], [['report', 'weak', '-f', 'pdf'], 2, /none of text, json/],
    [['report', 'weak', '-f', 'csv', '--table', 'x'], 2, /none of conditions/], [['compare', 'weak'], 2, /which two/], [['report', 'weak', '-o', join(home, 'nope', 'x')], 3, /nope\/x/]]) {
    const e = await fails(...args);
    assert.equal(e.code, code, `${args}: ${e.stderr}`);
    assert.match(e.stderr, text);
    assert.equal(e.stderr.trim().split('\n').length, 1);
  }
  const plan = JSON.parse((await run(strobe, ['eval', 'plan', '--set-sd', '2.99', '--json'])).stdout);
  assert.ok(Math.abs(plan.smallest_drop_original - 0.085) < 0.0005 && Math.abs(plan.smallest_difference_variants - 0.017) < 0.0005);
});

test('a report is a gate for build servers', opts, async () => {
  const doc = JSON.parse(await cli('report', 'strong', '-f', 'json'));
  const both = 100 * doc.conditions.find((c) => c.variant === 'both').accuracy;
  const xml = await cli('report', 'strong', '--fail-under', `both=${both - 1}`, '--junit', '-');
  assert.match(xml, /^<\?xml version="1.0" encoding="UTF-8"\?>\n<testsuites>\n<testsuite name="run-[0-9a-f]+" tests="3" failures="0"/);
  assert.match(xml, /<testcase classname="both@0" name="accuracy is at least [0-9.]+ %"\/>/);
  const file = join(home, 'gate.xml');
  const e = await fails('report', 'strong', '--fail-under', '100', '--fail-under', 'both=1', '--junit', file);
  assert.equal(e.code, 1, e.stderr);
  assert.match(e.stdout, /^condition /m, 'the report is there all the same');
  assert.match(e.stderr, /gate: both@0: accuracy [0-9.]+ % \([0-9.]+ to [0-9.]+\) is below 100 %/);
  assert.match(e.stderr, /3 of 6 checks failed/);
  assert.equal(readFileSync(file, 'utf8').match(/<failure /g).length, 3);
  for (const bound of ['x', 'both=101', 'both@7=5', 'names=5', '=']) {
    assert.equal((await fails('report', 'strong', '--fail-under', bound)).code, 2, bound);
  }
});

// Nearly unsatisfiable over wide ranges: each takes the whole step budget of every level, some seconds.
function stubborn(id) {
  const vars = { who: 'person = Nadia' };
  for (const v of 'abcdef') vars[v] = '1..997 = 5';
  return { id, title: 'x', unit: 'things', tags: ['x'], vars,
    text: '{who} has {a} {b} {c} {d} {e} {f}.{#0+} x{/}{#1+} y{/}{#2+} z{/} How many?', solution: '{a}',
    where: ['a*b+c*d == e*f', 'a*c+b*d+7 == e*e', 'a*a+b*b+c*c == d*d+e*e+f*f+1', 'a*f == b*e*c*d+1'],
    answer: { '-1': 'a', 0: 'a+b', 1: 'a+b+c', 2: 'a+b+c+d' }, gold: { '-1': 5, 0: 10, 1: 15, 2: 20 } };
}

test('templates that take too long do not hold the workbench for ever', opts, async () => {
  const server = await startServer([], { data: home });
  const body = { text: JSON.stringify(Array.from({ length: 20 }, (_, i) => stubborn(`h${i}`))) };
  const r = await fetch(`${server.url}/api/evals/templates`, { method: 'POST', body: JSON.stringify(body) });
  assert.equal(r.status, 400);
  assert.match((await r.json()).error.message, /take longer than 3 s.*strobe eval check/);
  assert.equal((await fetch(`${server.url}/api/evals/runs`)).status, 200);
  await server.stop();
});
