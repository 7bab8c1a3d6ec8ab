// What a relufication did: quality and zeros before, right after the swap, and after training; shown where a result has them.
import { html } from '../lib/html.js';
import { percent } from '../lib/format.js';
import { Figure } from '../ui/figure.js';

const POINTS = [['before', 'before', 'ph4'], ['swapped', 'after the swap', 'ph2'], ['after', 'after training', 'ph3']];

const share = (v) => (Number.isFinite(v) ? v : null);
const shown = (v) => (v === null ? '' : percent(v));

export function hasSparsity(r) {
  return Boolean(r && r.after && r.after.sparsity);
}

function Summary({ points, r }) {
  return html`<section class="card" aria-label="Quality and sparsity"><h3>Quality and sparsity</h3><div class="scroll" tabindex="0" role="region" aria-label="Quality and sparsity, table"><table>
    <thead><tr><th></th><th class="num">perplexity</th><th class="num">zeros before down</th><th class="num">behind attention's norm</th><th class="num">behind the FFN's norm</th><th class="num">never fires</th></tr></thead>
    <tbody>${points.map(([key, name]) => {
      const z = r[key].sparsity.mean;
      return html`<tr key=${key}><td>${name}</td><td class="num">${Number.isFinite(r[key].perplexity) ? r[key].perplexity.toFixed(3) : ''}</td>
        ${['down_in', 'qkv_in', 'ffn_in', 'dead'].map((k) => html`<td class="num">${shown(share(z[k]))}</td>`)}</tr>`;
    })}</tbody></table></div></section>`;
}

// A bar for each point, one above the other.
function Bars({ values }) {
  const high = 12 / values.length;
  return html`<svg viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">${values.map(([v, paint], i) => html`<rect key=${i} class=${paint} x="0" y=${i * high + 0.3} width=${100 * (v || 0)} height=${high - 0.6} />`)}</svg>`;
}

export function Sparsity({ r, name }) {
  const points = POINTS.filter(([key]) => r[key] && r[key].sparsity);
  const n = r.after.sparsity.layers.length;
  const of = (key, layer) => share(r[key].sparsity.layers[layer].down_in);
  const rows = Array.from({ length: n }, (_, l) => [`layer ${l}`, ...points.map(([key]) => of(key, l))]);
  return html`<${Summary} points=${points} r=${r} />
    <${Figure} title="Zeros before down, by layer" name="${name}-sparsity" header=${['layer', ...points.map(([, label]) => label)]} rows=${rows}
      shown=${rows.map((row) => [row[0], ...row.slice(1).map(shown)])}>
      <p class="row note keys">${points.map(([key, label, paint]) => html`<span key=${key}><i class="key ${paint}"></i>${label}</span>`)}</p>
      <dl class="hist">${rows.map((row) => html`<dt key=${row[0]}>${row[0]}</dt><dd><${Bars} values=${points.map(([, , paint], i) => [row[i + 1], paint])} /><span>${shown(row[row.length - 1])}</span></dd>`)}</dl></${Figure}>`;
}
