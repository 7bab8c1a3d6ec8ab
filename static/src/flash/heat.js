// Layers against time: what each layer missed, read or waited for per pass. One path per shade.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { bytes, count, ms, percent } from '../lib/format.js';
import { Field } from '../ui/basic.js';
import { Figure } from '../ui/figure.js';

const SHADES = 8;
const WIDE = 24; // columns that the map has room for at least

const VALUES = {
  wait: { name: 'waiting per pass', of: (l, n) => l.wait_ns / 1e6 / n, text: ms },
  missed: { name: 'neurons missed per pass', of: (l, n) => l.missed / n, text: (v) => count(Math.round(v)) },
  share: { name: 'share missed', of: (l) => (l.needed ? l.missed / l.needed : 0), text: percent },
  bytes: { name: 'bytes read per pass', of: (l, n) => l.bytes / n, text: (v) => bytes(Math.round(v)) },
};

function shades(table, max) {
  const out = Array.from({ length: SHADES }, () => '');
  table.forEach((column, x) => column.forEach((v, y) => {
    const k = max > 0 ? Math.min(SHADES - 1, Math.floor((v / max) * SHADES)) : 0;
    out[k] += `M${x + 0.03} ${y + 0.05}h.94v.9h-.94z`;
  }));
  return out;
}

function Map_({ table, max, label }) {
  const nLayer = table[0].length;
  return html`<div class="plot"><div class="axis"><span>layer 0</span><span>${nLayer - 1}</span></div>
    <svg class="heat" viewBox="0 0 ${Math.max(table.length, WIDE)} ${nLayer}" preserveAspectRatio="none" role="img" aria-label="${label} by layer and time; the Table button shows the numbers">
      ${shades(table, max).map((d, i) => html`<path key=${i} class="heat${i}" d=${d} />`)}</svg></div>`;
}

// columns: {label, passes, layers: [{needed, missed, bytes, wait_ns}]}
export function Heat({ columns, traced }) {
  const [source, setSource] = useState('live');
  const [value, setValue] = useState('wait');
  const shown = source === 'trace' && traced ? traced : columns;
  const v = VALUES[value];
  const table = shown.map((c) => c.layers.map((l) => v.of(l, c.passes)));
  const max = Math.max(0, ...table.flat());
  const header = ['time', ...(table[0] || []).map((_, i) => `layer ${i}`)];
  const rows = shown.map((c, i) => [c.label, ...table[i]]);
  const packed = shown.some((c) => c.layers.some((l) => l.needed));
  return html`<${Figure} title="Layers over time" name="strobe-layers" header=${header} rows=${rows}>
    <div class="row pickers"><${Field} label="Shows"><select value=${value} onChange=${(e) => setValue(e.target.value)}>
        ${Object.entries(VALUES).filter(([k]) => packed || !['missed', 'share'].includes(k)).map(([k, x]) => html`<option key=${k} value=${k}>${x.name}</option>`)}</select></${Field}>
      <${Field} label="Columns"><select value=${source} onChange=${(e) => setSource(e.target.value)}>
        <option value="live">all requests, as they run</option>${traced ? html`<option value="trace">passes of the trace</option>` : null}</select></${Field}></div>
    ${table.length ? html`<${Map_} table=${table} max=${max} label=${v.name} />
      <p class="row note keys"><span>${v.name}: 0</span><svg class="ramp" viewBox="0 0 ${SHADES} 1" preserveAspectRatio="none" aria-hidden="true">${Array.from({ length: SHADES }, (_, i) => html`<rect key=${i} class="heat${i}" x=${i} y="0" width="1" height="1" />`)}</svg><span>${v.text(max)}</span>
        <span>${shown === columns ? 'a column for every two seconds in which something ran; the first: all before' : 'a column for every pass'}</span></p>`
    : html`<p class="note">Nothing has run yet.</p>`}</${Figure}>`;
}
