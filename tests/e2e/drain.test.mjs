// SIGTERM: what was accepted is finished, what is new is refused, the process ends with code 0.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { haveModel, model, startServer, until } from './lib.mjs';
import { dial, exchange, request } from './raw.mjs';

const opts = { skip: haveModel('drain') ? false : 'shared data absent' };
const ask = (n) => request('POST', '/v1/completions', { body: JSON.stringify({ prompt: 'One', max_tokens: n, ignore_eos: true, stream: true, seed: 1 }) });

test('running and waiting streams end whole, new requests get 503 with Retry-After', opts, async () => {
  const s = await startServer(['-m', model, '--slots', '1', '--queue', '16', '--ctx', '2048']);
  const streams = Array.from({ length: 5 }, () => dial(s.url));
  for (const c of streams) c.send(ask(900));
  for (const c of streams) await c.until('HTTP/1.1 200');
  const ended = s.stop();
  await until('draining', async () => (await exchange(s.url, request('GET', '/health'))).status === 503);
  const refused = await exchange(s.url, ask(1));
  assert.equal(refused.status, 503);
  assert.equal(refused.json().error.code, 'shutting_down');
  assert.match(refused.headers['retry-after'], /^[1-9]\d?$/);
  assert.equal((await exchange(s.url, request('GET', '/health/live'))).status, 200);
  for (const [i, c] of streams.entries()) {
    const text = await c.until('data: [DONE]\n\n', 20000);
    assert.equal(text.match(/"finish_reason":"length"/g)?.length, 1, `stream ${i}`);
    c.drop();
  }
  assert.deepEqual(await ended, { code: 0, signal: null }, s.log());
});

test('a stream that outlives the grace is cut without its end, and the process still ends well', opts, async () => {
  const s = await startServer(['-m', model, '--slots', '1', '--queue', '64', '--ctx', '2048', '--drain', '1', '--threads', '1']);
  const streams = Array.from({ length: 60 }, () => dial(s.url));
  for (const c of streams) c.send(ask(1900));
  for (const c of streams) await c.until('HTTP/1.1 200');
  const start = Date.now();
  assert.deepEqual(await s.stop(), { code: 0, signal: null }, s.log());
  assert.ok(Date.now() - start < 8000, `${Date.now() - start} ms`);
  const last = (await streams.at(-1).closed()).toString();
  assert.equal(last.includes('[DONE]'), false);
  assert.equal(last.endsWith('0\r\n\r\n'), false, 'the body must not look whole');
  for (const c of streams) c.drop();
});
