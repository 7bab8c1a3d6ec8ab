// Figures of the Evals screens as SVG that is drawn at the width it has, so that its text stays readable.
import { useEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { Figure } from '../ui/figure.js';
import { conditionName, points, signed, span } from './text.js';

function useWidth(start = 300) {
  const box = useRef(null);
  const [width, setWidth] = useState(start);
  useEffect(() => {
    const watch = new ResizeObserver(() => box.current && setWidth(Math.max(200, box.current.clientWidth)));
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  return [box, width];
}

// ---- accuracies of the sets ----
const H = { left: 34, right: 12, top: 12, high: 170, bottom: 40 };

function ticks(lo, hi, room) {
  const step = [0.01, 0.02, 0.05, 0.1, 0.2].find((s) => (hi - lo) / s <= room / 55) || 0.25;
  const out = [];
  for (let x = Math.ceil(lo / step - 1e-9) * step; x <= hi + 1e-9; x += step) out.push(x);
  return out;
}

function HistogramSvg({ h, original, name }) {
  const [box, width] = useWidth();
  const n = h.counts.length;
  const ends = [h.start - h.width, h.start + h.width * (n + 1)];
  if (Number.isFinite(original)) {
    ends[0] = Math.min(ends[0], original - 2 * h.width);
    ends[1] = Math.max(ends[1], original + 2 * h.width);
  }
  ends[0] = Math.max(ends[0], -0.03);
  ends[1] = Math.min(ends[1], 1.03);
  const inside = (v) => Math.min(ends[1], Math.max(ends[0], v));
  const top = Math.max(1, ...h.counts, ...(h.expected || []));
  const x = (v) => H.left + ((v - ends[0]) / (ends[1] - ends[0])) * (width - H.left - H.right);
  const y = (v) => H.top + (1 - v / top) * H.high;
  const at = Number.isFinite(original) ? x(original) : null;
  return html`<div ref=${box}><svg class="drawn" width=${width} height=${H.top + H.high + H.bottom} role="img" aria-label="Histogram of the accuracies of the sets of ${name}; the Table button shows the numbers">
    <text x=${H.left - 6} y=${H.top + 8} text-anchor="end">${Math.round(top)}</text><text x=${H.left - 6} y=${H.top + H.high} text-anchor="end">0</text>
    ${h.counts.map((c, i) => html`<rect key=${i} class="hbar" x=${x(inside(h.start + h.width * i)) + 0.5} y=${y(c)} width=${Math.max(1, x(inside(h.start + h.width * (i + 1))) - x(inside(h.start + h.width * i)) - 1)} height=${H.top + H.high - y(c)} />`)}
    <path class="axis-line" d="M${H.left} ${H.top + H.high}H${width - H.right}" />
    ${ticks(ends[0], ends[1], width - H.left - H.right).map((t) => html`<text key=${t} x=${x(t)} y=${H.top + H.high + 16} text-anchor="middle">${Math.round(100 * t)} %</text>`)}
    ${h.expected ? html`<path class="noise-line" d=${h.expected.map((e, i) => `${i ? 'L' : 'M'}${x(inside(h.start + h.width * (i + 0.5))).toFixed(1)} ${y(Math.min(top, e)).toFixed(1)}`).join('')} />` : null}
    ${at === null ? null : html`<path class="orig-line" d="M${at} ${H.top}V${H.top + H.high}" /><text class="orig-text" x=${Math.min(Math.max(at, H.left + 50), width - 62)} y=${H.top + H.high + 33} text-anchor="middle">originals ${points(original)} %</text>`}
  </svg></div>`;
}

export function Histogram({ c, name }) {
  const h = c.histogram;
  const original = c.original_rank ? c.original_rank.original : NaN;
  const rows = h.counts.map((k, i) => [Number((100 * (h.start + h.width * i)).toFixed(2)), Number((100 * (h.start + h.width * (i + 1))).toFixed(2)), k, h.expected ? Number(h.expected[i].toFixed(3)) : null]);
  const s = c.sets;
  const d = c.decomposition || {};
  return html`<${Figure} title="Accuracy of the sets: ${conditionName(c)}" name="${name}-histogram-${c.variant}" header=${['from %', 'to %', 'sets', 'expected']} rows=${rows}>
    <${HistogramSvg} h=${h} original=${original} name=${conditionName(c)} />
    <p class="row note keys"><span><svg width="26" height="8" aria-hidden="true"><path class="noise-line" d="M0 4H26" /></svg>what sampling alone lets expect</span>
      <span>mean ${points(s.mean)} %, sd ${points(s.sd)} (expected ${points(d.expected_set_sd)}), range ${points(s.min)} to ${points(s.max)}</span>
      ${c.original_rank ? html`<span>originals: z ${Number.isFinite(c.original_rank.z) ? c.original_rank.z.toFixed(2) : '\u2013'}, rank p ${c.original_rank.p_mid.toFixed(3)}</span>` : null}</p></${Figure}>`;
}

// ---- bars or points with intervals, one row each ----
// rows: {label, value, low, high, note, strong}
export function Bars({ rows, dots, unit = 'points' }) {
  if (!rows.length) return html`<p class="note">Too few templates for a figure.</p>`;
  const all = rows.flatMap((r) => [r.value, r.low, r.high].filter(Number.isFinite));
  let lo = Math.min(0, ...all);
  let hi = Math.max(0, ...all);
  const room = Math.max(hi - lo, 0.01) * 0.04;
  lo -= lo < 0 ? room : 0;
  hi += room;
  const x = (v) => (100 * (v - lo)) / (hi - lo);
  return html`<div class="ebars" role=${rows.length ? 'list' : undefined}>${rows.map((r) => html`<div class="ebar" role="listitem" key=${r.label}>
    <span class="ename">${r.label}</span>
    <svg class="eplot" viewBox="0 0 100 20" preserveAspectRatio="none" aria-hidden="true">
      <path class="axis-line thin" d="M${x(0)} 0V20" />
      ${dots ? null : html`<rect class=${r.strong ? 'hbar strong' : 'hbar'} x=${Math.min(x(r.value), x(0))} y="4" width=${Math.max(0.3, Math.abs(x(r.value) - x(0)))} height="12" />`}
      ${Number.isFinite(r.low) ? html`<path class="whisk" d="M${x(r.low)} 5V15M${x(r.low)} 10H${x(r.high)}M${x(r.high)} 5V15" />` : null}
      ${dots ? html`<path class="edot" d="M${x(r.value)} 10h.001" />` : null}
    </svg>
    <span class="evalue">${dots ? `${points(r.value)} %` : signed(r.value)}${Number.isFinite(r.low) ? html` <span class="soft">${span(r)}</span>` : null}</span></div>`)}
    <p class="note">${unit}</p></div>`;
}

export function BarFigure({ title, name, rows, dots, unit, about, children }) {
  return html`<${Figure} title=${title} name=${name} header=${['condition', 'value', 'low', 'high']} rows=${rows.map((r) => [r.label, r.value, r.low, r.high].map((v) => (typeof v === 'number' ? (Number.isFinite(v) ? Number((100 * v).toFixed(4)) : null) : v)))}>
    ${about ? html`<p class="note">${about}</p>` : null}<${Bars} rows=${rows} dots=${dots} unit=${unit} />${children}</${Figure}>`;
}

// ---- model against model: a dot per template ----
const P = { left: 44, right: 26, top: 30, bottom: 42 };
// Sums of shares differ in their last digits where they are the same on paper.
const share = (k, n) => Number((k / n).toFixed(9));

function PairedSvg({ dots, a, b }) {
  const [box, width] = useWidth();
  const side = Math.min(width, 460);
  const x = (v) => P.left + v * (side - P.left - P.right);
  const y = (v) => P.top + (1 - v) * (side - P.top - P.bottom);
  return html`<div ref=${box}><svg class="drawn" width=${side} height=${side} role="img" aria-label="Accuracy of each template under both models; the Table button shows the numbers">
    <path class="axis-line" d="M${x(0)} ${y(1)}V${y(0)}H${x(1)}" /><path class="noise-line" d="M${x(0)} ${y(0)}L${x(1)} ${y(1)}" />
    ${[0, 0.5, 1].map((t) => html`<g key=${t}><text x=${x(t)} y=${y(0) + 16} text-anchor="middle">${100 * t} %</text><text x=${x(0) - 6} y=${y(t) + 4} text-anchor="end">${100 * t}</text></g>`)}
    <text x=${x(0.5)} y=${side - 6} text-anchor="middle">second: ${b}</text><text x=${x(0) - 6} y=${y(1) - 16}>first: ${a}</text>
    ${dots.map((d) => html`<circle key=${`${d.x}/${d.y}`} class=${d.y > d.x ? 'pdot up' : d.y < d.x ? 'pdot down' : 'pdot'} cx=${x(d.x)} cy=${y(d.y)} r=${Math.min(12, 3 + 1.5 * Math.sqrt(d.ids.length))}><title>${d.ids.slice(0, 8).join(', ')}${d.ids.length > 8 ? ` and ${d.ids.length - 8} more` : ''}</title></circle>`)}
  </svg></div>`;
}

export function Paired({ c, a, b, name }) {
  const at = new Map();
  for (const t of c.templates) {
    const [x, y] = [share(t.b, t.n), share(t.a, t.n)];
    const key = `${x}/${y}`;
    if (!at.has(key)) at.set(key, { x, y, ids: [] });
    at.get(key).ids.push(t.id);
  }
  return html`<${Figure} title="Template by template: ${conditionName(c)}" name="${name}-${c.variant}" header=${['template', 'answers', 'first right', 'second right']} rows=${c.templates.map((t) => [t.id, t.n, t.a, t.b])}>
    <${PairedSvg} dots=${[...at.values()]} a=${a} b=${b} />
    <p class="note">A dot for each pair of accuracies, larger where several templates share it. Above the diagonal the first is better.</p></${Figure}>`;
}

// ---- distractors: right, fell for the trap, otherwise wrong ----
export function TrapBars({ rows }) {
  return html`<div class="ebars" role=${rows.length ? 'list' : undefined}>${rows.map((r) => {
    const part = (v) => (100 * v) / Math.max(1, r.scored);
    const other = r.wrong - r.trap;
    return html`<div class="ebar" role="listitem" key=${r.label}><span class="ename">${r.label}</span>
      <svg class="eplot" viewBox="0 0 100 20" preserveAspectRatio="none" aria-hidden="true"><rect class="trap-right" x="0" y="4" width=${part(r.correct)} height="12" /><rect class="trap-fell" x=${part(r.correct)} y="4" width=${part(r.trap)} height="12" /><rect class="trap-other" x=${part(r.correct + r.trap)} y="4" width=${part(other)} height="12" /></svg>
      <span class="evalue">${r.correct} right, ${r.trap} trap, ${other} other</span></div>`;
  })}<p class="row note keys"><span><i class="key trap-right"></i>right</span><span><i class="key trap-fell"></i>fell for the trap</span><span><i class="key trap-other"></i>wrong otherwise</span></p></div>`;
}
