// Models: versions and their figures, the trace of one, a new fit; and the health of the data.
import { html } from '../lib/html.js';
import { compact, count, duration, percent } from '../lib/format.js';
import { Alert, Facts, Field } from '../ui/basic.js';
import { Figure } from '../ui/figure.js';
import { XYChart } from '../ui/chart.js';
import { activate, begin, chosen, chooseModel, health, job, jobError, model, models, stats } from './data.js';

const VARIANTS = [['hrpf', 'habits (HRPF)'], ['hpf', 'taste alone (HPF)'], ['drpf', 'habits and the week (DRPF)'], ['srpf', 'habits and friends (SRPF)'], ['dsrpf', 'habits, week and friends (DSRPF)'], ['iirpf', 'habits, friends and other items (IIRPF)']];
const METRICS = [['recall@1', 3], ['recall@20', 3], ['ndcg', 3], ['mrr', 3]];
const shown = (v, digits) => (Number.isFinite(v) ? v.toFixed(digits) : '');

// ---- a new fit ----

function Progress() {
  const j = job.value;
  if (!j) return null;
  const p = j.progress || {};
  const share = Number.isFinite(p.share) ? p.share : 0;
  return html`<div role="status" class="fitting"><p>${j.kind === 'recsys-demo' ? 'Demo' : 'Fit'} ${j.id}: <span class="state-${j.state}">${j.state}</span>${p.phase ? `, ${p.phase}` : ''}${Number.isFinite(p.elbo) ? `, bound ${compact(p.elbo)}` : ''}
      ${j.state === 'failed' && j.error ? html`: ${j.error}` : ''}</p>
    ${['queued', 'running'].includes(j.state) ? html`<progress class="bar" max="1" value=${share} aria-label="progress of the fit"></progress>` : null}</div>`;
}

function submit(e) {
  e.preventDefault();
  const f = new FormData(e.currentTarget);
  const settings = { variant: f.get('variant'), k: Number(f.get('k')), iters: Number(f.get('iters')) };
  if (f.get('zone')) settings.zone = f.get('zone');
  begin('fit', settings);
}

export function Fit() {
  const busy = job.value && ['queued', 'running'].includes(job.value.state);
  const empty = !stats.value.events;
  return html`<section class="card" aria-label="Fit a model"><h3>${empty ? 'Begin' : 'Fit a model'}</h3>
    ${empty ? html`<p>There are no events yet. Send some to <code>POST /api/recsys/events</code>, or look at an invented town first: 240 people, 96 places, twelve weeks.</p>
      <button class="main" disabled=${busy} onClick=${() => begin('demo', {})}>Load demo data and fit</button>` : html`<form class="fields rec" onSubmit=${submit}>
      <${Field} label="Model"><select name="variant">${VARIANTS.map(([id, label]) => html`<option key=${id} value=${id}>${label}</option>`)}</select><//>
      <${Field} label="Factors"><input name="k" type="number" min="1" max="256" defaultValue="16" /><//>
      <${Field} label="Sweeps at most"><input name="iters" type="number" min="1" max="10000" defaultValue="100" /><//>
      <${Field} label="Time zone of the week"><input name="zone" placeholder="UTC" /><//>
      <div class="row"><button class="main" disabled=${busy}>Fit to all ${compact(stats.value.events)} events</button></div></form>`}
    <${Progress} /><${Alert} error=${jobError.value} /></section>`;
}

// ---- versions ----

const evaluation = (m) => (m.evaluation && m.evaluation.methods) || [];

// Rows of all versions and, once, of what they are compared with.
function comparison(list) {
  const rows = [];
  const seen = new Set();
  for (const m of list) for (const e of evaluation(m)) {
    const own = e.name === 'model';
    if (!own && seen.has(e.name)) continue;
    seen.add(e.name);
    rows.push([own ? m.id : e.name, own ? 'model' : 'baseline', ...METRICS.map(([key]) => e[key] ?? null)]);
  }
  return rows;
}

function Row({ m }) {
  const f = m.fit || {};
  return html`<tr class=${m.id === chosen.value ? 'chosen' : ''}><td><button class="link" aria-pressed=${m.id === chosen.value} onClick=${() => chooseModel(m.id)}>${m.id}</button></td>
    <td>${m.active ? 'in use' : html`<button class="small" onClick=${() => activate(m.id)}>Use</button>`}</td><td class="num">${m.k ?? ''}</td><td class="num">${m.events ? compact(m.events) : ''}</td>
    <td class="num">${shown(f.heldout, 3)}</td><td class="num">${Number.isFinite(f.self_share) ? percent(f.self_share) : ''}</td><td class="num">${shown(f.radius, 2)}</td><td class="num">${Number.isFinite(f.seconds) ? duration(f.seconds) : ''}</td></tr>`;
}

function Trace() {
  const m = model.value;
  const t = ((m && m.trace) || []).filter((p) => Number.isFinite(p.elbo));
  if (t.length < 2) return null;
  const x = t.map((_, i) => i);
  let before = 0;
  t.forEach((p, i) => {
    if (i && p.sweep <= t[i - 1].sweep) before = x[i - 1];
    x[i] = before + p.sweep;
  });
  const held = t.map((p) => (Number.isFinite(p.heldout) ? p.heldout : null));
  const axis = { key: 'sweep', name: 'sweeps', format: (v) => String(v) };
  const of = (phase) => t.map((p) => (p.phase === phase ? p.elbo : null));
  return html`<div class="two"><${XYChart} key=${`e${m.id}`} title=${`Bound (ELBO) of ${m.id}`} name="elbo" unit="nats" fit=${true} x=${axis} series=${['without the last events', 'all events']} points=${[true, true]} data=${[x, of('held out'), of('all')]} />
    ${held.some((v) => v !== null) ? html`<${XYChart} key=${`h${m.id}`} title="Held-out log likelihood" name="heldout" unit="nats per event" fit=${true} digits=${4} x=${axis} series=${['held out']} points=${[true]} data=${[x, held]} />` : null}</div>`;
}

export function Models() {
  const list = models.value && models.value.data;
  if (!list || !list.length) return null;
  const rows = comparison(list);
  return html`<section class="card" aria-label="Models"><h3>Models</h3><div class="scroll tall" tabindex="0" role="region" aria-label="Models, table"><table>
      <thead><tr><th>version</th><th>state</th><th class="num">factors</th><th class="num">events</th><th class="num">held out</th><th class="num">habit</th><th class="num">radius</th><th class="num">fit in</th></tr></thead>
      <tbody>${list.map((m) => html`<${Row} key=${m.id} m=${m} />`)}</tbody></table></div>
      <p class="note">Held out: log likelihood of an event of the last tenth. Habit: share of events that own earlier ones cause. Radius: how many events one causes, at most; from 1 on it explodes.</p></section>
    ${rows.length ? html`<${Figure} title="Offline figures against baselines" name="offline" header=${['method', 'kind', ...METRICS.map(([k]) => k)]} rows=${rows}>
      <${Bars} rows=${rows} /><//>` : null}<${Trace} />`;
}

// recall@20 as bars, the best first.
function Bars({ rows }) {
  const sorted = rows.filter((r) => Number.isFinite(r[3])).sort((a, b) => b[3] - a[3]);
  const top = sorted.length ? sorted[0][3] || 1 : 1;
  return html`<p class="note">recall@20 on the held-out events</p><dl class="hist names">${sorted.map((r) => html`<dt key=${r[0]}>${r[0]}</dt><dd><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class=${r[1] === 'model' ? 'ph2' : 'ph0'} width=${(100 * r[3]) / top} height="10" /></svg><span>${r[3].toFixed(3)}</span></dd>`)}</dl>`;
}

// ---- data ----

export function Health() {
  const h = health.value;
  if (!h || !h.events) return null;
  const date = (t) => new Date(t * 1000).toLocaleString('en-GB');
  return html`<section class="card" aria-label="Health of the data"><h3>Health of the data</h3><${Facts} rows=${[
    ['events', `${count(h.events)} of ${count(h.users)} users on ${count(h.items)} items, ${count(h.pairs)} pairs`],
    ['from, to', `${date(h.first)} to ${date(h.last)}`],
    ['repeats', `${percent(h.repeat_share)} of the events are on an item that the user had before`],
    ['gap', `${duration(h.gap_median_s)} between a user's events, median`],
    ['ties', `${percent(h.tie_share)} at the same time as the same user's one before`],
    ['twins', `${percent(h.twin_share)} with the same user, item and time`],
    ['seen once', `${percent(h.single_share)} of the users have one event`],
    ['clock', h.tick_s ? `times differ by ${duration(h.tick_s)} at least` : 'all times are equal'],
    h.tie_share > 0.2 ? ['mind', 'many equal times: such events do not excite each other'] : null,
    h.repeat_share < 0.1 ? ['mind', 'few repeats: the recurrent part has little to learn'] : null]} /></section>`;
}
