// Playground: does the model answer sensibly, and why this token?
import { signal } from '@preact/signals';
import { html } from '../lib/html.js';
import { postJson, streamCompletion } from '../lib/api.js';
import { live } from '../lib/live.js';
import { ms, percent, rate } from '../lib/format.js';
import { Alert, Field } from '../ui/basic.js';
import { TokenStrip } from './strip.js';

const DEFAULTS = { temperature: 0.8, top_p: 0.95, top_k: 40, max_tokens: 128, seed: '', stop: '', duo: 'big', budget: 0.5 };
const mode = signal('chat');
const system = signal('');
const draft = signal('');
const turns = signal([]); // {role, content}
const output = signal(''); // completion mode
const tokens = signal([]);
const settings = signal({ ...DEFAULTS });
const running = signal(null); // AbortController
const error = signal(null);
const usage = signal(null);
const rendered = signal(null);
const copied = signal(false);

// Which feed-forward parts a Duo model's tokens may take; none where there is only one.
function ways() {
  const m = live.value.model;
  if (!m || !m.duo) return [];
  return [{ mode: 'big', name: 'all big' }, ...(m.duoRouter ? [{ mode: 'router', name: 'the router decides', budget: true }] : []),
    { mode: 'random', name: 'a coin decides', budget: true }, { mode: 'small', name: 'all small' }];
}

// The screen follows a stream in steps of this many milliseconds: a fast model sends more chunks a second than
// a page can lay out.
const STEP_MS = 40;

function body(messages, prompt) {
  const s = settings.value;
  const b = { model: live.value.model ? live.value.model.id : '', stream: true, stream_options: { include_usage: true },
    temperature: Number(s.temperature), top_p: Number(s.top_p), top_k: Number(s.top_k), max_tokens: Number(s.max_tokens) };
  if (s.seed !== '') b.seed = Number(s.seed);
  if (s.stop !== '') b.stop = [s.stop];
  const way = ways().find((w) => w.mode === s.duo);
  if (way && s.duo !== 'big') b.duo = way.budget ? { mode: s.duo, budget: Number(s.budget) } : { mode: s.duo };
  if (mode.value === 'chat') return { ...b, messages, logprobs: true, top_logprobs: 5 };
  return { ...b, prompt, logprobs: 5 };
}

function messages() {
  const head = system.value.trim() ? [{ role: 'system', content: system.value }] : [];
  return [...head, ...turns.value.filter((t) => t.role === 'user' || t.content)];
}

function path() {
  return mode.value === 'chat' ? '/v1/chat/completions' : '/v1/completions';
}

// Both log-probability shapes become {token, logprob, top: [{token, logprob}]}.
function readTokens(choice) {
  const lp = choice.logprobs;
  if (!lp) return [];
  if (lp.content) return lp.content.map((t) => ({ token: t.token, logprob: t.logprob, top: t.top_logprobs || [] }));
  return (lp.tokens || []).map((t, i) => ({ token: t, logprob: lp.token_logprobs[i] ?? 0,
    top: Object.entries((lp.top_logprobs && lp.top_logprobs[i]) || {}).map(([token, logprob]) => ({ token, logprob })).sort((a, b) => b.logprob - a.logprob) }));
}

// Applies the chunks of one step. chat: the mode the request was sent in.
function apply(chunks, chat, started) {
  const more = [];
  let text = '';
  let u = usage.value;
  for (const { chunk, at } of chunks) {
    if (chunk.usage) u = { ...u, ...chunk.usage };
    if (chunk.timings) u = { ...u, timings: chunk.timings };
    if (chunk.duo) u = { ...u, duo: chunk.duo };
    for (const c of chunk.choices || []) {
      const piece = (chat ? c.delta && c.delta.content : c.text) || '';
      if (piece && u.first === null) u = { ...u, first: at - started };
      if (c.finish_reason) u = { ...u, finish: c.finish_reason };
      text += piece;
      more.push(...readTokens(c));
    }
  }
  usage.value = u;
  if (more.length) tokens.value = [...tokens.value, ...more];
  if (text && !chat) output.value += text;
  if (text && chat) {
    const last = turns.value[turns.value.length - 1];
    turns.value = [...turns.value.slice(0, -1), { ...last, content: last.content + text }];
  }
}

// Reads the stream to its end and shows it step by step; what has arrived is shown even when it breaks.
async function follow(request, chat, stop) {
  const started = performance.now();
  let waiting = [];
  let timer = 0;
  const flush = () => {
    clearTimeout(timer);
    timer = 0;
    const chunks = waiting;
    waiting = [];
    apply(chunks, chat, started);
  };
  try {
    for await (const chunk of streamCompletion(path(), request, stop.signal)) {
      waiting.push({ chunk, at: performance.now() });
      if (!timer) timer = setTimeout(flush, STEP_MS);
    }
  } catch (e) {
    if (!stop.signal.aborted) error.value = e;
    else usage.value = { ...usage.value, finish: 'stopped by you' };
  } finally {
    flush();
    usage.value = { ...usage.value, total: performance.now() - started };
  }
}

async function send() {
  const chat = mode.value === 'chat';
  if (running.value || !live.value.model || (chat && !draft.value.trim() && !turns.value.length)) return;
  error.value = null;
  tokens.value = [];
  output.value = '';
  if (chat && draft.value.trim()) turns.value = [...turns.value, { role: 'user', content: draft.value }];
  const request = body(messages(), draft.value);
  if (chat) {
    draft.value = '';
    turns.value = [...turns.value, { role: 'assistant', content: '' }];
  }
  usage.value = { first: null, finish: null };
  running.value = new AbortController();
  await follow(request, chat, running.value);
  running.value = null;
}

function clear() {
  turns.value = [];
  tokens.value = [];
  output.value = '';
  usage.value = null;
  rendered.value = null;
  error.value = null;
}

async function showPrompt() {
  error.value = null;
  try {
    const pending = draft.value.trim() ? [{ role: 'user', content: draft.value }] : [];
    const answer = await postJson('/apply-template', { messages: [...messages(), ...pending], add_generation_prompt: true });
    rendered.value = { title: 'Raw prompt', text: answer.prompt };
  } catch (e) {
    error.value = e;
  }
}

function quoteShell(s) {
  return `'${s.replaceAll("'", "'\\''")}'`;
}

async function copyCurl() {
  const pending = draft.value.trim() ? [{ role: 'user', content: draft.value }] : [];
  const b = body([...messages(), ...pending], draft.value);
  const key = "-H 'Authorization: Bearer YOUR_KEY' ";
  const text = `curl -N ${location.origin}${path()} ${sessionStorage.getItem('strobe-key') ? key : ''}-H 'Content-Type: application/json' -d ${quoteShell(JSON.stringify(b))}`;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // No permission, or a page that is not served over TLS or loopback has no clipboard: show it instead.
    rendered.value = { title: 'Copy this command', text };
    return;
  }
  copied.value = true;
  setTimeout(() => { copied.value = false; }, 1500);
}

function set(name) {
  return (e) => { settings.value = { ...settings.value, [name]: e.target.value }; };
}

function Number_({ label, name, min, max, step }) {
  return html`<${Field} label=${label}><input type="number" min=${min} max=${max} step=${step} value=${settings.value[name]} onInput=${set(name)} /></${Field}>`;
}

function Ways() {
  const all = ways();
  const way = all.find((w) => w.mode === settings.value.duo);
  if (!all.length) return null;
  return html`<${Field} label="Feed-forward parts"><select value=${settings.value.duo} onChange=${set('duo')}>
      ${all.map((w) => html`<option key=${w.mode} value=${w.mode}>${w.name}</option>`)}</select></${Field}>
    ${way && way.budget ? html`<${Number_} label="Share of big parts" name="budget" min="0" max="1" step="0.05" />` : null}`;
}

function Settings() {
  return html`<div class="card params"><h3>Settings</h3>
    <${Field} label="Mode"><select value=${mode.value} disabled=${running.value !== null} onChange=${(e) => { mode.value = e.target.value; tokens.value = []; usage.value = null; }}>
      <option value="chat">Chat</option><option value="text">Plain completion</option></select></${Field}>
    <div class="pair"><${Number_} label="Temperature" name="temperature" min="0" max="2" step="0.1" /><${Number_} label="Top p" name="top_p" min="0" max="1" step="0.05" /></div>
    <div class="pair"><${Number_} label="Top k" name="top_k" min="0" max="1000" step="1" /><${Number_} label="New tokens" name="max_tokens" min="1" max="100000" step="1" /></div>
    <div class="pair"><${Number_} label="Seed" name="seed" min="0" max="9007199254740991" step="1" /><${Field} label="Stop text"><input value=${settings.value.stop} onInput=${set('stop')} /></${Field}></div>
    <${Ways} />
    ${mode.value === 'chat' ? html`<${Field} label="System message"><textarea value=${system.value} onInput=${(e) => { system.value = e.target.value; }}></textarea></${Field}>` : null}
    <div class="row"><button class="small" onClick=${copyCurl}>${copied.value ? 'Copied' : 'Copy as curl'}</button>
      ${mode.value === 'chat' ? html`<button class="small" onClick=${showPrompt}>Show raw prompt</button>` : null}
      <button class="small" disabled=${running.value !== null} onClick=${clear}>Clear</button></div></div>`;
}

function Usage() {
  const u = usage.value;
  if (!u) return null;
  const parts = [];
  if (u.first !== null && u.first !== undefined) parts.push(`first token after ${ms(u.first)}`);
  if (u.completion_tokens !== undefined) parts.push(`${u.prompt_tokens} prompt + ${u.completion_tokens} new tokens`);
  // The server's own clock: what arrives here is bunched by the network and the display.
  if (u.completion_tokens > 1 && u.timings) parts.push(`${rate(u.timings.predicted_per_second)} tokens/s`);
  if (u.duo) parts.push(`feed-forward parts: ${percent(u.duo.big)} big, ${percent(u.duo.small)} small${u.duo.skip ? `, ${percent(u.duo.skip)} skipped` : ''}`);
  if (u.finish) parts.push(`ended: ${u.finish}`);
  return html`<p class="note" aria-live="polite">${parts.join(', ')}</p>`;
}

function onKey(e) {
  if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) send();
}

function Composer() {
  const chat = mode.value === 'chat';
  return html`<${Field} label=${chat ? 'Your message' : 'Text to continue'}>
      <textarea rows=${chat ? 3 : 6} value=${draft.value} onInput=${(e) => { draft.value = e.target.value; }} onKeyDown=${onKey}></textarea></${Field}>
    <div class="row">${running.value
      ? html`<button class="main" onClick=${() => running.value.abort()}>Stop</button>`
      : html`<button class="main" onClick=${send} disabled=${!live.value.model}>${chat ? 'Send' : 'Continue'}</button>`}
      <span class="note">Ctrl+Enter sends</span></div>`;
}

export function Playground() {
  const chat = mode.value === 'chat';
  return html`<h2>Playground</h2>
    ${live.value.ready && !live.value.model ? html`<${Alert} warn>No model is loaded: start the server with <code>-m MODEL</code>.</${Alert}>` : null}
    <${Alert} error=${error.value} />
    <div class="play"><div><div class="card">
      ${chat ? html`<div class="msgs" role="log" aria-label="Conversation">${turns.value.map((t, i) => html`<div key=${i} class="msg ${t.role}"><p class="who">${t.role === 'user' ? 'You' : 'Model'}</p>${t.content}</div>`)}</div>` : null}
      <${Composer} />
      ${!chat && output.value ? html`<pre aria-label="Continuation">${output.value}</pre>` : null}
      <${Usage} /></div>
      ${tokens.value.length ? html`<${TokenStrip} tokens=${tokens.value} />` : null}
      ${rendered.value !== null ? html`<div class="card"><div class="row"><h3 class="grow">${rendered.value.title}</h3><button class="small" onClick=${() => { rendered.value = null; }}>Close</button></div><pre>${rendered.value.text}</pre></div>` : null}
    </div><${Settings} /></div>`;
}
