// How long reads took, in powers of two.
import { html } from '../lib/html.js';
import { count } from '../lib/format.js';
import { Figure } from '../ui/figure.js';

function time(us) {
  return us >= 1e6 ? `${(us / 1e6).toFixed(0)} s` : us >= 1e3 ? `${(us / 1e3).toFixed(0)} ms` : `${us} \u00b5s`;
}

function name(i, buckets) {
  const top = buckets[i].below_us;
  return top === null ? `${time(buckets[i - 1].below_us)} and more` : `below ${time(top)}`;
}

// The buckets between the first and the last that hold something.
function filled(buckets) {
  const used = buckets.map((b, i) => (b.reads ? i : -1)).filter((i) => i >= 0);
  return used.length ? buckets.map((b, i) => ({ name: name(i, buckets), reads: b.reads })).slice(used[0], used[used.length - 1] + 1) : [];
}

export function Latency({ buckets }) {
  const shown = filled(buckets);
  const all = shown.reduce((n, b) => n + b.reads, 0);
  const max = Math.max(...shown.map((b) => b.reads), 1);
  const rows = buckets.map((b, i) => [name(i, buckets), b.reads]);
  return html`<${Figure} title="Reads by latency" name="strobe-read-latency" header=${['latency', 'reads']} rows=${rows}>
    ${all ? html`<dl class="hist">${shown.map((b) => html`<dt>${b.name}</dt><dd><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class="ph0" x="0" y="0" width=${(b.reads / max) * 100} height="10" /></svg><span>${count(b.reads)}</span></dd>`)}</dl>`
    : html`<p class="note">Nothing has been read yet.</p>`}
    <p class="note">From asking to being seen: while computing goes on, a read that is complete waits to be noticed. ${count(all)} reads since the start.</p></${Figure}>`;
}
