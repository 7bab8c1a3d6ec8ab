// Talking to the server: JSON calls, server-sent events over fetch (so that a key can be sent), and the
// key itself, kept for the tab's life only.
import { signal } from '@preact/signals';

export const apiKey = signal(sessionStorage.getItem('strobe-key') || '');
export const needKey = signal(false);

export function setKey(key) {
  apiKey.value = key;
  if (key) sessionStorage.setItem('strobe-key', key);
  else sessionStorage.removeItem('strobe-key');
  needKey.value = false;
}

export class ApiError extends Error {
  constructor(status, body) {
    const e = (body && body.error) || {};
    super(e.message || `The server answered ${status}.`);
    this.status = status;
    this.code = e.code || null;
    this.param = e.param || null;
  }
}

function headers(body) {
  const h = {};
  if (body !== undefined) h['Content-Type'] = 'application/json';
  if (apiKey.value) h.Authorization = `Bearer ${apiKey.value}`;
  return h;
}

async function request(method, path, body, signal, more) {
  const res = await fetch(path, {
    method,
    headers: { ...headers(body), ...more },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
  });
  if (res.status === 401) needKey.value = true;
  if (!res.ok) throw new ApiError(res.status, await res.json().catch(() => null));
  return res;
}

export async function getJson(path, signal) {
  return (await request('GET', path, undefined, signal)).json();
}

export async function getText(path) {
  return (await request('GET', path)).text();
}

export async function postJson(path, body, signal, more) {
  return (await request('POST', path, body, signal, more)).json();
}

export async function remove(path) {
  return (await request('DELETE', path)).json();
}

// Yields {event, data, id} of an event stream until it ends.
async function* readEvents(res) {
  const reader = res.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      let cut;
      while ((cut = text.indexOf('\n\n')) >= 0) {
        const ev = parseEvent(text.slice(0, cut));
        text = text.slice(cut + 2);
        if (ev) yield ev;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parseEvent(block) {
  const ev = { event: 'message', data: '', id: null };
  let seen = false;
  for (const line of block.split('\n')) {
    if (line.startsWith(':')) continue;
    const at = line.indexOf(':');
    const field = at < 0 ? line : line.slice(0, at);
    const value = at < 0 ? '' : line.slice(at + 1).replace(/^ /, '');
    if (field === 'data') {
      ev.data += seen ? `\n${value}` : value;
      seen = true;
    } else if (field === 'event') ev.event = value;
    else if (field === 'id') ev.id = value;
  }
  return seen ? ev : null;
}

export async function* events(path, signal) {
  yield* readEvents(await request('GET', path, undefined, signal));
}

// Streams a completion; yields parsed chunks; an error inside the stream is thrown.
export async function* streamCompletion(path, body, signal) {
  const res = await request('POST', path, body, signal);
  for await (const ev of readEvents(res)) {
    if (ev.data === '[DONE]') return;
    const chunk = JSON.parse(ev.data);
    if (chunk.error) throw new ApiError(res.status, chunk);
    yield chunk;
  }
}
