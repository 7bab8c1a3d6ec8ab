// One run: how far it is, what it means, and where its answers are.
import { html } from '../lib/html.js';
import { apiKey } from '../lib/api.js';
import { count, duration, percent } from '../lib/format.js';
import { Alert, Facts, Tile } from '../ui/basic.js';
import { Figure, save } from '../ui/figure.js';
import { act, exportUrl, isOver, report, reportError, run, runError } from './data.js';
import { BarFigure, Histogram, TrapBars } from './charts.js';
import { Heat } from './heat.js';
import { Answers } from './answers.js';
import { conditionName, points, pValue, signed, span } from './text.js';

const STATES = { ready: 'waiting', running: 'running', paused: 'paused', cancelled: 'cancelled', done: 'done' };
export const stateName = (r) => STATES[r.state] || r.state;
export const stateClass = (r) => `state-${{ ready: 'queued', paused: 'cancelled' }[r.state] || r.state}`;
export const modelName = (r) => (r.model && (r.model.name || r.model.id)) || (typeof r.model === 'string' ? r.model : '') || 'unknown model';

async function download(id, format) {
  const res = await fetch(exportUrl(id, format), { headers: apiKey.value ? { Authorization: `Bearer ${apiKey.value}` } : {} });
  if (res.ok) save(`${id}.${format}`, await res.text(), res.headers.get('content-type') || 'text/plain');
}

function Tiles({ r }) {
  const c = r.counts || {};
  const over = (c.done || 0) + (c.failed || 0);
  const share = c.total ? over / c.total : 0;
  const bad = (k) => (c.done ? (c[k] || 0) / c.done : 0);
  return html`<div class="tiles six">
    <${Tile} label="Progress" value=${percent(share)} share=${share} note="${count(over)} of ${count(c.total)} questions" />
    <${Tile} label=${isOver(r) ? 'Right' : 'Right so far'} value=${c.done ? percent((c.correct || 0) / c.done) : 'no data yet'} note="${count(c.correct)} of ${count(c.done)} answered" />
    <${Tile} label="Time left" value=${isOver(r) ? stateName(r) : Number.isFinite(r.eta_s) ? duration(r.eta_s) : 'no data yet'} note=${Number.isFinite(r.rate) ? `${r.rate.toFixed(r.rate < 10 ? 2 : 0)} answers a second` : ''} />
    <${Tile} label="Cut by the limit" value=${percent(bad('truncated'))} share=${bad('truncated')} note="${count(c.truncated)} answers" />
    <${Tile} label="No number found" value=${percent(bad('unparsed'))} share=${bad('unparsed')} note="${count(c.unparsed)} answers, ${count(c.empty)} empty" />
    <${Tile} label="Tokens" value=${count((c.prompt_tokens || 0) + (c.completion_tokens || 0))} note="${count(c.completion_tokens)} answered${c.cached_tokens ? `, ${count(c.cached_tokens)} from the cache` : ''}${c.failed ? `, ${count(c.failed)} failed` : ''}" />
  </div>`;
}

function Accuracy({ doc, name }) {
  const header = ['condition', 'templates', 'asked', 'scored', 'right', 'accuracy %', 'of asked %', 'fixed low', 'fixed high', 'random low', 'random high'];
  const n = (v) => (Number.isFinite(v) ? Number((100 * v).toFixed(4)) : null);
  const i = (v, k) => (v ? n(v[k]) : null);
  const rows = doc.conditions.map((c) => [conditionName(c), c.templates, c.asked, c.scored, c.correct, n(c.accuracy), n(c.accuracy_of_asked), i(c.fixed, 'low'), i(c.fixed, 'high'), i(c.random, 'low'), i(c.random, 'high')]);
  return html`<${Figure} title="Accuracy" name="${name}-accuracy" header=${header} rows=${rows}>
    <div class="scroll" tabindex="0" role="region" aria-label="Accuracy by condition"><table><thead><tr><th>condition</th><th class="num">accuracy</th><th class="num">these templates</th><th class="num">such templates</th><th class="num">scored / asked</th><th class="num">templates</th><th class="num">ICC</th></tr></thead>
    <tbody>${doc.conditions.map((c) => html`<tr key=${conditionName(c)}><td>${conditionName(c)}</td><td class="num"><b>${points(c.accuracy)} %</b></td><td class="num">${span(c.fixed)}${c.bound ? ' \u2020' : ''}</td><td class="num">${span(c.random)}${c.bound ? ' \u2020' : ''}</td><td class="num">${count(c.scored)} / ${count(c.asked)}</td><td class="num">${c.templates}</td><td class="num">${c.decomposition ? c.decomposition.icc.toFixed(2) : '\u2013'}</td></tr>`)}</tbody></table></div>
    <p class="note">95 % intervals in percent. These templates: only the wordings vary. Such templates: the population that these stand for. ICC: share of an answer's variance that is between templates.${doc.conditions.some((c) => c.bound) ? ' \u2020 exact one-sided bound: all answers alike.' : ''}</p></${Figure}>`;
}

const ofKind = (doc, kind) => doc.contrasts.filter((c) => c.kind === kind && c.paired && Number.isFinite(c.paired.difference));

function dropRows(doc) {
  return ofKind(doc, 'original').map((c) => ({ label: conditionName(c.b), value: c.paired.difference, low: c.paired.interval.low, high: c.paired.interval.high, strong: c.primary }));
}

function variantRows(doc) {
  return ofKind(doc, 'variant').map((c) => ({ label: `${conditionName(c.a)} \u2212 ${conditionName(c.b)}`, value: c.paired.difference, low: c.paired.interval.low, high: c.paired.interval.high, strong: c.primary }));
}

const FAMILY = ['names', 'numbers', 'surface', 'both'];

function familyRows(doc) {
  return FAMILY.map((v) => doc.conditions.find((c) => c.variant === v && c.level === 0)).filter((c) => c && c.random)
    .map((c) => ({ label: conditionName(c), value: c.mean_of_templates, low: c.random.low, high: c.random.high }));
}

function Tests({ doc, name }) {
  const fit = (m) => (!m ? '\u2013' : m.usable ? pValue(m.p) : m.state);
  const header = ['contrast', 'primary', 'templates', 'difference', 'low', 'high', 'p', 'p Holm', 'mixed model p', 'size held fixed p', 'margin', 'equivalent'];
  const rows = doc.contrasts.map((c) => [c.id, c.primary, c.paired.templates, c.paired.difference, c.paired.interval.low, c.paired.interval.high, c.p, c.p_holm, c.mixed_model && c.mixed_model.p, c.adjusted && c.adjusted.p, c.equivalence.margin, c.equivalence.shown]);
  return html`<${Figure} title="Tests" name="${name}-tests" header=${header} rows=${rows.map((r) => r.map((v) => (v === undefined ? null : v)))}>
    <div class="scroll" tabindex="0" role="region" aria-label="Tests, table"><table><thead><tr><th>contrast</th><th class="num">difference</th><th class="num">95 %</th><th class="num">p</th><th class="num">Holm</th><th class="num">mixed model</th><th class="num">size held fixed</th><th>no larger than</th></tr></thead>
    <tbody>${doc.contrasts.map((c) => html`<tr key=${c.id} class=${c.primary ? 'chosen' : ''}><td>${c.id}${c.primary ? ' (declared)' : ''}</td><td class="num">${signed(c.paired.difference)}</td><td class="num">${span(c.paired.interval)}</td><td class="num">${pValue(c.p)}</td><td class="num">${pValue(c.p_holm)}</td><td class="num">${fit(c.mixed_model)}</td><td class="num">${fit(c.adjusted)}</td><td>${points(c.equivalence.margin, 0)} points ${c.equivalence.shown ? 'shown' : 'not shown'}</td></tr>`)}</tbody></table></div>
    <p class="note">Differences in points, first minus second. Original against generated: exact test stratified by template; others: sign flips of template differences. A fit that did not converge shows its state instead of a p-value.</p></${Figure}>`;
}

function Extraction({ doc, name }) {
  const profiles = doc.conditions.length ? doc.conditions[0].profiles.map((p) => p.profile) : [];
  const rows = doc.conditions.map((c) => [conditionName(c), ...c.profiles.map((p) => (p.accuracy === null ? null : Number((100 * p.accuracy).toFixed(2))))]);
  return html`<${Figure} title="How much of it is extraction" name="${name}-profiles" header=${['condition', ...profiles]} rows=${rows}>
    <div class="scroll" tabindex="0" role="region" aria-label="Accuracy by extraction profile"><table><thead><tr><th>condition</th>${profiles.map((p) => html`<th key=${p} class="num">${p}${p === doc.profile ? ' *' : ''}</th>`)}</tr></thead>
    <tbody>${rows.map((r) => html`<tr key=${r[0]}>${r.map((v, i) => html`<td key=${i} class=${i ? 'num' : ''}>${v === null ? '\u2013' : i ? v.toFixed(1) : v}</td>`)}</tr>`)}</tbody></table></div><p class="note">Percent right when each program's rule reads the same answers. * the profile of this run</p></${Figure}>`;
}

function Noop({ doc, name }) {
  if (!doc.noop.length) return null;
  const rows = doc.noop.flatMap((v) => [['all', v.all], ['accepted by reviewers', v.accepted]].filter(([, x]) => x.scored).map(([which, x]) => ({ label: `${conditionName(v)}, ${which}`, ...x })));
  return html`<${Figure} title="Clauses that change nothing" name="${name}-noop" header=${['condition', 'scored', 'right', 'trap', 'other wrong', 'trap share']} rows=${rows.map((r) => [r.label, r.scored, r.correct, r.trap, r.wrong - r.trap, r.trap_share])}>
    <${TrapBars} rows=${rows} />${rows.map((r) => html`<p class="note" key=${r.label}>${r.label}: ${r.trap_share === null ? 'no wrong answer' : `${points(r.trap_share)} % of wrong answers are the trap's (${span(r.trap_interval)})`}</p>`)}</${Figure}>`;
}

function Ladder({ doc, name }) {
  return doc.levels.map((l) => html`<${BarFigure} key=${l.variant} title="Levels of difficulty: ${l.variant}" name="${name}-levels-${l.variant}" dots unit="accuracy with 95 % interval, templates that have all levels"
    rows=${l.steps.filter((s) => s.accuracy !== null).map((s) => ({ label: `level ${s.level > 0 ? '+' : s.level < 0 ? '\u2212' : ''}${Math.abs(s.level)}`, value: s.accuracy, low: s.se === null ? NaN : s.accuracy - 1.96 * s.se, high: s.se === null ? NaN : s.accuracy + 1.96 * s.se }))}>
    <p class="note">${l.templates} templates. ${l.slope === null ? 'Too few for a slope.' : `${signed(l.slope)} points a level (${span(l.interval)}), p ${pValue(l.p_permutation)} with levels shuffled inside templates.`}</p></${BarFigure}>`);
}

function Findings({ doc, name }) {
  const drops = dropRows(doc);
  const family = familyRows(doc);
  const variants = variantRows(doc);
  return html`${doc.suspect.map((s) => html`<${Alert} key=${s} warn>Suspect: ${s}.</${Alert}>`)}
    <${Accuracy} doc=${doc} name=${name} />
    <div class="two">${doc.conditions.filter((c) => c.histogram && c.sets.n > 1).map((c) => html`<${Histogram} key=${conditionName(c)} c=${c} name=${name} />`)}</div>
    ${drops.length ? html`<${BarFigure} title="Drop against the originals" name="${name}-drops" rows=${drops} unit="points, originals minus condition, with 95 % interval" about="Template by template. A run has one original of each template, so small drops cannot be told from chance." />` : null}
    ${family.length > 1 ? html`<${BarFigure} title="Names, numbers, surface, both" name="${name}-family" rows=${family} dots unit="accuracy with 95 % interval for such templates" />` : null}
    ${variants.length ? html`<${BarFigure} title="Variant against variant" name="${name}-variants" rows=${variants} unit="points, first minus second, with 95 % interval" />` : null}
    <${Ladder} doc=${doc} name=${name} />
    <${Noop} doc=${doc} name=${name} />
    ${doc.contrasts.length ? html`<${Tests} doc=${doc} name=${name} />` : null}
    <${Extraction} doc=${doc} name=${name} />
    ${doc.plan ? html`<section class="card" aria-label="What this design can see"><h3>What this design can see</h3><div class="stack"><${Facts} rows=${[['design', `${doc.plan.templates} templates, ${doc.plan.instances} instances each`], ['smallest drop against originals', `${points(doc.plan.smallest_drop_original)} points (80 % power)`], ['smallest difference between variants or models', `${points(doc.plan.smallest_difference_variants)} points`], ['instances for one point', doc.plan.instances_for_one_point ? count(doc.plan.instances_for_one_point) : 'over a million']]} /></div></section>` : null}
    ${doc.notes.length ? html`<section class="card" aria-label="Notes"><h3>Notes</h3><ul>${doc.notes.map((n) => html`<li key=${n}>${n}</li>`)}</ul></section>` : null}`;
}

const TABS = [['', 'Findings'], ['templates', 'Templates'], ['answers', 'Answers'], ['settings', 'Settings']];

const value = (v) => (v === null || v === undefined ? 'none' : typeof v === 'object' ? JSON.stringify(v) : String(v));
function Settings({ r, doc }) {
  const parts = ['model', 'prompt', 'decoding', 'primary', 'datasets'].map((k) => [k, (doc && doc.run[k]) ?? r[k]]).filter(([, v]) => v !== undefined && v !== null);
  return html`<section class="card" aria-label="Settings"><h3>Settings</h3><div class="stack"><${Facts} rows=${parts.flatMap(([k, v]) => (typeof v === 'object' && !Array.isArray(v) ? Object.entries(v).map(([name, x]) => [`${k}: ${name}`, value(x)]) : [[k, value(v)]]))} /></div></section>`;
}

const decode = (s) => { try { return decodeURIComponent(s || ''); } catch { return ''; } };

// rest: what follows the id in the address
export function Run({ rest }) {
  const r = run.value;
  const doc = report.value;
  const [tab = '', template, condition] = rest;
  if (!r) return runError.value ? html`<${Alert} error=${runError.value} />` : html`<p class="note">Loading the run.</p>`;
  const href = (t, c) => `#/evals/${r.id}/answers/${encodeURIComponent(t)}${c ? `/${encodeURIComponent(conditionName(c))}` : ''}`;
  return html`<section aria-label="Chosen run"><div class="row head"><h3 class="grow">${r.name || r.id} <span class="soft">${r.name ? `${r.id}, ` : ''}${modelName(r)}</span></h3>
      <span class=${stateClass(r)} role="status">${stateName(r)}</span>
      ${['ready', 'running'].includes(r.state) ? html`<button class="small" onClick=${() => act('cancel')}>Cancel</button>` : null}
      ${['paused', 'cancelled'].includes(r.state) ? html`<button class="small" onClick=${() => act('resume')}>Resume</button>` : null}
      ${['html', 'csv', 'jsonl'].map((f) => html`<button key=${f} class="small" onClick=${() => download(r.id, f)}>${{ html: 'Report', csv: 'CSV', jsonl: 'JSONL' }[f]}</button>`)}</div>
    ${r.note ? html`<p class="note">${r.note}</p>` : null}
    <${Alert} error=${runError.value} />
    <${Tiles} r=${r} />
    <nav class="tabs" aria-label="Parts of the run">${TABS.map(([id, title]) => html`<a key=${id} href="#/evals/${r.id}${id ? `/${id}` : ''}" aria-current=${id === tab ? 'page' : undefined}>${title}</a>`)}</nav>
    ${tab === 'answers' ? html`<${Answers} runId=${r.id} live=${isOver(r)} start=${{ template: decode(template), condition: decode(condition) }} />`
    : tab === 'settings' ? html`<${Settings} r=${r} doc=${doc} />`
      : !doc ? reportError.value ? html`<${Alert} error=${reportError.value} />` : html`<p class="note">Computing the report.</p>`
        : tab === 'templates' ? html`<${Heat} heat=${doc.heat} name=${r.id} href=${href} />`
          : html`<${Findings} doc=${doc} name=${r.id} />`}</section>`;
}
