// Flash: where did the time go, and what would another memory budget change?
import { useEffect } from 'preact/hooks';
import { signal } from '@preact/signals';
import { html } from '../lib/html.js';
import { getText } from '../lib/api.js';
import { live, history } from '../lib/live.js';
import { bytes, count, ms, percent, rate } from '../lib/format.js';
import { Alert, Field, Tile } from '../ui/basic.js';
import { TimeChart } from '../ui/chart.js';
import { save } from '../ui/figure.js';
import { columns, error, layers, showTrace, startPolling, stats, trace, traceAnswer, tracing } from './data.js';
import { Budget } from './budget.js';
import { Heat } from './heat.js';
import { Latency } from './latency.js';
import { Mask } from './mask.js';
import { Timeline } from './timeline.js';

const prompt = signal('Once upon a time');
const length = signal(24);

async function savePerfetto() {
  try {
    const { id } = trace.value;
    save(`strobe-${id}.perfetto.json`, await getText(`/api/flash/traces/${id}?format=perfetto`), 'application/json');
  } catch (e) {
    error.value = e;
  }
}

function Resident({ budget }) {
  return html`<section class="card"><h3>Nothing is streamed</h3>
    <p>All weights are in memory, so no token waits for the disk. To see streaming, start the server with less memory than the model needs (the cap is ${bytes(budget)} now); the output stays the same:</p>
    <pre>strobe serve -m MODEL.gguf --ram 2GiB</pre>
    <p class="note">ReLU models are streamed neuron by neuron once they are packed: <code>strobe pack -m MODEL.gguf -o PACKED.gguf</code>.</p></section>`;
}

function Tiles({ s }) {
  const all = s.attention_ms + s.mask_ms + s.stall_ms + s.compute_ms;
  return html`<div class="tiles">
    <${Tile} label="Cache hit rate" value=${percent(s.cache_hit_rate)} share=${s.cache_hit_rate}
      note=${s.mode === 'sparse' ? `${count(s.neurons_missed)} of ${count(s.neurons_needed)} neurons missed` : 'share of the weights that stay in memory'} />
    <${Tile} label="Waiting for the disk" value=${all > 0 ? percent(s.stall_ms / all) : 'no data yet'} share=${all > 0 ? s.stall_ms / all : 0} note="${ms(s.stall_ms)} of ${ms(all)} in the layers" />
    <${Tile} label="Read amplification" value=${s.read_amplification === null ? 'no data yet' : s.read_amplification.toFixed(2)} note="bytes read for each byte wanted" />
    <${Tile} label="Disk reads" value="${bytes(Math.round(live.value.readRate))}/s" note="${bytes(s.bytes_read)} in ${count(s.reads)} reads" /></div>`;
}

function Ask() {
  const kept = layers.value ? layers.value.traces : [];
  const id = trace.value ? trace.value.id : '';
  const ids = id && !kept.includes(id) ? [id, ...kept] : kept;
  return html`<form class="card ask" onSubmit=${(e) => { e.preventDefault(); traceAnswer(prompt.value, Number(length.value)); }}>
    <${Field} label="Text to continue"><input value=${prompt.value} required onInput=${(e) => { prompt.value = e.target.value; }} /></${Field}>
    <${Field} label="New tokens"><input type="number" min="1" max="256" value=${length.value} onInput=${(e) => { length.value = e.target.value; }} /></${Field}>
    <button class="main" disabled=${tracing.value}>${tracing.value ? 'Tracing' : 'Trace the next answer'}</button>
    ${ids.length ? html`<${Field} label="Trace in view"><select value=${id} onChange=${(e) => showTrace(e.target.value)}>
      ${id ? null : html`<option value="">none</option>`}${ids.map((x) => html`<option key=${x} value=${x}>${x}</option>`)}</select></${Field}>` : null}
    <p class="note">Any client can ask: put <code>"flash":{"trace":true}</code> into a request. The latest four are kept.</p></form>`;
}

function lost(d) {
  const parts = [d.passes ? `${count(d.passes)} passes` : null, d.reads ? `${count(d.reads)} reads` : null].filter((x) => x);
  return parts.length ? `The trace is bounded: of ${parts.join(' and ')} only the sums are known. ` : '';
}

function speed(t) {
  const decode = t.passes.filter((p) => p.phase === 'decode');
  const spent = decode.reduce((n, p) => n + p.total_ns, 0);
  const out = decode.reduce((n, p) => n + p.emitted_tokens, 0);
  return spent ? `All after the prompt: ${rate(out / (spent / 1e9))} tokens/s. ` : '';
}

function Trace({ t }) {
  if (!t.passes.length) return html`<section class="card"><h3>Where each token's time went</h3><p class="note">No pass of this request has ended yet.</p></section>`;
  const tools = html`<button class="small" title="Opens in ui.perfetto.dev" onClick=${savePerfetto}>Perfetto file</button>`;
  return html`<${Timeline} key=${t.id} trace=${t} tools=${tools}>${speed(t)}${t.complete ? '' : 'The request still runs. '}${lost(t.dropped)}</${Timeline}>`;
}

function tracedColumns(t) {
  return t && t.passes.length ? t.passes.map((p, i) => ({ label: `pass ${i + 1}`, passes: 1, layers: p.layers })).filter((c) => c.layers.length === t.layers) : null;
}

function Figures({ s }) {
  const streamed = s.mode !== 'off';
  return html`${streamed ? html`<${Tiles} s=${s} />` : html`<${Resident} budget=${s.ram_budget} />`}
    <${Mask} m=${s.mask} /><${Ask} /><${Alert} error=${error.value} />
    ${trace.value ? html`<${Trace} t=${trace.value} />` : null}
    ${streamed ? html`<${Heat} columns=${columns.value} traced=${tracedColumns(trace.value)} />` : null}
    ${s.mode === 'sparse' ? html`<${TimeChart} title="Cache hit rate, last five minutes" unit="%" top=${100} gaps name="strobe-hit-rate" series=${['hit rate']} data=${history.value.hits} />` : null}
    ${streamed ? html`<div class="two"><${Latency} buckets=${s.read_latency} /><${Budget} budget=${s.ram_budget} /></div>` : html`<${Budget} budget=${s.ram_budget} />`}`;
}

export function Flash() {
  useEffect(startPolling, []);
  const s = live.value;
  let body = html`<p class="note">Waiting for the first figures from the server.</p>`;
  if (s.ready && !s.model) body = html`<${Alert} warn>No model is loaded: start the server with <code>-m MODEL</code>.</${Alert}>`;
  else if (s.ready && stats.value) body = html`<${Figures} s=${stats.value} />`;
  return html`<h2>Flash</h2>${body}`;
}
