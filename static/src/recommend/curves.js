// A person's rate over time with the events marked, and when the next one comes.
import { html } from '../lib/html.js';
import { XYChart } from '../ui/chart.js';
import { comeback, curve, person } from './data.js';
import { CAUSES, gap, when } from './words.js';

const day = (t) => new Date(t * 1000).toLocaleDateString('en-GB', { day: '2-digit', month: 'short' });

// Events lie on the curve, at the point in front of them.
function marks(c, total) {
  const out = total.map(() => null);
  for (const e of c.events) {
    const i = Math.floor((e.time - c.from) / c.step);
    if (i >= 0 && i < out.length) out[i] = total[i];
  }
  return out;
}

export function Curve() {
  const c = curve.value;
  if (!c) return null;
  const n = c.points;
  const x = Array.from({ length: n }, (_, i) => c.from + i * c.step);
  const parts = CAUSES.filter(([key]) => c.rates[key].some((v) => v > 0));
  const total = x.map((_, i) => CAUSES.reduce((sum, [key]) => sum + c.rates[key][i], 0));
  return html`<${XYChart} key=${`${person.value} ${parts.length}`} title=${`Rate of ${c.user}`} name="rate" unit="events per hour" digits=${4}
      x=${{ key: 'time', name: 'time', format: day, cell: when }} series=${['all', ...parts.map(([, label]) => label), `events (${c.events.length})`]}
      marks=${[false, ...parts.map(() => false), true]} colors=${['--ink', ...parts.map(([, , color]) => `--${color}`), '--ink']} data=${[x, total, ...parts.map(([key]) => c.rates[key]), marks(c, total)]} />`;
}

export function Back() {
  const r = comeback.value;
  if (!r) return null;
  const some = r.density.hours.length > 1;
  return html`<section class="card" aria-label="When the next event comes"><h3>When the next event comes</h3>
      <div class="two"><div><p class="note">Given none between the last one and ${when(r.at)}. Rate at that time ${r.rate.toPrecision(3)} per hour, ${Math.round((100 * r.base_rate) / (r.rate || 1))} % of it taste. ${r.by === 'clock' ? "By the user's own gaps, which predicted held-out gaps better than the items' rates" : "By the items' rates"}${r.other ? `; ${r.by === 'clock' ? 'those' : "the user's own gaps"} say ${gap(r.other[3])} for the median` : ''}.</p>
      <div class="scroll" tabindex="0" role="region" aria-label="Quantiles, table"><table><thead><tr><th>probability</th>${r.quantiles.map((q) => html`<th key=${q.q} class="num">${Math.round(q.q * 100)} %</th>`)}</tr></thead>
        <tbody><tr><td>within</td>${r.quantiles.map((q) => html`<td key=${q.q} class="num">${gap(q.hours)}</td>`)}</tr></tbody></table></div></div>
      ${some ? html`<${XYChart} key=${person.value} title="Density of the next event" name="return-time" unit="per hour" digits=${5} x=${{ key: 'hours', name: 'hours from then', format: (v) => Number(v.toPrecision(3)) }}
        series=${['density']} data=${[r.density.hours, r.density.per_hour]} />` : html`<p class="note">The model expects no more events.</p>`}</div></section>`;
}
