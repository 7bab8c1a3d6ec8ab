// Layers: how often each is big, by budget; and the way of every token, in step with the text.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { percent } from '../lib/format.js';
import { Field } from '../ui/basic.js';
import { Figure } from '../ui/figure.js';
import { budget, look, sequence } from './data.js';

const SHADES = 8;
const shade = (v) => Math.min(SHADES - 1, Math.floor(v * SHADES));

function HeatMap({ rows, label }) {
  const nLayer = rows.find((r) => r).length;
  const paths = Array.from({ length: SHADES }, () => '');
  rows.forEach((r, b) => (r || []).forEach((v, l) => { paths[shade(v)] += `M${l + 0.03} ${rows.length - 1 - b + 0.05}h.94v.9h-.94z`; }));
  return html`<div class="plot"><div class="axis"><span>${rows.length - 1} big</span><span>0 big</span></div>
    <svg class="heat" viewBox="0 0 ${nLayer} ${rows.length}" preserveAspectRatio="none" role="img" aria-label="${label}: share of tokens for which a layer is big, layers from left to right; the Table button shows the numbers">
      ${paths.map((d, i) => html`<path key=${i} class="heat${i}" d=${d} />`)}</svg></div>`;
}

export function Usage({ figure, which }) {
  const rows = figure[which];
  const title = which === 'oracle' ? 'Layers that the oracle makes big' : 'Layers that the router makes big';
  if (!rows.some((r) => r)) return html`<section class="card" aria-label=${title}><h3>${title}</h3><p class="note">This model has no router: <code>strobe duo router</code> trains one.</p></section>`;
  const table = rows.map((r, b) => [b, ...(r || Array(figure.layers).fill(null))]);
  return html`<${Figure} title=${title} name="strobe-duo-${which}" header=${['big layers', ...Array.from({ length: figure.layers }, (_, l) => `layer ${l}`)]} rows=${table}>
    <${HeatMap} rows=${rows} label=${title} /><p class="row note keys"><span>layer 0 to ${figure.layers - 1}; never</span><svg class="ramp" viewBox="0 0 ${SHADES} 1" preserveAspectRatio="none" aria-hidden="true">${Array.from({ length: SHADES }, (_, i) => html`<rect key=${i} class="heat${i}" x=${i} y="0" width="1" height="1" />`)}</svg><span>always</span></p></${Figure}>`;
}

const WAY = { b: 'big', s: 'small', k: 'skip' };
const COLOURS = {
  gap: { name: 'what the best route takes away', of: (t) => t.gap },
  small: { name: 'loss with all small', of: (t) => t.small },
  big: { name: 'loss with all big', of: (t) => t.big },
  oracle: { name: "oracle's loss at this budget", of: (t) => t.oracle },
};
const STEPS = [0.1, 0.5, 1, 2]; // nats
const level = (v) => STEPS.filter((s) => v >= s).length;
const visible = (text) => (text === '' ? '\u2205' : text.trim() ? text.replaceAll('\n', '\u21b5') : text.replaceAll('\n', '\u21b5').replaceAll(' ', '\u2423'));

function Raster({ tokens, policy, at, label }) {
  const ways = { b: '', s: '', k: '' };
  const layers = tokens[0].oracle_route.length;
  tokens.forEach((t, x) => [...(t[policy] || '')].forEach((w, l) => { ways[w] += `M${x + 0.04} ${layers - 1 - l + 0.06}h.92v.88h-.92z`; }));
  return html`<div class="plot"><div class="axis"><span>layer ${layers - 1}</span><span>0</span></div>
    <svg class="heat raster" viewBox="0 0 ${Math.max(tokens.length, 24)} ${layers}" preserveAspectRatio="none" role="img" aria-label="${label}: the way of each token through each layer; the Table button shows the routes">
      <path class="heat7" d=${ways.b} /><path class="heat1" d=${ways.s} />
      ${at >= 0 ? html`<rect class="cursor" x=${at} y="0" width="1" height=${layers} />` : null}</svg></div>`;
}

function About({ token, at }) {
  if (!token) return html`<p class="note">Point at a token, or reach it with the Tab key: its column above is marked.</p>`;
  const route = (r) => (r ? [...r].map((w, l) => (w === 'b' ? l : null)).filter((l) => l !== null).join(', ') || 'none' : 'no router');
  return html`<p>Token ${at + 1} <code>${visible(token.text)}</code>${token.class ? ` (${token.class})` : ''}: small ${token.small.toFixed(3)}, big ${token.big.toFixed(3)}, oracle ${token.oracle === null ? 'not searched' : token.oracle.toFixed(3)} nats;
    ${' '}${token.near_ties} routes within 0.01 nat of the best. Big layers, oracle: ${route(token.oracle_route)}; router: ${route(token.router_route)}.</p>`;
}

export function Tokens({ figure, layers }) {
  const [at, setAt] = useState(-1);
  const [by, setBy] = useState('gap');
  const [policy, setPolicy] = useState('oracle_route');
  const { tokens } = figure;
  const hasRouter = tokens.some((t) => t.router_route);
  const way = policy === 'router_route' && !hasRouter ? 'oracle_route' : policy;
  const header = ['token', 'text', 'class', 'small', 'big', 'oracle', 'router', 'gap', 'oracle route', 'router route'];
  const rows = tokens.map((t, i) => [i + 1, t.text, t.class, t.small, t.big, t.oracle, t.router, t.gap, t.oracle_route, t.router_route]);
  return html`<${Figure} title="Tokens and their routes" name="strobe-duo-tokens" header=${header} rows=${rows} shown=${rows.map((r) => r.map((v, i) => (i === 1 ? visible(v) : v)))}>
    <div class="row pickers"><${Field} label="Budget"><select value=${budget.value} onChange=${(e) => look({ budget: Number(e.target.value) })}>
        ${Array.from({ length: layers + 1 }, (_, b) => html`<option key=${b} value=${b}>${b} of ${layers} layers big</option>`)}</select></${Field}>
      <${Field} label="Routes of"><select value=${way} onChange=${(e) => setPolicy(e.target.value)}><option value="oracle_route">the oracle</option>${hasRouter ? html`<option value="router_route">the router</option>` : null}</select></${Field}>
      <${Field} label="Colour of tokens"><select value=${by} onChange=${(e) => setBy(e.target.value)}>${Object.entries(COLOURS).map(([k, c]) => html`<option key=${k} value=${k}>${c.name}</option>`)}</select></${Field}>
      ${figure.sequences > 1 ? html`<${Field} label="Sequence"><input type="number" min="1" max=${figure.sequences} value=${sequence.value + 1} onChange=${(e) => look({ sequence: Math.max(0, Math.min(figure.sequences, Number(e.target.value)) - 1) })} /></${Field}>` : null}</div>
    <${Raster} tokens=${tokens} policy=${way} at=${at} label=${way === 'oracle_route' ? "Oracle's routes" : "Router's routes"} />
    <p class="row note keys"><svg class="ramp" viewBox="0 0 2 1" preserveAspectRatio="none" aria-hidden="true"><rect class="heat7" width="1" height="1" /><rect class="heat1" x="1" width="1" height="1" /></svg><span>${WAY.b}, ${WAY.s}; blank: ${WAY.k}</span></p>
    <p class="legend row note">${COLOURS[by].name}: ${['under 0.1', '0.1', '0.5', '1', '2 nats and more'].map((t, i) => html`<span key=${i} class="tok p${i}">${t}</span>`)}</p>
    <div class="strip" role="group" aria-label="Tokens; choose one to see its routes">${tokens.map((t, i) => html`<button key=${i} class="tok p${level(COLOURS[by].of(t) || 0)}" aria-pressed=${i === at}
      onMouseEnter=${() => setAt(i)} onFocus=${() => setAt(i)} onClick=${() => setAt(i)}>${visible(t.text)}</button>`)}</div>
    <div aria-live="polite"><${About} token=${tokens[at]} at=${at} /></div></${Figure}>`;
}

export function Agreement({ figure }) {
  if (!figure.router) return null;
  const rows = figure.layers.map((l) => [l.layer, l.accuracy, l.kappa, l.oracle_share, l.router_share]);
  const shown = rows.map((r) => [r[0], percent(r[1]), r[2] === null ? '' : r[2].toFixed(3), percent(r[3]), percent(r[4])]);
  const best = figure.layers.reduce((m, l) => Math.max(m, l.kappa === null ? 0 : l.kappa), 0);
  return html`<${Figure} title="Router against oracle" name="strobe-duo-agreement" header=${['layer', 'same choice', 'kappa', 'oracle big', 'router big']} rows=${rows} shown=${shown}>
    <dl class="hist">${figure.layers.map((l) => html`<dt key=${l.layer}>layer ${l.layer}</dt><dd><svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true"><rect class="heat5" width=${100 * l.accuracy} height="1" /></svg><span>${percent(l.accuracy)}</span></dd>`)}</dl>
    <p class="note">Same choice of big or small at ${figure.budget} big layers; chance is taken out in kappa (at most ${best.toFixed(3)} here).${figure.spend_rank_correlation === null ? '' : ` Rank correlation of the router's spending with what compute takes away: ${figure.spend_rank_correlation.toFixed(3)}.`}</p></${Figure}>`;
}
