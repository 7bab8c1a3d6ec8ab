// The real openai npm client against a real server with a real model.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { haveModel, metric, model, startServer, until } from './lib.mjs';

const have = haveModel('openai client');
const opts = { skip: have ? false : 'shared data absent' };
let server;
let roomy; // a long context
let client;

before(async () => {
  if (!have) return;
  server = await startServer(['-m', model, '--slots', '2', '--queue', '4', '--ctx', '512']);
  roomy = await startServer(['-m', model, '--slots', '2', '--queue', '4', '--ctx', '16384']);
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
after(async () => {
  for (const s of [server, roomy]) if (s) assert.deepEqual(await s.stop(), { code: 0, signal: null }, s.log());
});

const ask = { model: 'stories260K', messages: [{ role: 'user', content: 'Once upon a time' }], temperature: 0, max_tokens: 24 };

test('models are listed and fetched by id', opts, async () => {
  const list = await client.models.list();
  assert.equal(list.data.length, 1);
  assert.equal((await client.models.retrieve(list.data[0].id)).id, list.data[0].id);
  await assert.rejects(client.models.retrieve('no-such-model'), (e) => e.status === 404 && e.code === 'model_not_found');
});

test('a chat answers with usage', opts, async () => {
  const r = await client.chat.completions.create(ask);
  assert.equal(r.object, 'chat.completion');
  assert.equal(r.choices[0].message.role, 'assistant');
  assert.equal(r.usage.completion_tokens, 24);
  assert.equal(r.usage.total_tokens, r.usage.prompt_tokens + 24);
  assert.equal(r.choices[0].finish_reason, 'length');
});

test('a stream joins to the same text and ends with usage', opts, async () => {
  const whole = await client.chat.completions.create(ask);
  const stream = await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } });
  let text = '';
  let usage = null;
  let finish = null;
  let role = null;
  for await (const c of stream) {
    if (c.usage) {
      usage = c.usage;
      assert.deepEqual(c.choices, []);
    }
    const d = c.choices[0];
    if (!d) continue;
    role = d.delta.role || role;
    text += d.delta.content || '';
    finish = d.finish_reason || finish;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(role, 'assistant');
  assert.equal(finish, 'length');
  assert.equal(usage.completion_tokens, 24);
});

test('the streaming helper of the client accepts the stream', opts, async () => {
  const runner = client.chat.completions.stream(ask);
  const final = await runner.finalChatCompletion();
  assert.equal(final.choices[0].finish_reason, 'length');
});

test('greedy completion equals the reference continuation', opts, async () => {
  const r = await client.completions.create({ model: 'stories260K', prompt: 'Once upon a time', max_tokens: 20, temperature: 0 });
  assert.match(r.choices[0].text, /there was a little girl/);
});

test('log-probabilities come in both formats and agree', opts, async () => {
  const chat = await client.chat.completions.create({ ...ask, max_tokens: 4, logprobs: true, top_logprobs: 3 });
  const lp = chat.choices[0].logprobs.content;
  assert.equal(lp.length, 4);
  for (const t of lp) {
    assert.equal(t.top_logprobs.length, 3);
    assert.equal(t.top_logprobs[0].logprob, t.logprob); // greedy
    assert.ok(t.logprob <= 0);
  }
  const plain = await client.completions.create({ model: 'm', prompt: 'One day', max_tokens: 1, temperature: 0, logprobs: 1, echo: true });
  const old = plain.choices[0].logprobs;
  assert.equal(old.token_logprobs[0], null);
  assert.equal(old.tokens.length, old.token_logprobs.length);
  assert.equal(old.text_offset.length, old.tokens.length);
  assert.ok(old.token_logprobs.slice(1).every((x) => x <= 0));
  assert.ok(plain.choices[0].text.startsWith('One day') || plain.choices[0].text.includes('One day'));
});

test('the same seed gives the same text, another one does not', opts, async () => {
  const go = async (seed) => (await client.completions.create({ model: 'm', prompt: 'The cat', max_tokens: 30, temperature: 1.2, seed })).choices[0].text;
  assert.equal(await go(7), await go(7));
  assert.notEqual(await go(7), await go(8));
});

test('several choices and several prompts are numbered', opts, async () => {
  const r = await client.completions.create({ model: 'm', prompt: ['One', 'Two'], n: 2, max_tokens: 3, temperature: 1 });
  assert.deepEqual(r.choices.map((c) => c.index).sort(), [0, 1, 2, 3]);
});

// Answers that take seconds, which a test on a busy machine may all the same see end before it has looked.
const endless = { ...ask, max_tokens: 15000, ignore_eos: true, stream: true };

test('an abort ends the request and frees the slot', opts, async () => {
  const client = new OpenAI({ baseURL: `${roomy.url}/v1`, apiKey: 'none', maxRetries: 0 });
  const before = await metric(roomy, 'cancelled_total');
  await until('an abort before the end', async () => {
    const stop = new AbortController();
    const stream = await client.chat.completions.create(endless, { signal: stop.signal });
    for await (const c of stream) {
      if (c.choices[0]?.delta?.content) break;
    }
    stop.abort();
    await until('all slots idle', async () => (await (await fetch(`${roomy.url}/slots`)).json()).every((s) => !s.is_processing));
    return await metric(roomy, 'cancelled_total') > before;
  });
});

test('a full queue answers 429 with Retry-After and the client retries', opts, async () => {
  const stop = new AbortController();
  const refused = await until('a refusal', async () => { // two in slots, four in the queue, and one more
    const r = await fetch(`${roomy.url}/v1/chat/completions`, { method: 'POST', signal: stop.signal, body: JSON.stringify(endless) });
    if (r.status === 200) return false;
    assert.equal(r.status, 429);
    return r;
  });
  assert.ok(Number(refused.headers.get('retry-after')) >= 1);
  assert.equal((await refused.json()).error.code, 'queue_full');
  const before = await metric(roomy, 'rejected_total');
  const patient = new OpenAI({ baseURL: `${roomy.url}/v1`, apiKey: 'none', maxRetries: 100 });
  let n = 0;
  const all = Promise.all(Array.from({ length: 8 }, () => patient.completions.create({ model: 'm', prompt: 'a', max_tokens: 40 }).then(() => { n += 1; })));
  await until('the client was refused', async () => n > 0 || await metric(roomy, 'rejected_total') > before);
  stop.abort();
  await all;
  assert.equal(n, 8);
});

test('a prompt longer than the context is refused with both numbers', opts, async () => {
  await assert.rejects(client.completions.create({ model: 'm', prompt: 'cat '.repeat(2000), max_tokens: 1 }),
    (e) => e.status === 400 && e.code === 'context_length_exceeded' && /512/.test(e.message));
});

test('the assistant\'s turns of a history may have no text, others must', opts, async () => {
  const history = (turn) => client.chat.completions.create({ ...ask, max_tokens: 2, messages: [{ role: 'user', content: 'Hi' }, turn, { role: 'user', content: 'Go on' }] });
  const empty = await history({ role: 'assistant', content: '' });
  for (const turn of [{ role: 'assistant', content: null, refusal: null }, { role: 'assistant', tool_calls: [] }]) {
    assert.equal((await history(turn)).choices[0].message.content, empty.choices[0].message.content, JSON.stringify(turn));
  }
  for (const turn of [{ role: 'user', content: null }, { role: 'tool', tool_call_id: 'a' }, { role: 'user', content: [{ type: 'text' }] }]) {
    await assert.rejects(history(turn), (e) => e.status === 400 && e.param === 'messages' && /messages\[1\]: content/.test(e.message), JSON.stringify(turn));
  }
});

test('parameters that would be ignored are refused by their own name', opts, async () => {
  for (const [param, more] of [['stop', { stop: 'x'.repeat(1025) }], ['modalities', { modalities: ['text', 'audio'] }], ['response_format', { response_format: 'text' }]]) {
    await assert.rejects(client.chat.completions.create({ ...ask, ...more }), (e) => e.status === 400 && e.param === param, param);
  }
  const r = await client.chat.completions.create({ ...ask, max_tokens: 2, modalities: ['text'], response_format: { type: 'text' }, stop: 'x'.repeat(1024) });
  assert.equal(r.choices.length, 1);
});

test('a JSON schema is refused by name, not ignored', opts, async () => {
  await assert.rejects(client.chat.completions.create({ ...ask, response_format: { type: 'json_object' } }),
    (e) => e.status === 400 && /response_format/.test(e.message));
});
