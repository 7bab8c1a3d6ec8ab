// One job: how far, how well, how long still; its curves, its log, and how it ended.
import { useEffect, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { bytes, count, duration, money, percent } from '../lib/format.js';
import { Alert, Facts, Tile } from '../ui/basic.js';
import { cancel, curves, isOver, job, jobError, loadLog, logText, resume } from './data.js';
import { Curves } from './curves.js';
import { Sparsity, hasSparsity } from './sparsity.js';

const LOG_MS = 3000;

const STATES = { queued: 'waiting', running: 'running', done: 'done', failed: 'failed', cancelled: 'cancelled' };

export function stateName(j) {
  return j.cancelling ? 'ending' : STATES[j.state] || j.state;
}

// Kinds whose process keeps checkpoints.
const goesOn = (j) => ['failed', 'cancelled'].includes(j.state) && ['pretrain', 'relufy'].includes(j.kind);

const fixed = (v, digits) => (Number.isFinite(v) ? v.toFixed(digits) : 'no data yet');

function Tiles({ j }) {
  const p = j.progress || {};
  const left = isOver(j) ? null : p.eta_s;
  return html`<div class="tiles six">
    <${Tile} label="Progress" value=${Number.isFinite(p.share) ? percent(p.share) : stateName(j)} share=${p.share}
      note=${Number.isFinite(p.step) ? `step ${count(p.step)}${p.steps_total ? ` of ${count(p.steps_total)}` : ''}` : 'no step yet'} />
    <${Tile} label="Loss" value=${fixed(p.loss, 4)} note="nats per token, last step" />
    <${Tile} label="Held-out loss" value=${fixed(p.val_loss, 4)} note=${Number.isFinite(p.bits_per_byte) ? `${p.bits_per_byte.toFixed(3)} bits per byte` : 'measured now and then'} />
    <${Tile} label=${isOver(j) ? 'Time' : 'Time left'} value=${isOver(j) ? duration(p.seconds) : Number.isFinite(left) ? duration(left) : 'no data yet'}
      note=${`${Number.isFinite(p.seconds) ? `${duration(p.seconds)} so far` : 'not started'}${p.dollars ? `, ${money(p.dollars)}` : ''}`} />
    <${Tile} label="Tokens per second" value=${Number.isFinite(p.tok_s) ? count(Math.round(p.tok_s)) : 'no data yet'} note=${Number.isFinite(p.tokens) ? `${count(p.tokens)} tokens seen` : ''} />
    <${Tile} label="Memory" value=${Number.isFinite(p.rss) ? bytes(p.rss) : 'no data yet'} note="of the training process" />
  </div>`;
}

function Log({ j }) {
  const [open, setOpen] = useState(false);
  useEffect(() => {
    if (!open) return undefined;
    loadLog();
    if (isOver(j)) return undefined;
    const timer = setInterval(loadLog, LOG_MS);
    return () => clearInterval(timer);
  }, [open, j.id, j.state]);
  return html`<details class="card" onToggle=${(e) => setOpen(e.currentTarget.open)}><summary>What it printed</summary>
    <pre class="log" tabindex="0" aria-label="End of the log">${logText.value || 'Nothing yet.'}</pre></details>`;
}

const RESULT_NAMES = { steps: 'steps', tokens: 'tokens', loss: 'loss, last step', val_loss: 'held-out loss', bits_per_byte: 'bits per byte', tok_s: 'tokens per second',
  seconds: 'seconds', dollars: 'dollars', model: 'model (in the data directory)', params: 'parameters', peak_bytes: 'peak memory', planned_bytes: 'planned memory' };

function resultText(key, v) {
  if (v === null) return 'none';
  if (key.endsWith('_bytes') && Number.isFinite(v)) return bytes(v);
  if (key === 'dollars') return money(v);
  return typeof v === 'number' ? (Number.isInteger(v) ? count(v) : v.toFixed(4)) : String(v);
}

function Result({ j }) {
  if (!j.result || j.state !== 'done') return null;
  const rows = Object.entries(RESULT_NAMES).filter(([k]) => j.result[k] !== undefined).map(([k, name]) => [name, resultText(k, j.result[k])]);
  return html`<section class="card" aria-label="Final figures"><h3>Final figures</h3><${Facts} rows=${rows} /></section>`;
}

function Settings({ j }) {
  return html`<details class="card"><summary>Settings</summary><${Facts} rows=${Object.entries(j.params).map(([k, v]) => [k, String(v)])} /></details>`;
}

function when(unix) {
  return unix ? new Date(unix * 1000).toLocaleString('en-GB') : null;
}

export function Run() {
  const j = job.value;
  if (jobError.value && !j) return html`<${Alert} error=${jobError.value} />`;
  if (!j) return html`<p class="note">Loading the job.</p>`;
  const ended = when(j.finished);
  return html`<section aria-label="Chosen job"><div class="row head"><h3 class="grow">${j.kind} <span class="soft">${j.id}</span></h3>
      <span class="state-${j.state}" role="status">${stateName(j)}</span>
      ${goesOn(j) ? html`<button class="small" onClick=${resume}>Go on</button>` : null}
      ${isOver(j) ? null : html`<button class="small" disabled=${j.cancelling} onClick=${cancel}>${j.cancelling ? 'Saving and ending' : 'Cancel'}</button>`}</div>
    <p class="note">queued ${when(j.created)}${j.started ? `, started ${when(j.started)}` : ''}${ended ? `, ended ${ended}` : ''}${j.restarts ? `, started again ${j.restarts} time${j.restarts === 1 ? '' : 's'} after a crash` : ''}</p>
    <${Alert} error=${jobError.value} />
    ${j.error ? html`<${Alert}>It failed: ${j.error}</${Alert}>` : null}
    <${Tiles} j=${j} />
    <${Result} j=${j} />
    ${hasSparsity(j.result) ? html`<${Sparsity} r=${j.result} name=${j.id} />` : null}
    <${Curves} c=${curves.value} name=${j.id} />
    <${Log} key=${`log-${j.id}`} j=${j} />
    <${Settings} key=${`set-${j.id}`} j=${j} /></section>`;
}
