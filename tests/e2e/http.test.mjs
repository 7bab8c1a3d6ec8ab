// The HTTP surface on bare sockets: refusals, headers, hostile bytes, the documented routes.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { data, haveModel, model, startServer, strobe } from './lib.mjs';
import { dial, exchange, request } from './raw.mjs';

const have = haveModel('HTTP');
const opts = { skip: have ? false : 'shared data absent' };
const CTX = 512;
let bare; // without a model
let full;

before(async () => {
  bare = await startServer(['--max-body', '64KiB']);
  if (have) full = await startServer(['-m', model, '--slots', '2', '--queue', '8', '--ctx', String(CTX)]);
});
after(async () => {
  for (const s of [bare, full]) if (s) assert.deepEqual(await s.stop(), { code: 0, signal: null }, s.log());
});

const alive = async (s) => assert.equal((await exchange(s.url, request('GET', '/health/live'))).status, 200);
const post = (s, path, body, headers) => exchange(s.url, request('POST', path, { body: typeof body === 'string' ? body : JSON.stringify(body), headers }));
function assertEnvelope(r, status, code) {
  assert.equal(r.status, status, r.body.toString());
  assert.match(r.headers['content-type'], /^application\/json/);
  const e = r.json().error;
  assert.deepEqual(Object.keys(e).sort(), ['code', 'message', 'param', 'type']);
  assert.ok(e.message.length > 0);
  if (code) assert.equal(e.code, code);
}

test('unknown routes are a JSON 404 and known ones with another method a 405 with Allow', async () => {
  assertEnvelope(await exchange(bare.url, request('GET', '/no/such/route')), 404, 'route_not_found');
  for (const [method, path, allow] of [['POST', '/health', 'GET'], ['GET', '/v1/completions', 'POST'], ['PUT', '/v1/models', 'GET'],
    ['PATCH', '/tokenize', 'POST'], ['TRACE', '/health', 'GET'], ['GET', '/api/requests/x', 'DELETE']]) {
    const r = await exchange(bare.url, request(method, path));
    assertEnvelope(r, 405, 'method_not_allowed');
    assert.equal(r.headers.allow, allow, `${method} ${path}`);
  }
});

test('every reply names its request, and no two share a name', async () => {
  const ids = new Set();
  for (const text of [request('GET', '/health/live'), request('GET', '/'), request('GET', '/nothing'), request('PUT', '/health'),
    request('OPTIONS', '/v1/models'), request('GET', '/', { host: 'evil.example' }), request('POST', '/v1/completions', { body: '{' })]) {
    const r = await exchange(bare.url, text);
    assert.match(r.headers['x-request-id'], /^req-[0-9a-f]{16}$/, text);
    assert.equal(r.headers['x-content-type-options'], 'nosniff');
    ids.add(r.headers['x-request-id']);
  }
  assert.equal(ids.size, 7);
});

test('HEAD answers without a body and OPTIONS with 204', async () => {
  const c = dial(bare.url);
  c.send(request('HEAD', '/health/live') + request('GET', '/health/live'));
  const head = await c.reply(true);
  assert.equal(head.status, 200);
  assert.equal(head.headers['content-length'], '15');
  assert.deepEqual((await c.reply()).json(), { status: 'ok' });
  c.drop();
  const o = await exchange(bare.url, request('OPTIONS', '/v1/chat/completions'));
  assert.equal(o.status, 204);
  assert.equal(o.headers['access-control-allow-origin'], undefined);
});

test('a page of another origin or another name for this machine is refused', async () => {
  for (const host of ['evil.example', 'evil.example:80', '127.0.0.1.evil.example', '[::2]', 'localhost.evil.example'])
    assertEnvelope(await exchange(bare.url, request('GET', '/health/live', { host })), 403, 'host_not_allowed');
  for (const host of ['localhost', 'localhost:1234', '127.0.0.1', '127.0.0.1:9', '[::1]', '[::1]:80'])
    assert.equal((await exchange(bare.url, request('GET', '/health/live', { host }))).status, 200, host);
  for (const origin of ['http://evil.example', 'null', 'http://127.0.0.1:1', 'https://localhost.evil.example'])
    assertEnvelope(await exchange(bare.url, request('POST', '/v1/completions', { body: '{}', headers: { Origin: origin } })), 403, 'origin_not_allowed');
  const own = new URL(bare.url).host;
  assert.equal((await exchange(bare.url, request('GET', '/version', { host: own, headers: { Origin: `http://${own}` } }))).status, 200);
});

test('a configured origin gets CORS headers, others do not get in', async () => {
  const s = await startServer(['--cors-origin', 'https://ui.example']);
  try {
    const pre = await exchange(s.url, request('OPTIONS', '/v1/models', { headers: { Origin: 'https://ui.example', 'Access-Control-Request-Headers': 'authorization, x-stainless-os' } }));
    assert.equal(pre.status, 204);
    assert.equal(pre.headers['access-control-allow-origin'], 'https://ui.example');
    assert.match(pre.headers['access-control-allow-headers'], /x-stainless-os/);
    const r = await exchange(s.url, request('GET', '/v1/models', { headers: { Origin: 'https://ui.example' } }));
    assert.equal(r.status, 200);
    assert.equal(r.headers['access-control-allow-origin'], 'https://ui.example');
    assertEnvelope(await exchange(s.url, request('GET', '/v1/models', { headers: { Origin: 'https://evil.example' } })), 403, 'origin_not_allowed');
  } finally {
    await s.stop();
  }
});

test('bodies over the limit are refused by their length, by their growth, and before they are sent', async () => {
  const c = dial(bare.url);
  c.send('POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70000\r\nExpect: 100-continue\r\n\r\n');
  assertEnvelope(await c.reply(), 413, 'body_too_large');
  c.drop();
  for (const n of ['70000', '9223372036854775807']) {
    const d = dial(bare.url);
    d.send(`POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${n}\r\n\r\n`);
    assert.equal((await d.reply()).status, 413, n);
    await d.closed();
    d.drop();
  }
  const g = dial(bare.url);
  g.send('POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n');
  for (let i = 0; i < 9; i++) g.send(`2000\r\n${'x'.repeat(8192)}\r\n`);
  g.send('0\r\n\r\n');
  assertEnvelope(await g.reply(), 413, 'body_too_large');
  g.drop();
});

test('requests that two parsers could read differently are refused and the connection closed', async () => {
  const cases = {
    'two Host': 'GET /health/live HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n',
    'no Host in 1.1': 'GET /health/live HTTP/1.1\r\n\r\n',
    'two lengths': 'POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}',
    'two equal lengths': 'POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}',
    'length and chunked': 'POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'unknown coding': 'POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n',
    'chunked twice': 'POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'space before colon': 'POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length : 2\r\n\r\n{}',
    'NUL in the path': 'GET /health/live%00x HTTP/1.1\r\nHost: localhost\r\n\r\n',
    'version 1.2': 'GET /health/live HTTP/1.2\r\nHost: localhost\r\n\r\n',
  };
  for (const [name, text] of Object.entries(cases)) {
    const c = dial(bare.url);
    c.send(Buffer.from(`${text}GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n`, 'latin1'));
    const bytes = (await c.closed(undefined, name)).toString('latin1');
    assert.match(bytes, /^HTTP\/1\.1 (400|501|505) /, `${name}: ${bytes.slice(0, 60)}`);
    assert.equal(bytes.match(/HTTP\/1\.1 \d{3} /g).length, 1, `${name}: the bytes behind it were answered too`);
    c.drop();
  }
  await alive(bare);
});

test('paths never leave the table of embedded files', async () => {
  for (const path of ['/../etc/passwd', '/%2e%2e/%2e%2e/etc/passwd', '/..%2f..%2fetc/passwd', '//etc/passwd', '/index.html/..', '/\\etc', '/%', '/%zz', `/${'a'.repeat(4000)}`]) {
    const r = await exchange(bare.url, request('GET', path));
    assert.ok([400, 404, 414].includes(r.status), `${path}: ${r.status}`);
  }
  const absolute = await exchange(bare.url, request('GET', 'http://127.0.0.1/health/live'));
  assert.ok(absolute.status === 200 || absolute.status === 404);
});

test('pipelined requests are answered in order, each once', async () => {
  const c = dial(bare.url);
  const n = 200;
  let text = '';
  for (let i = 0; i < n; i++) text += i % 2 ? request('POST', '/tokenize', { body: `{"content":"${i}"}` }) : request('GET', '/health/live');
  c.send(text);
  for (let i = 0; i < n; i++) {
    const r = await c.reply();
    assert.equal(r.status, i % 2 ? 503 : 200, `reply ${i}`);
  }
  c.drop();
});

test('assets carry an ETag, answer 304, and are compressed when that is accepted', async () => {
  const page = await exchange(bare.url, request('GET', '/'));
  assert.equal(page.status, 200);
  assert.match(page.headers['content-type'], /^text\/html/);
  assert.match(page.headers['content-security-policy'], /default-src 'self'/);
  const same = await exchange(bare.url, request('GET', '/', { headers: { 'If-None-Match': page.headers.etag } }));
  assert.equal(same.status, 304);
  assert.equal(same.headers.etag, page.headers.etag);
  assert.equal(same.body.length, 0);
  const bundle = /(?:src|href)="\/?([^"]+\.js)"/.exec(page.body.toString())[1];
  const js = await exchange(bare.url, request('GET', `/${bundle}`, { headers: { 'Accept-Encoding': 'gzip' } }));
  assert.equal(js.headers['content-encoding'], 'gzip');
  assert.match(js.headers['cache-control'], /immutable/);
  assert.match(js.headers.vary, /Accept-Encoding/);
});

test('without a model the dashboard answers and generation says what to do', async () => {
  assertEnvelope(await exchange(bare.url, request('GET', '/health')), 503, 'no_model');
  for (const path of ['/v1/completions', '/v1/chat/completions', '/tokenize', '/detokenize', '/apply-template']) {
    const r = await post(bare, path, { prompt: 'x', messages: [{ role: 'user', content: 'x' }] });
    assertEnvelope(r, 503, 'no_model');
    assert.equal(r.headers['x-should-retry'], 'false');
  }
  assert.deepEqual((await exchange(bare.url, request('GET', '/v1/models'))).json().data, []);
});

test('a target in absolute form is the path behind its host', async () => {
  for (const [target, status] of [['http://127.0.0.1/health/live', 200], ['HTTPS://any.example:1/health/live?a=b', 200], ['http://127.0.0.1', 200],
    ['http://127.0.0.1/no/such/route', 404], ['http:/health/live', 404]]) {
    assert.equal((await exchange(bare.url, request('GET', target))).status, status, target);
  }
});

test('more arguments than a connection has memory for are refused and not left waiting', async () => {
  const get = (n, more = '') => request('GET', `/health/live?${Array(n).fill('a=b').join('&')}${more}`);
  assert.equal((await exchange(bare.url, get(64))).status, 200);
  assert.equal((await exchange(bare.url, get(64, 'x'.repeat(16000)))).status, 200);
  for (const text of [get(65), get(500), get(4000), get(10, 'x'.repeat(16500)), get(10, 'x'.repeat(32000))]) {
    const c = dial(bare.url);
    c.send(text);
    assertEnvelope(await c.reply(), 414, 'uri_too_long');
    await c.closed();
    c.drop();
  }
});

test('API keys are asked for everywhere but at the open routes', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'strobe-keys-'));
  writeFileSync(join(dir, 'keys'), '# comment\n\nfirst-key\nsecond-key  \n', { mode: 0o600 });
  const s = await startServer(['--api-key-file', join(dir, 'keys')]);
  try {
    for (const path of ['/v1/models', '/slots', '/props', '/metrics', '/api/flash/stats', '/api/flash/layers', '/api/flash/traces/x', '/api/events', '/api/jobs', '/api/jobs/x', '/api/jobs/x/events', '/api/jobs/x/metrics', '/api/jobs/x/log']) {
      for (const key of [undefined, '', 'Bearer', 'Bearer ', 'Bearer first', 'Bearer first-key2', 'Basic first-key', 'Bearer first-key,second-key']) {
        const r = await exchange(s.url, request('GET', path, { headers: key === undefined ? {} : { Authorization: key } }));
        assertEnvelope(r, 401, 'invalid_api_key');
        assert.equal(r.headers['www-authenticate'], 'Bearer');
      }
      assertEnvelope(await exchange(s.url, request('GET', `${path}?api_key=first-key`)), 401);
    }
    for (const key of ['Bearer first-key', 'bearer second-key'])
      assert.equal((await exchange(s.url, request('GET', '/v1/models', { headers: { Authorization: key } }))).status, 200, key);
    for (const path of ['/health/live', '/', '/openapi.json', '/version']) assert.equal((await exchange(s.url, request('GET', path))).status, 200, path);
    assert.equal(s.log().includes('first-key'), false, 'the log shows a key');
  } finally {
    await s.stop();
    rmSync(dir, { recursive: true });
  }
});

test('/metrics is Prometheus text: typed families, unique samples, cumulative histograms', opts, async () => {
  assert.equal((await post(full, '/v1/completions', { prompt: 'One', max_tokens: 4, stream: true })).status, 200);
  const r = await exchange(full.url, request('GET', '/metrics'));
  assert.equal(r.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
  const types = new Map();
  const samples = new Map();
  for (const line of r.body.toString().trimEnd().split('\n')) {
    const t = /^# TYPE ([a-z_]+) (counter|gauge|histogram)$/.exec(line);
    if (t) {
      assert.ok(!types.has(t[1]), `${t[1]} twice`);
      types.set(t[1], t[2]);
    }
    if (line.startsWith('#')) {
      assert.match(line, /^# (HELP|TYPE) [a-z_]+ /);
      continue;
    }
    const s = /^([a-z_]+)((?:\{[a-z_]+="[^"\\]*"\})?) (-?[0-9.e+-]+|NaN|[+-]Inf)$/.exec(line);
    assert.ok(s, `no sample: ${line}`);
    const family = types.has(s[1]) ? s[1] : s[1].replace(/_(bucket|sum|count)$/, '');
    assert.ok(types.has(family), `${line} has no TYPE`);
    if (types.get(family) === 'counter') assert.match(family, /_total$/);
    assert.ok(!samples.has(s[1] + s[2]), `${line} twice`);
    samples.set(s[1] + s[2], Number(s[3]));
  }
  for (const [name, type] of types) {
    if (type !== 'histogram') continue;
    const buckets = [...samples].filter(([k]) => k.startsWith(`${name}_bucket`)).map(([, v]) => v);
    assert.deepEqual(buckets, [...buckets].sort((a, b) => a - b), name);
    assert.equal(samples.get(`${name}_bucket{le="+Inf"}`), samples.get(`${name}_count`));
  }
  assert.ok(samples.get('strobe_generated_tokens_total') >= 4);
  assert.ok(samples.get('strobe_token_to_socket_seconds_count') >= 1);
});

const verbs = new Set([...execFileSync(strobe, ['--help'], { encoding: 'utf8' }).matchAll(/^ {2}([a-z]+) /gm)].map((m) => m[1]));
// What each documented operation is asked here, and which of its documented answers must come.
const asked = {
  'post /v1/chat/completions': [{ messages: [{ role: 'user', content: 'Hi' }], max_tokens: 2 }, '200'],
  'post /v1/completions': [{ prompt: 'Hi', max_tokens: 2 }, '200'],
  'post /v1/embeddings': [{ input: 'Hi' }, '501'],
  'get /v1/models': [null, '200'],
  'get /v1/models/{id}': [null, '404'],
  'post /tokenize': [{ content: 'Hi' }, '200'],
  'post /detokenize': [{ tokens: [1, 2] }, '200'],
  'post /apply-template': [{ messages: [{ role: 'user', content: 'Hi' }] }, '200'],
  'get /props': [null, '200'],
  'get /slots': [null, '200'],
  'delete /api/requests/{id}': [null, '404'],
  'get /api/flash/stats': [null, '200'],
  'get /api/flash/layers': [null, '200'],
  'get /api/flash/traces/{id}': [null, '404'],
  'post /api/models/estimate': [{ ram: 1 << 30 }, '200'],
  'get /api/events': [null, '200'],
  'post /api/train/pretrain': [{ data: 'absent.txt', steps: 1 }, '400'],
  'post /api/train/relufy': [{ data: '/etc/passwd' }, verbs.has('relufy') ? '400' : '501'],
  'post /api/train/sft': [{ data: '/etc/passwd' }, verbs.has('sft') ? '400' : '501'],
  'post /api/train/reward': [{ data: '/etc/passwd' }, verbs.has('reward') ? '400' : '501'],
  'post /api/train/ppo': [{ policy: '/etc/passwd' }, verbs.has('ppo') ? '400' : '501'],
  'post /api/train/soup': [{ base: '/etc/passwd' }, verbs.has('soup') ? '400' : '501'],
  'get /api/jobs': [null, '200'],
  'get /api/jobs/{id}': [null, '404'],
  'post /api/jobs/{id}/cancel': [null, '404'],
  'post /api/jobs/{id}/resume': [null, '404'],
  'get /api/jobs/{id}/events': [null, '404'],
  'get /api/jobs/{id}/metrics': [null, '404'],
  'get /api/jobs/{id}/log': [null, '404'],
  'get /api/evals/runs': [null, '200'],
  'post /api/evals/runs': [{ variants: ['sideways'] }, '400'],
  'get /api/evals/runs/{id}': [null, '404'],
  'get /api/evals/runs/{id}/samples': [null, '404'],
  'get /api/evals/runs/{id}/events': [null, '404'],
  'post /api/evals/runs/{id}/pause': [null, '404'],
  'post /api/evals/runs/{id}/cancel': [null, '404'],
  'post /api/evals/runs/{id}/resume': [null, '404'],
  'get /api/evals/runs/{id}/report': [null, '404'],
  'get /api/evals/runs/{id}/export': [null, '404'],
  'post /api/evals/compare': [{ a: 'nothing', b: 'nothing' }, '404'],
  'get /api/evals/templates': [null, '200'],
  'post /api/evals/templates': [{ text: '{"id": "x"}', samples: 1 }, '200'],
  'get /api/evals/templates/{id}': [null, '404'],
  'post /api/duo/traces': [{ text: 'Hi' }, '400'], // stories260K has no Duo modules
  'get /api/duo/traces': [null, '200'],
  'get /api/duo/traces/{id}': [null, '404'],
  'delete /api/duo/traces/{id}': [null, '404'],
  'get /api/duo/traces/{id}/aggregate': [null, '404'],
  'post /api/recsys/events': [{ events: [{ user: 'a', item: 'b', time: 1700000000 }] }, '200'],
  'post /api/recsys/follows': [{ follows: [] }, '200'],
  'post /api/recsys/fit': [{ variant: 'nothing' }, '400'],
  'post /api/recsys/demo': [{ variant: 'nothing' }, '400'],
  'get /api/recsys/users': [null, '200'],
  'get /api/recsys/users/{id}/recommend': [null, '409'], // nothing has been fitted
  'get /api/recsys/users/{id}/return-time': [null, '409'],
  'get /api/recsys/users/{id}/intensity': [null, '409'],
  'get /api/recsys/users/{id}/influence': [null, '409'],
  'get /api/recsys/items/{id}/similar': [null, '409'],
  'get /api/recsys/models': [null, '200'],
  'get /api/recsys/models/{id}': [null, '404'],
  'post /api/recsys/models/{id}/activate': [null, '404'],
  'get /api/recsys/metrics': [null, '200'],
  'get /api/recsys/stats': [null, '200'],
  'get /api/recsys/evaluations': [null, '200'],
  'get /api/recsys/health': [null, '200'],
  'get /health': [null, '200'],
  'get /health/live': [null, '200'],
  'get /metrics': [null, '200'],
  'get /version': [null, '200'],
};

test('the type of cached keys and values is said and can be asked for', opts, async () => {
  const ask = async (body) => post(full, '/api/models/estimate', { ram: 1 << 30, ...body });
  const props = (await exchange(full.url, request('GET', '/props'))).json();
  assert.equal(props.kv_type, 'f32'); // the model's weights are F32
  const served = (await ask({})).json();
  assert.equal(served.kv_type, 'f32');
  const half = (await ask({ kv: 'f16' })).json();
  assert.equal(half.kv_type, 'f16');
  assert.equal(2 * half.kv_bytes, served.kv_bytes);
  assertEnvelope(await ask({ kv: 'q8' }), 400);
});

test('every operation of /openapi.json answers as documented, and every route is documented', opts, async () => {
  const doc = (await exchange(full.url, request('GET', '/openapi.json'))).json();
  const seen = [];
  for (const [path, operations] of Object.entries(doc.paths))
    for (const [method, operation] of Object.entries(operations)) {
      const name = `${method} ${path}`;
      seen.push(name);
      assert.ok(asked[name], `${name} is documented and not tested`);
      const [body, status] = asked[name];
      const c = dial(full.url);
      c.send(request(method.toUpperCase(), path.replace('{id}', 'nothing'), body ? { body: JSON.stringify(body) } : {}));
      if (name === 'get /api/events') {
        assert.match(await c.until('data: {'), /^HTTP\/1\.1 200 [^]*text\/event-stream/);
        c.drop();
        continue;
      }
      const r = await c.reply();
      c.drop();
      assert.equal(String(r.status), status, `${name}: ${r.body}`);
      assert.ok(operation.responses[status], `${name} answers ${status}, which is not documented`);
      const types = Object.keys(operation.responses[status].content || {});
      if (types.length && name !== 'get /metrics') assert.ok(types.some((t) => r.headers['content-type'].startsWith(t)), `${name}: ${r.headers['content-type']} is not ${types}`);
      if (r.status >= 400) assertEnvelope(r, r.status);
    }
  assert.deepEqual(seen.sort(), Object.keys(asked).sort());
  const table = readFileSync(new URL('../../server/router.c', import.meta.url), 'utf8');
  for (const [, method, path] of table.matchAll(/\{ METHOD_([A-Z]+), "([^"]+)"/g)) {
    if (path === '/*' || path === '/openapi.json' || path === '/v1/health') continue;
    assert.ok(seen.includes(`${method.toLowerCase()} ${path.replace(/\*|\{name\}/, '{id}')}`), `${method} ${path} is not documented`);
  }
});

test('parameters out of bounds are refused by name, none becomes a 500', opts, async () => {
  const values = [-1, 2147483648, 9007199254740993, 1e308, -1e308, 1.5, true, '5', [], {}, 'x'];
  const whole = ['max_tokens', 'n', 'seed', 'top_k', 'logprobs'];
  for (const name of [...whole, 'temperature', 'top_p', 'min_p', 'presence_penalty', 'frequency_penalty', 'repeat_penalty', 'stop', 'logit_bias', 'stream', 'echo', 'stream_options'])
    for (const v of values) {
      const text = JSON.stringify({ prompt: 'a', max_tokens: 1, [name]: v });
      const c = dial(full.url);
      c.send(request('POST', '/v1/completions', { body: text }));
      const r = await c.reply();
      c.drop();
      assert.ok([200, 400].includes(r.status), `${text}: ${r.status} ${r.body}`);
      if (r.status === 400) assert.match(`${r.json().error.param} ${r.json().error.message}`, new RegExp(name === 'stream_options' ? 'stream_options|include_usage' : name), text);
    }
  for (const [prompt, status] of [[[], 400], ['', 200], [[-1], 400], [[512], 400], [[1.5], 400], [[[1], 'x'], 200], [[[[1]]], 400], [null, 400], [Array(65).fill('a'), 400]]) {
    const r = await post(full, '/v1/completions', { prompt, max_tokens: 1 });
    assert.ok(r.status === status || (prompt === '' && r.status === 400), `${JSON.stringify(prompt)}: ${r.status} ${r.body}`);
  }
});

test('response_format with a schema is refused by name', opts, async () => {
  const r = await post(full, '/v1/chat/completions', { messages: [{ role: 'user', content: 'x' }], response_format: { type: 'json_schema', json_schema: { name: 'a', schema: {} } } });
  assertEnvelope(r, 400, 'unsupported_parameter');
  assert.equal(r.json().error.param, 'response_format');
});

test('a prompt longer than the context is refused and both numbers are named', opts, async () => {
  const n = CTX + 88;
  const r = await post(full, '/v1/completions', { prompt: Array(n).fill(5), max_tokens: 1 });
  assertEnvelope(r, 400, 'context_length_exceeded');
  assert.match(r.json().error.message, new RegExp(`${n}`));
  assert.match(r.json().error.message, new RegExp(`${CTX}`));
});

test('echo with logprobs gives what lm-evaluation-harness sums', opts, async () => {
  const ids = (await post(full, '/tokenize', { content: 'Once upon a time there was', add_special: true })).json().tokens;
  const prompts = [ids, ids.slice(0, 4)];
  const r = await post(full, '/v1/completions', { model: 'm', prompt: prompts, temperature: 0, max_tokens: 1, logprobs: 1, seed: 1234, echo: true });
  assert.equal(r.status, 200, r.body.toString());
  const { choices } = r.json();
  assert.deepEqual(choices.map((c) => c.index), [0, 1]);
  choices.forEach((c, k) => {
    const l = c.logprobs;
    const n = prompts[k].length + 1;
    for (const key of ['tokens', 'token_logprobs', 'top_logprobs', 'text_offset']) assert.equal(l[key].length, n, key);
    assert.equal(l.token_logprobs[0], null);
    assert.equal(l.top_logprobs[0], null);
    for (let i = 1; i < n; i++) {
      const best = Math.max(...Object.values(l.top_logprobs[i]));
      assert.ok(l.token_logprobs[i] <= best && l.token_logprobs[i] <= 0, `position ${i}`);
    }
    assert.equal(l.token_logprobs[n - 1], Math.max(...Object.values(l.top_logprobs[n - 1])), 'the greedy token is the best one');
    assert.deepEqual(l.text_offset, [...l.text_offset].sort((a, b) => a - b));
  });
  // A prefix scores the same alone and in a longer prompt.
  assert.deepEqual(choices[1].logprobs.token_logprobs.slice(0, 4), choices[0].logprobs.token_logprobs.slice(0, 4));
});

test('the JSON test suite through a request body: never more than a 400', opts, async (t) => {
  const dir = join(data, 'json/test_parsing');
  if (!existsSync(dir)) {
    console.error('SKIPPED: JSON suite absent from the shared data');
    return t.skip();
  }
  let n = 0;
  const c = { now: null };
  for (const f of readdirSync(dir)) {
    const body = readFileSync(join(dir, f));
    c.now = dial(full.url);
    c.now.send(Buffer.concat([Buffer.from(`POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`), body]));
    const r = await c.now.reply();
    c.now.drop();
    assertEnvelope(r, 400);
    if (f.startsWith('n_')) assert.equal(r.json().error.code, 'invalid_json', f);
    n++;
    // The same as a member that is ignored: what is JSON must not be refused. (Duplicate keys are, on purpose, and NUL in keys.)
    if (!f.startsWith('y_') || /duplicated_key|escaped_null_in_key/.test(f)) continue;
    const d = dial(full.url);
    d.send(Buffer.concat([Buffer.from(`POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length + 20}\r\n\r\n{"content":"a","x":`), body, Buffer.from('}')]));
    const ok = await d.reply();
    d.drop();
    assert.equal(ok.status, 200, `${f}: ${ok.body}`);
  }
  assert.ok(n > 300);
  for (const body of ['['.repeat(100000), `{"a":${'['.repeat(3000)}${']'.repeat(3000)}}`, '{"prompt":"a","prompt":"b"}', '{"prompt":"\\ud800"}', '\ufeff{}', 'null', '[]', '"x"', '123'])
    assertEnvelope(await post(full, '/v1/completions', body), 400, 'invalid_json');
  assertEnvelope(await exchange(full.url, 'POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n'), 400, 'invalid_json');
  await alive(full);
});

// Sends the bytes, ends the sending side, and waits for the other side to end too.
async function hostile(name, bytes) {
  const c = dial(bare.url);
  c.socket.end(bytes);
  const got = (await c.closed(undefined, name)).toString('latin1');
  c.drop();
  for (const [, status] of got.matchAll(/(?:^|\n)HTTP\/1\.[01] (\d{3}) /g)) assert.ok(Number(status) < 500 || [501, 503, 505].includes(Number(status)), `${name}: ${status}`);
  assert.ok(got === '' || got.startsWith('HTTP/1.'), `${name}: ${JSON.stringify(got.slice(0, 80))}`);
}
async function eachOf(list, width, work) {
  let at = 0;
  await Promise.all(Array.from({ length: width }, async () => { while (at < list.length) await work(list[at++]); }));
}

test('the HTTP corpora leave the server standing', async (t) => {
  const tar = join(data, 'http/h2o-http1-corpus.tar.gz');
  if (!existsSync(tar)) {
    console.error('SKIPPED: HTTP corpora absent from the shared data');
    return t.skip();
  }
  const dir = mkdtempSync(join(tmpdir(), 'strobe-http-'));
  try {
    execFileSync('tar', ['xzf', tar, '-C', dir]);
    const cases = readdirSync(dir, { recursive: true, withFileTypes: true }).filter((f) => f.isFile())
      .map((f) => join(f.path || f.parentPath, f.name)).map((f) => [f, readFileSync(f)]);
    const md = join(data, 'http/llhttp-md');
    for (const f of readdirSync(md).filter((x) => x.endsWith('.md')))
      for (const [, block] of readFileSync(join(md, f), 'utf8').matchAll(/```http\n([^]*?)```/g))
        cases.push([f, Buffer.from(block.replace(/\\\n/g, '').replace(/\n/g, '\r\n').replaceAll('\\r', '\r').replaceAll('\\n', '\n'), 'latin1')]);
    assert.ok(cases.length > 2000);
    await eachOf(cases, 32, ([name, bytes]) => hostile(name, bytes));
    await alive(bare);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
