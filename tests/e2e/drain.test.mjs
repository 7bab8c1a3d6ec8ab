// SIGTERM: what was accepted is finished, what is new is refused, the process ends with code 0.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { haveModel, metric, model, startServer, until } from './lib.mjs';
import { dial, exchange, request } from './raw.mjs';

const opts = { skip: haveModel('drain') ? false : 'shared data absent' };
const common = { ignore_eos: true, stream: true, seed: 1 };
const ask = (n) => request('POST', '/v1/completions', { body: JSON.stringify({ prompt: 'One', max_tokens: n, ...common }) });
// 4.6 MB: more than the system takes for a client that does not read, less than the server keeps for it.
const large = request('POST', '/v1/chat/completions', { body: JSON.stringify({ messages: [{ role: 'user', content: 'One' }], max_tokens: 3200, logprobs: true, top_logprobs: 20, ...common }) });

test('running and waiting streams end whole, new requests get 503 with Retry-After', opts, async () => {
  const s = await startServer(['-m', model, '--slots', '1', '--queue', '16', '--ctx', '16384', '--drain', '3600', '--threads', '1']);
  const slow = dial(s.url); // the server is not at rest before this client reads
  slow.socket.pause();
  slow.send(large);
  await until('it is accepted', async () => await metric(s, 'generated_tokens_total') > 0);
  const streams = Array.from({ length: 4 }, () => dial(s.url));
  for (const c of streams) c.send(ask(200));
  for (const c of streams) await c.until('HTTP/1.1 200');
  const ended = s.stop();
  await until('draining', async () => (await exchange(s.url, request('GET', '/health'))).status === 503);
  const refused = await exchange(s.url, ask(1));
  assert.equal(refused.status, 503);
  assert.equal(refused.json().error.code, 'shutting_down');
  assert.match(refused.headers['retry-after'], /^[1-9]\d?$/);
  assert.equal((await exchange(s.url, request('GET', '/health/live'))).status, 200);
  // Everything is computed, and what was not sent is not lost.
  await until('the engine rests', async () => (await exchange(s.url, request('GET', '/slots'))).json().every((x) => !x.is_processing));
  for (let i = 0; i < 100; i++) assert.equal((await exchange(s.url, request('GET', '/health'))).status, 503, 'it waits for its clients');
  slow.socket.resume();
  for (const [i, c] of [slow, ...streams].entries()) {
    const text = await c.until('data: [DONE]\n\n');
    assert.equal(text.match(/"finish_reason":"length"/g)?.length, 1, `stream ${i}`);
    c.drop();
  }
  assert.deepEqual(await ended, { code: 0, signal: null }, s.log());
});

test('a stream that outlives the grace is cut without its end, and the process still ends well', opts, async () => {
  // All of it would take minutes.
  const s = await startServer(['-m', model, '--slots', '1', '--queue', '64', '--ctx', '16384', '--drain', '1', '--threads', '1']);
  const streams = Array.from({ length: 60 }, () => dial(s.url));
  for (const c of streams) c.send(ask(15000));
  for (const c of streams) await c.until('HTTP/1.1 200');
  assert.deepEqual(await s.stop(), { code: 0, signal: null }, s.log());
  const last = (await streams.at(-1).closed()).toString();
  assert.equal(last.includes('[DONE]'), false);
  assert.equal(last.endsWith('0\r\n\r\n'), false, 'the body must not look whole');
  for (const c of streams) c.drop();
});
