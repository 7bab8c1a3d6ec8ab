// Overview: is it healthy, how fast, what is waiting?
import { html } from '../lib/html.js';
import { live, history } from '../lib/live.js';
import { bytes, count, ms, params, percent, rate } from '../lib/format.js';
import { Alert, Facts, Tile } from '../ui/basic.js';
import { TimeChart } from '../ui/chart.js';

function NoModel() {
  return html`<section class="card"><h3>No model is loaded</h3>
    <p>The server runs, but has nothing to generate with. Start it with a GGUF file or a Hugging Face folder:</p>
    <pre>deploy/quickstart.sh MODEL.gguf</pre>
    <p>With a memory cap, what does not fit is read from disk while it runs, with the same output:</p>
    <pre>deploy/quickstart.sh MODEL.gguf --ram 4GiB</pre></section>`;
}

function Tiles({ s }) {
  return html`<div class="tiles">
    <${Tile} label="Generated tokens/s" value=${rate(s.decodeRate)} note="${count(s.generated)} since start" />
    <${Tile} label="Prompt tokens/s" value=${rate(s.prefillRate)} note="${count(s.promptCached)} of ${count(s.prompt)} reused" />
    <${Tile} label="Time to first token" value=${ms(s.ttftP50)} note="95th percentile ${ms(s.ttftP95)}" />
    <${Tile} label="Active sequences" value="${s.active} / ${s.nSlot}" share=${s.nSlot ? s.active / s.nSlot : 0} />
    <${Tile} label="Waiting requests" value=${count(s.queued)} note="limit ${count(s.queueMax)}, ${count(s.rejected)} refused" />
    <${Tile} label="Memory peak" value=${bytes(s.ramPeak)} share=${s.ramBudget ? s.ramPeak / s.ramBudget : undefined}
      note=${s.ramBudget ? `budget ${bytes(s.ramBudget)}` : 'no budget set'} />
    <${Tile} label="Disk reads" value="${bytes(Math.round(s.readRate))}/s" note="${bytes(s.bytesRead)} since start" />
    <${Tile} label="Weights in memory" value=${percent(s.resident + s.streamed ? s.resident / (s.resident + s.streamed) : 1)}
      note=${s.flashMode === 'dense' ? `${bytes(s.streamed)} streamed per pass` : s.flashMode === 'sparse' ? 'neurons are read as they are needed' : 'nothing is streamed'} />
  </div>`;
}

function ModelCard({ m, s }) {
  return html`<section class="card"><h3>Model</h3><${Facts} rows=${[
    ['name', m.id],
    ['architecture', m.arch],
    ['weights', `${m.quant}, ${params(m.nParam)} parameters, ${bytes(m.bytes)}`],
    ['context', `${count(m.nCtx)} positions (trained with ${count(m.nCtxTrain)})`],
    ['residence', m.flashMode === 'dense' ? `streamed by layers, ${m.source}` : m.flashMode === 'sparse' ? `streamed by neurons, ${m.source}` : 'all in memory'],
    ['compute', `${m.nThread} thread${m.nThread === 1 ? '' : 's'}, ${m.cpu}`],
    ['chat template', m.templateError ? `unusable: ${m.templateError}` : m.hasTemplate ? "the model's own" : 'none: plain fallback'],
    m.tokenizerWarning ? ['tokenizer', m.tokenizerWarning] : null,
  ]} /></section>`;
}

function Slots({ slots }) {
  return html`<section class="card"><h3>Slots</h3><div class="scroll" tabindex="0" role="region" aria-label="Slots"><table>
    <thead><tr><th>slot</th><th>state</th><th class="num">prompt</th><th class="num">done</th><th class="num">new</th><th class="num">cached</th></tr></thead>
    <tbody>${slots.map((t, i) => html`<tr key=${i}><td>${i}</td><td>${t.busy ? (t.generated ? 'generating' : 'reading prompt') : 'idle'}</td>
      <td class="num">${count(t.prompt)}</td><td class="num">${count(t.done)}</td><td class="num">${count(t.generated)}</td><td class="num">${count(t.cached)}</td></tr>`)}</tbody>
  </table></div></section>`;
}

function Errors({ errors }) {
  return html`<section class="card"><h3>Last errors</h3>${errors.length === 0
    ? html`<p class="note">None since the start.</p>`
    : html`<div class="scroll" tabindex="0" role="region" aria-label="Last errors"><table><thead><tr><th>time</th><th>status</th><th>message</th></tr></thead>
        <tbody>${errors.map((e) => html`<tr><td>${e.time}</td><td>${e.status}</td><td class="wrap">${e.message}</td></tr>`)}</tbody></table></div>`}</section>`;
}

export function Overview() {
  const s = live.value;
  if (!s.ready) return html`<h2>Overview</h2><p class="note">Waiting for the first figures from the server.</p>`;
  return html`<h2>Overview</h2>
    ${s.online ? null : html`<${Alert} warn>The connection to the server is lost; trying again. The figures below are the last known.</${Alert}>`}
    ${s.model ? html`<${Tiles} s=${s} />` : html`<${NoModel} />`}
    ${s.model ? html`<${TimeChart} title="Tokens per second, last five minutes" unit="tokens/s" name="strobe-tokens-per-second"
      series=${['generated', 'prompt']} data=${history.value.tokens} />` : null}
    ${s.model && s.flashMode !== 'off' ? html`<${TimeChart} title="Disk reads" unit="MiB/s" name="strobe-disk-reads" series=${['read']} data=${history.value.reads} />` : null}
    <div class="two">${s.model ? html`<${ModelCard} m=${s.model} s=${s} />` : null}<div>
      ${s.model ? html`<${Slots} slots=${s.slots} />` : null}<${Errors} errors=${s.errors} /></div></div>`;
}
