// Template x variant: every cell is a number that can be read, a button that leads to its answers.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { Field } from '../ui/basic.js';
import { Figure } from '../ui/figure.js';
import { conditionName, points } from './text.js';

const SHADES = 5;
const total = (t) => [t.correct.reduce((a, b) => a + b, 0), t.scored.reduce((a, b) => a + b, 0)];
// Asked more than once: the share of its answers that is right.
const original = (v) => (v === null ? '\u2013' : typeof v === 'number' ? `${points(v, 0)} %` : v ? 'right' : 'wrong');
const rate = (t) => { const [k, n] = total(t); return n ? k / n : 2; };

const ORDERS = {
  id: { name: 'template', of: (a, b) => (a.id < b.id ? -1 : 1) },
  hard: { name: 'hardest first', of: (a, b) => rate(a) - rate(b) },
  easy: { name: 'easiest first', of: (a, b) => rate(b) - rate(a) },
  wrong: { name: 'share of all failures', of: (a, b) => b.wrong - a.wrong },
};

// href: of the answers behind a cell
export function Heat({ heat, name, href }) {
  const [order, setOrder] = useState('hard');
  const [shrunk, setShrunk] = useState(false);
  const rows = [...heat.templates].sort(ORDERS[order].of);
  // Where originals are a condition of the run they have a column of their own.
  const apart = !heat.conditions.some((c) => c.variant === 'original');
  const all = heat.templates.reduce((s, t) => s + t.wrong, 0);
  const flat = rows.flatMap((t) => heat.conditions.map((c, j) => [t.id, c.variant, c.level, t.correct[j], t.scored[j], t.shrunk[j] === null ? null : Number(t.shrunk[j].toFixed(4)), t.q[j] === null ? null : Number(t.q[j].toFixed(4))]));
  return html`<${Figure} title="Templates by variant" name="${name}-templates" header=${['template', 'variant', 'level', 'right', 'scored', 'shrunk', 'q']} rows=${flat}>
    <div class="row pickers"><${Field} label="Order"><select value=${order} onChange=${(e) => setOrder(e.target.value)}>${Object.entries(ORDERS).map(([k, o]) => html`<option key=${k} value=${k}>${o.name}</option>`)}</select></${Field}>
      <label class="tick"><input type="checkbox" checked=${shrunk} onChange=${(e) => setShrunk(e.target.checked)} /> drawn toward the variant's mean</label></div>
    <div class="scroll tall" tabindex="0" role="region" aria-label="Templates by variant, percent right"><table class="ematrix">
      <thead><tr><th>template</th>${apart ? html`<th>original</th>` : null}${heat.conditions.map((c) => html`<th key=${conditionName(c)} class="num">${conditionName(c)}</th>`)}<th class="num">failures</th></tr></thead>
      <tbody>${rows.map((t) => html`<tr key=${t.id}><th scope="row"><a href=${href(t.id)}>${t.id}</a></th>${apart ? html`<td>${original(t.original)}</td>` : null}
        ${t.scored.map((n, j) => {
    if (!n) return html`<td key=${j} class="num">\u2013</td>`;
    const v = shrunk && t.shrunk[j] !== null ? t.shrunk[j] : t.correct[j] / n;
    const stands = t.q[j] !== null && t.q[j] < 0.05;
    const shown = `${points(v, 0)}${stands ? '*' : ''}`;
    return html`<td key=${j} class="num shade${Math.min(SHADES - 1, Math.floor(v * SHADES))}" title="${t.correct[j]} of ${n}"><a href=${href(t.id, heat.conditions[j])} aria-label="${shown} percent: ${t.id}, ${conditionName(heat.conditions[j])}, ${t.correct[j]} of ${n} right${stands ? ', stands out' : ''}">${shown}</a></td>`;
  })}
        <td class="num">${all ? points(t.wrong / all) : '\u2013'} %</td></tr>`)}</tbody></table></div>
    <p class="row note keys">${[0, 1, 2, 3, 4].map((s) => html`<span key=${s}><i class="key shade${s}"></i>${20 * s} to ${20 * s + 20} %</span>`)}<span>failures: share of all</span><span>* differs from the same template's other variants (false discovery rate 5 %)</span></p></${Figure}>`;
}
