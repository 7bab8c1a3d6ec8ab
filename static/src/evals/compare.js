// Model against model on the same questions.
import { useEffect, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { count } from '../lib/format.js';
import { Alert, Field } from '../ui/basic.js';
import { Figure } from '../ui/figure.js';
import { compare, runs } from './data.js';
import { BarFigure, Paired } from './charts.js';
import { conditionName, points, pValue, signed, span } from './text.js';
import { modelName } from './run.js';

const side = (s) => `${(s.model && s.model.name) || s.name || s.id}`;

function Result({ doc }) {
  const name = `${doc.a.id}-${doc.b.id}`;
  const [a, b] = [side(doc.a), side(doc.b)];
  const header = ['condition', 'questions', 'first', 'second', 'difference', 'low', 'high', 'p', 'p Holm', 'only first right', 'only second right'];
  const rows = doc.conditions.map((c) => [conditionName(c), c.items, c.accuracy_a, c.accuracy_b, c.paired.difference, c.paired.interval.low, c.paired.interval.high, c.p, c.p_holm, c.only_a, c.only_b]);
  return html`<p class="note">First: ${a} (${doc.a.id}). Second: ${b} (${doc.b.id}). ${count(doc.items)} questions that both answered.</p>
    <${BarFigure} title="Difference" name="${name}-difference" unit="points, first minus second, with 95 % interval over templates" rows=${doc.conditions.filter((c) => Number.isFinite(c.paired.difference)).map((c) => ({ label: conditionName(c), value: c.paired.difference, low: c.paired.interval.low, high: c.paired.interval.high }))} />
    <${Figure} title="Tests" name="${name}-tests" header=${header} rows=${rows}><div class="scroll" tabindex="0" role="region" aria-label="Tests of the comparison"><table>
      <thead><tr><th>condition</th><th class="num">questions</th><th class="num">first</th><th class="num">second</th><th class="num">difference</th><th class="num">95 %</th><th class="num">p</th><th class="num">Holm</th><th class="num">only first</th><th class="num">only second</th><th>within 5 points</th></tr></thead>
      <tbody>${doc.conditions.map((c) => html`<tr key=${conditionName(c)}><td>${conditionName(c)}</td><td class="num">${count(c.items)}</td><td class="num">${points(c.accuracy_a)}</td><td class="num">${points(c.accuracy_b)}</td><td class="num">${signed(c.paired.difference)}</td><td class="num">${span(c.paired.interval)}</td><td class="num">${pValue(c.p)}</td><td class="num">${pValue(c.p_holm)}</td><td class="num">${count(c.only_a)}</td><td class="num">${count(c.only_b)}</td><td>${c.equivalence.shown ? 'shown' : 'not shown'}</td></tr>`)}</tbody></table></div>
      <p class="note">p: sign flips of template differences; Holm over the conditions.</p></${Figure}>
    <div class="two">${doc.conditions.map((c) => html`<${Paired} key=${conditionName(c)} c=${c} a=${a} b=${b} name=${name} />`)}</div>`;
}

export function Compare({ ids }) {
  const [doc, setDoc] = useState(null);
  const [error, setError] = useState(null);
  const [a = '', b = ''] = ids;
  useEffect(() => {
    setDoc(null);
    setError(null);
    if (!a || !b) return undefined;
    let over = false;
    compare(a, b).then((d) => !over && setDoc(d)).catch((e) => !over && setError(e));
    return () => { over = true; };
  }, [a, b]);
  const list = runs.value || [];
  const pick = (first) => (e) => { location.hash = `#/evals/compare/${first ? e.target.value : a}/${first ? b : e.target.value}`; };
  const options = (chosen) => html`<option value="">choose a run</option>${[...list, ...[a, b].filter((id) => id && !list.some((r) => r.id === id)).map((id) => ({ id, model: '' }))].map((r) => html`<option key=${r.id} value=${r.id} selected=${r.id === chosen}>${r.name || r.id} (${modelName(r)})</option>`)}`;
  return html`<section aria-label="Comparison"><h3>Compare two runs</h3><div class="row pickers"><${Field} label="First"><select value=${a} onChange=${pick(true)}>${options(a)}</select></${Field}><${Field} label="Second"><select value=${b} onChange=${pick(false)}>${options(b)}</select></${Field}></div>
    <${Alert} error=${error} />
    ${doc ? html`<${Result} doc=${doc} />` : a && b && !error ? html`<p class="note">Comparing.</p>` : error ? null : html`<p class="note">Two runs over the same templates and seed, by two models or two prompts.</p>`}</section>`;
}
