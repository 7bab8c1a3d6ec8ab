// The waterfall of a traced request: a bar per pass, stacked by phase; the chosen pass by layers.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { bytes, count, span } from '../lib/format.js';
import { Figure } from '../ui/figure.js';
import { PHASES } from './data.js';

const HEIGHT = 180;
const WIDE = 24; // passes that there is room for at least
const STACK = [...PHASES.map(([name]) => name), 'other'];

// Milliseconds of a pass by phase; other: embedding, output, sampling of the pass.
export function phasesOf(pass) {
  const sums = PHASES.map(([, key]) => pass.layers.reduce((n, l) => n + l[key], 0) / 1e6);
  return [...sums, Math.max(0, pass.total_ns / 1e6 - sums.reduce((a, b) => a + b, 0))];
}

function total(parts) {
  return parts.reduce((a, b) => a + b, 0);
}

// The scale is that of tokens: a prompt takes many times as long, now and then a pass is disturbed, and their bars are cut off.
function scale(passes, parts) {
  const decode = parts.filter((p, i) => passes[i].phase === 'decode').map(total);
  const all = (decode.length ? decode : parts.map(total)).sort((a, b) => a - b);
  return Math.max(Math.min(all[all.length - 1], 4 * all[all.length >> 1]), 1e-6) * 1.08;
}

// One path per phase: a thousand passes stay five elements.
function paths(parts, max) {
  const out = STACK.map(() => '');
  parts.forEach((p, i) => {
    let y = HEIGHT;
    p.forEach((v, k) => {
      const top = Math.max(0, y - (v / max) * HEIGHT);
      if (y - top > 0.05) out[k] += `M${i + 0.08} ${y.toFixed(2)}V${top.toFixed(2)}H${i + 0.92}V${y.toFixed(2)}z`;
      y = top;
    });
  });
  return out;
}

export function Legend() {
  return html`<p class="row note keys">${STACK.map((name, i) => html`<span><i class="key ph${i}"></i>${name}</span>`)}</p>`;
}

function Bars({ passes, parts, at, max, choose }) {
  const places = Math.max(passes.length, WIDE);
  const cut = parts.map((p, i) => (total(p) > max ? i : -1)).filter((i) => i >= 0);
  const pick = (e) => {
    const box = e.currentTarget.getBoundingClientRect();
    choose(Math.min(passes.length - 1, Math.max(0, Math.floor(((e.clientX - box.left) / box.width) * places))));
  };
  return html`<div class="axis"><span>${span(max)}</span><span>0</span></div>
    <svg class="bars" viewBox="0 0 ${places} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label="Time of each pass by phase; the Table button shows the numbers" onClick=${pick}>
      <rect class="chosen" x=${at} y="0" width="1" height=${HEIGHT} />
      ${paths(parts, max).map((d, i) => html`<path key=${i} class="ph${i}" d=${d} />`)}
      ${cut.map((i) => html`<path key="cut${i}" class="cut" d="M${i} 5L${i + 1} 9V12L${i} 8z" />`)}
    </svg>`;
}

function LayerBar({ layer, max }) {
  let x = 0;
  return html`<svg class="bar-row" viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true">${PHASES.map(([, key], i) => {
    const w = (layer[key] / max) * 1000;
    x += w;
    return html`<rect key=${key} class="ph${i}" x=${x - w} y="0" width=${w} height="10" />`;
  })}</svg>`;
}

function Layers({ pass, packed }) {
  const max = Math.max(...pass.layers.map((l) => PHASES.reduce((n, [, key]) => n + l[key], 0)), 1);
  return html`<div class="scroll tall" tabindex="0" role="region" aria-label="Layers of the chosen pass"><table class="layers">
    <thead><tr><th class="num">layer</th><th>time</th>${PHASES.map(([name]) => html`<th class="num">${name}</th>`)}
      ${packed ? html`<th class="num">missed / needed</th>` : null}<th class="num">read</th><th class="num">reads</th></tr></thead>
    <tbody>${pass.layers.map((l, i) => html`<tr key=${i}><td class="num">${i}</td><td class="grow"><${LayerBar} layer=${l} max=${max} /></td>
      ${PHASES.map(([, key]) => html`<td class="num">${span(l[key] / 1e6)}</td>`)}
      ${packed ? html`<td class="num">${count(l.missed)} / ${count(l.needed)}</td>` : null}<td class="num">${bytes(l.bytes)}</td><td class="num">${count(l.reads)}</td></tr>`)}</tbody></table></div>`;
}

function what(pass) {
  const shared = pass.batch_tokens > pass.own_tokens ? `, shared with ${pass.batch_tokens - pass.own_tokens} tokens of other requests` : '';
  const tokens = (n) => `${n} token${n === 1 ? '' : 's'}`;
  if (pass.phase === 'prompt') return `${tokens(pass.own_tokens)} of the prompt${shared}`;
  return pass.own_tokens > 1 ? `${tokens(pass.own_tokens - 1)} guessed, ${tokens(pass.emitted_tokens)} out${shared}` : `one token${shared}`;
}

// tools: buttons; children: said below the chosen pass.
export function Timeline({ trace, tools, children }) {
  const [chosen, choose] = useState(null);
  const { passes } = trace;
  const parts = passes.map(phasesOf);
  const max = scale(passes, parts);
  const first = passes.findIndex((p) => p.phase === 'decode');
  const at = Math.min(passes.length - 1, chosen === null ? Math.max(0, first) : chosen);
  const pass = passes[at];
  const packed = pass.layers.some((l) => l.needed);
  const header = ['pass', 'phase', 'tokens out', ...STACK.map((s) => `${s} ms`), 'total ms', 'bytes', 'reads'];
  const rows = passes.map((p, i) => [i + 1, p.phase, p.emitted_tokens, ...parts[i], p.total_ns / 1e6,
    p.layers.reduce((n, l) => n + l.bytes, 0), p.layers.reduce((n, l) => n + l.reads, 0)]);
  return html`<${Figure} title="Where each token's time went" name="strobe-trace-${trace.id}" header=${header} rows=${rows} tools=${tools}>
    <${Legend} /><div class="plot"><${Bars} passes=${passes} parts=${parts} at=${at} max=${max} choose=${choose} /></div>
    ${parts.some((p) => total(p) > max) ? html`<p class="note">A bar with a notch is cut off: it is taller than the scale of the tokens.</p>` : null}
    <label class="pick">Pass ${at + 1} of ${passes.length}: ${what(pass)}, ${span(pass.total_ns / 1e6)}
      <input type="range" min="0" max=${passes.length - 1} value=${at} onInput=${(e) => choose(Number(e.target.value))} /></label>
    <p class="note">${parts[at].map((v, i) => `${STACK[i]} ${span(v)}`).join(', ')}. ${children}</p>
    <${Layers} pass=${pass} packed=${packed} /></${Figure}>`;
}
