// Difficulty is what compute can take away, not how high a loss is: quadrants, by class of token where the text's classes are known.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { percent } from '../lib/format.js';
import { Field } from '../ui/basic.js';
import { Figure } from '../ui/figure.js';

const QUADRANTS = [['easy', 'easy'], ['compute_solvable', 'compute-solvable'], ['irreducible', 'irreducible'], ['low_loss_high_gap', 'low loss, high gap']];
const SIDE = 100;
const MOST = 6; // nats that the plot shows

function Scatter({ points, by }) {
  const scale = (v) => (Math.max(0, Math.min(MOST, v)) / MOST) * SIDE;
  const d = points.map((p) => `M${scale(p[0]).toFixed(1)} ${(SIDE - scale(p[by])).toFixed(1)}h.01`).join('');
  return html`<div class="plot"><div class="axis"><span>gap ${MOST}</span><span>0</span></div>
    <svg class="heat square" viewBox="0 0 ${SIDE} ${SIDE}" preserveAspectRatio="none" role="img" aria-label="Loss with all small against the gap; the Table button shows the shares">
      <path class="guide" d="M${scale(1)} 0V${SIDE}M0 ${SIDE}L${SIDE} ${SIDE / 2}" /><path class="dots" d=${d} /></svg></div>
    <p class="note">Across: loss with all small, 0 to ${MOST} nats; up: what the other route takes away. The lines part low from high loss (1 nat) and low from high gap (half of the loss).</p>`;
}

export function Difficulty({ figure }) {
  const [by, setBy] = useState('by_oracle');
  const f = figure[by];
  const groups = [['all tokens', f.all], ...Object.entries(f.classes).filter(([, g]) => g.tokens)];
  const header = ['tokens', 'count', ...QUADRANTS.map(([, name]) => name), 'solvable of high loss', 'mean loss small', 'mean gap'];
  const rows = groups.map(([name, g]) => [name, g.tokens, ...QUADRANTS.map(([k]) => g[k]), g.solvable_of_high_loss, g.small, g.gap]);
  const shown = rows.map((r) => r.map((v, i) => (i < 2 || v === null ? v : i < 7 ? percent(v) : v.toFixed(3))));
  return html`<${Figure} title="Difficulty" name="strobe-duo-difficulty" header=${header} rows=${rows} shown=${shown}>
    <div class="row pickers"><${Field} label="Against"><select value=${by} onChange=${(e) => setBy(e.target.value)}><option value="by_oracle">the best route (sees the answer)</option><option value="by_all_big">all big</option></select></${Field}></div>
    <${Scatter} points=${figure.points} by=${by === 'by_oracle' ? 1 : 2} />
    <div class="scroll" tabindex="0" role="region" aria-label="Quadrants"><table><thead><tr><th>tokens</th><th class="num">count</th>${QUADRANTS.map(([, name]) => html`<th key=${name} class="num">${name}</th>`)}</tr></thead>
      <tbody>${shown.map((r) => html`<tr key=${r[0]}>${r.slice(0, 6).map((v, i) => html`<td key=${i} class=${i ? 'num' : ''}>${v}</td>`)}</tr>`)}</tbody></table></div></${Figure}>`;
}
