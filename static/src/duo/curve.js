// Nats against FLOPs, a curve for each policy; and how the budget could be spent along the text.
import { html } from '../lib/html.js';
import { XYChart } from '../ui/chart.js';
import { Figure } from '../ui/figure.js';

// The names are those of the trace document.
const CURVES = [['oracle', 'oracle (sees the answer)'], ['oracle_nml', 'oracle NML-corrected'], ['mixture', 'mixture of the routes'], ['placebo', 'placebo (sees the answer)'],
  ['fixed_best', 'best fixed route'], ['router', 'router'], ['all_big', 'all big'], ['all_small', 'all small']];

export function BudgetCurve({ figure }) {
  const c = figure.curves;
  const xs = [...new Set(CURVES.flatMap(([k]) => (c[k] || []).map((p) => p.relative_flops)))].sort((a, b) => a - b);
  const shown = CURVES.filter(([k]) => (c[k] || []).length);
  const column = (k) => {
    const at = new Map(c[k].map((p) => [p.relative_flops, p.nats]));
    return xs.map((x) => (at.has(x) ? at.get(x) : null));
  };
  const x = { key: 'relative_flops', name: 'FLOPs, all big = 1', format: (v) => v.toFixed(2) };
  return html`<${XYChart} title="Budget curve" unit="nats per token" x=${x} series=${shown.map(([, label]) => label)} data=${[xs, ...shown.map(([k]) => column(k))]}
      points=${shown.map(() => true)} fit digits=${4} name="strobe-duo-curve" />
    <p class="note">Oracle and placebo choose each token's route with the answer in sight: the placebo does so among as many noisy copies of the same full model, whose losses spread as much as the routes' but where there is nothing to route. Only a curve below "all big" that does not see the answer is a gain.</p>`;
}

const num = (v, digits = 4) => (v === null || v === undefined ? '' : v.toFixed(digits));

export function Schedules({ figure }) {
  const rows = figure.schedules.map((s) => [s.schedule, s.from, s.to, s.big_layers, s.nats, s.minus_constant, s.minus_low, s.minus_high, s.from_budget_curve]);
  const header = ['schedule', 'from', 'to', 'big layers', 'nats', 'minus constant', 'low', 'high', 'expected from the budget curve'];
  const max = Math.max(...figure.schedules.map((s) => s.nats), 1e-9);
  return html`<${Figure} title="Schedules" name="strobe-duo-schedules" header=${header} rows=${rows} shown=${rows.map((r) => r.map((v) => (typeof v === 'number' && !Number.isInteger(v) ? num(v) : v)))}>
    <dl class="hist">${figure.schedules.map((s) => html`<dt key=${s.schedule}>${s.schedule}, ${s.from} to ${s.to}</dt><dd><svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true"><rect class="heat5" width=${(100 * s.nats) / max} height="1" /></svg><span>${num(s.nats)}</span></dd>`)}</dl>
    <p class="note">The oracle's nats when a sequence's budget stays, shrinks or grows. What the budget curve alone would give is in the table: the rest is what order does.</p></${Figure}>`;
}

export function Controls({ figure, layers }) {
  const g = figure.granularity || [];
  const rows = [...g.map((p) => [`a route for ${p.tokens ? `${p.tokens} tokens` : 'a sequence'}`, p.budget, p.oracle, p.side_information, p.oracle + p.side_information]),
    ...(figure.committed || []).map((p) => [`committed oracle, ${p.budget < 0 ? 'any budget' : 'exact budget'}`, p.budget < 0 ? null : p.budget, p.nats, null, null]),
    ...(figure.subsampled || []).map((v, b) => [`best of ${figure.subsampled_routes} routes`, b, v, null, null]).filter((r) => r[2] !== null),
    ...(figure.searches || []).map((s) => [`${s.search}: regret`, s.budget, s.regret, null, null]),
    ...(figure.placebo ? [[`placebo: best of ${figure.placebo.check.k} copies, measured`, null, figure.placebo.check.best_of_copies, null, null],
      [`placebo: best of ${figure.placebo.check.k} by the distribution`, null, figure.placebo.check.by_distribution, null, null]] : [])];
  const shown = rows.map((r) => r.map((v) => (typeof v === 'number' && !Number.isInteger(v) ? num(v) : v)));
  return html`<${Figure} title="Controls" name="strobe-duo-controls" header=${['control', 'big layers', 'nats', 'side information', 'sum']} rows=${rows} shown=${shown}>
    <p>All big: <b>${num(figure.all_big)}</b> nats. ${g.length ? html`One route for each token costs ${num(g[0].oracle)} nats and ${num(g[0].side_information)} to say which; one for each sequence ${num(g[g.length - 1].oracle)} and ${num(g[g.length - 1].side_information)}.` : null}
      ${(figure.committed || []).map((p) => html`<br />Committed oracle over ${p.tokens} tokens (${p.budget < 0 ? 'any budget' : `${p.budget} of ${layers} big`}): ${num(p.nats)}, parallel oracle ${num(p.parallel)}, all big ${num(p.all_big)}.`)}</p>
    <p class="note">A choice of one among K routes is worth at most ln K nats of side information: what lies below "all big" with it is a gain that can be sent.</p></${Figure}>`;
}
