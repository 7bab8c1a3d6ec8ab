// HTTP on a bare socket: what a client library would hide or refuse to send.
import net from 'node:net';
import { slow } from './lib.mjs';

// Shorter than the server's idle time-out, which would hide a connection that was forgotten.
const PATIENCE_MS = 10000 * slow;

// One connection. send(bytes), reply() -> the next whole reply, until(text) -> what came up to text, closed() -> when the peer ends it.
export function dial(url) {
  const { hostname, port } = new URL(url);
  const socket = net.connect({ host: hostname, port: Number(port), allowHalfOpen: true });
  let bytes = Buffer.alloc(0);
  let ended = false;
  let wake = () => {};
  socket.on('data', (d) => { bytes = Buffer.concat([bytes, d]); wake(); });
  socket.on('end', () => { ended = true; wake(); });
  socket.on('close', () => { ended = true; wake(); });
  socket.on('error', () => { ended = true; wake(); });
  async function wait(what, take, ms = PATIENCE_MS) {
    const end = Date.now() + ms;
    for (;;) {
      const v = take();
      if (v !== undefined) return v;
      if (ended) throw new Error(`${what}: the connection ended after ${JSON.stringify(bytes.toString('latin1').slice(0, 200))}`);
      if (Date.now() > end) throw new Error(`${what}: nothing within ${ms} ms after ${JSON.stringify(bytes.toString('latin1').slice(0, 200))}`);
      await new Promise((r) => { wake = r; setTimeout(r, 50); });
    }
  }
  return {
    socket,
    send: (text) => socket.write(text),
    reply: (noBody = false, ms = PATIENCE_MS) => wait('reply', () => {
      const r = parseReply(bytes, noBody, ended);
      if (!r) return undefined;
      bytes = bytes.subarray(r.length);
      return r;
    }, ms),
    until: (text, ms = PATIENCE_MS) => wait(`'${text}'`, () => {
      const at = bytes.indexOf(text);
      if (at < 0) return undefined;
      const got = bytes.subarray(0, at + text.length).toString();
      bytes = bytes.subarray(at + text.length);
      return got;
    }, ms),
    async closed(ms = PATIENCE_MS, what = 'connection') {
      const end = Date.now() + ms;
      while (!ended) {
        if (Date.now() > end) throw new Error(`${what}: not closed within ${ms} ms after ${JSON.stringify(bytes.toString('latin1').slice(0, 300))}`);
        await new Promise((r) => { wake = r; setTimeout(r, 20); });
      }
      return bytes;
    },
    drop: () => socket.destroy(),
  };
}

// The first whole reply in bytes, or null.
export function parseReply(bytes, noBody, ended) {
  const cut = bytes.indexOf('\r\n\r\n');
  if (cut < 0) return null;
  const lines = bytes.subarray(0, cut).toString('latin1').split('\r\n');
  const status = Number(/^HTTP\/1\.[01] (\d{3}) /.exec(lines[0])?.[1]);
  if (!status) throw new Error(`no status line: ${lines[0]}`);
  const headers = {};
  for (const l of lines.slice(1)) {
    const at = l.indexOf(':');
    headers[l.slice(0, at).toLowerCase()] = l.slice(at + 1).trim();
  }
  const done = (body, length) => ({ status, headers, body, length, json: () => JSON.parse(body.toString()) });
  if (status === 100) return done(Buffer.alloc(0), cut + 4);
  if (noBody || status === 204 || status === 304) return done(Buffer.alloc(0), cut + 4);
  if (headers['transfer-encoding'] === 'chunked') return chunked(bytes, cut + 4, done);
  if (headers['content-length'] === undefined) return ended ? done(bytes.subarray(cut + 4), bytes.length) : null;
  const end = cut + 4 + Number(headers['content-length']);
  return bytes.length < end ? null : done(bytes.subarray(cut + 4, end), end);
}

function chunked(bytes, at, done) {
  const parts = [];
  for (;;) {
    const eol = bytes.indexOf('\r\n', at);
    if (eol < 0) return null;
    const n = parseInt(bytes.subarray(at, eol).toString('latin1'), 16);
    if (bytes.length < eol + 2 + n + 2) return null;
    if (n === 0) return done(Buffer.concat(parts), eol + 4);
    parts.push(bytes.subarray(eol + 2, eol + 2 + n));
    at = eol + 2 + n + 2;
  }
}

export const request = (method, path, { headers = {}, body = '', host = '127.0.0.1' } = {}) => `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\n`
  + Object.entries(headers).map(([k, v]) => `${k}: ${v}\r\n`).join('')
  + (body ? `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n` : '') + `\r\n${body}`;

// One exchange on its own connection.
export async function exchange(url, text, noBody = false) {
  const c = dial(url);
  try {
    c.send(text);
    return await c.reply(noBody);
  } finally {
    c.drop();
  }
}
