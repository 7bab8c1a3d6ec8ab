// Duo: where should compute go, and how much of what an oracle gains is only selection?
import { useEffect } from 'preact/hooks';
import { signal } from '@preact/signals';
import { html } from '../lib/html.js';
import { count, percent } from '../lib/format.js';
import { Alert, Field } from '../ui/basic.js';
import { cancel, error, figures, findJob, forget, loadList, make, making, show, trace, traces } from './data.js';
import { BudgetCurve, Controls, Schedules } from './curve.js';
import { Agreement, Tokens, Usage } from './maps.js';
import { Difficulty } from './difficulty.js';

const text = signal('Anna has 12 apples. She buys 7 more apples. How many apples does she have now?');
const source = signal('text');
const search = signal('exhaustive');
const tokens = signal(48);

function settings() {
  const own = source.value === 'text' ? { text: text.value } : { symbolic: true };
  return { ...own, search: search.value, tokens: Number(tokens.value), committed: search.value === 'exhaustive' ? 16 : 0 };
}

function Progress({ job }) {
  const running = job.state === 'running' && job.share !== undefined;
  return html`<div class="grow"><p class="note" aria-live="polite">Job ${job.id} is ${job.state}${running ? `: ${job.what || 'working'}, ${percent(job.share)}` : ''}</p>
      ${running ? html`<progress class="bar" max="1" value=${job.share} aria-label="Progress of the trace"></progress>` : null}</div>
    <button type="button" class="small" disabled=${job.state === 'ending'} onClick=${cancel}>Cancel</button>`;
}

function Ask() {
  const id = trace.value ? trace.value.id : '';
  return html`<form class="card duo-ask" onSubmit=${(e) => { e.preventDefault(); make(settings()); }}>
    <div class="row pickers"><${Field} label="What is traced"><select value=${source.value} onChange=${(e) => { source.value = e.target.value; }}><option value="text">a text</option><option value="symbolic">word problems, tokens of known class</option></select></${Field}>
      <${Field} label="Search"><select value=${search.value} onChange=${(e) => { search.value = e.target.value; }}><option value="exhaustive">all routes</option><option value="random">100 random routes</option><option value="beam">beam of 32</option></select></${Field}>
      <${Field} label="Tokens at most"><input type="number" min="2" max="65536" value=${tokens.value} onInput=${(e) => { tokens.value = e.target.value; }} /></${Field}>
      ${traces.value.length ? html`<${Field} label="Trace in view"><select value=${id} onChange=${(e) => show(e.target.value)}>${id ? null : html`<option value="">none</option>`}
        ${traces.value.map((t) => html`<option key=${t.id} value=${t.id}>${t.id}, ${new Date(t.created * 1000).toLocaleString('en-GB')}</option>`)}</select></${Field}>` : null}</div>
    ${source.value === 'text' ? html`<${Field} label="Text"><textarea rows="3" required value=${text.value} onInput=${(e) => { text.value = e.target.value; }}></textarea></${Field}>` : null}
    <div class="row"><button class="main" disabled=${Boolean(making.value)}>${making.value ? 'Tracing' : 'Trace'}</button>
      ${making.value && making.value.id ? html`<${Progress} job=${making.value} />` : html`<span class="note grow">Long traces become jobs.</span>`}
      ${id ? html`<button type="button" class="small" onClick=${forget}>Delete the trace in view</button>` : null}</div></form>`;
}

function View({ t, f }) {
  return html`<p class="note">${t.model}: ${t.layers} layers, ${count(t.tokens)} tokens in ${t.sequences === 1 ? '1 sequence' : `${count(t.sequences)} sequences`} of ${t.data}; search ${t.search}, ${count(t.evaluations)} layer evaluations (${count(t.formula)} by its formula).</p>
    <${BudgetCurve} key=${t.id} figure=${f.budget_curve} />
    <div class="two"><${Usage} figure=${f.layer_usage} which="oracle" /><${Usage} figure=${f.layer_usage} which="router" /></div>
    ${f.tokens && f.tokens.tokens.length ? html`<${Tokens} figure=${f.tokens} layers=${t.layers} />` : null}
    <div class="two"><${Difficulty} figure=${f.difficulty} /><div><${Schedules} figure=${f.schedule} />${f.agreement ? html`<${Agreement} figure=${f.agreement} />` : null}</div></div>
    <${Controls} figure=${f.controls} layers=${t.layers} />`;
}

export function Duo() {
  useEffect(() => { loadList(); findJob(); }, []);
  const t = trace.value;
  const f = figures.value;
  return html`<h2>Duo</h2><${Ask} /><${Alert} error=${error.value} />
    ${t && f.controls ? html`<${View} t=${t} f=${f} />` : html`<p class="note">No trace yet. Each token of a Duo model goes through a big or a small feed-forward part in every layer; a trace shows which routes would have been best, and what is left of that when the answer is not known.</p>`}`;
}
