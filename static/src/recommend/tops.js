// The person, the time and the filters; the top items at two times with their reasons.
import { html } from '../lib/html.js';
import { Figure } from '../ui/figure.js';
import { Field } from '../ui/basic.js';
import { ask, at, filter, hours, later, loadSimilar, now, people, person, similar, span, stats } from './data.js';
import { CAUSES, local, reason, when } from './words.js';

function go(e) {
  e.preventDefault();
  const name = new FormData(e.currentTarget).get('person').trim();
  if (!name) return;
  if (name === person.value) ask();
  else location.hash = `#/recommend/${encodeURIComponent(name)}`;
}

function setTime(e) {
  const t = new Date(e.target.value).getTime() / 1000;
  if (!Number.isFinite(t) || t < 0) return;
  at.value = t;
  ask();
}

const set = (s, v) => { s.value = v; ask(); };

export function Ask() {
  const t = at.value ?? stats.value.now;
  return html`<section class="card" aria-label="Whom and when"><form class="fields rec" onSubmit=${go}>
    <${Field} label="User"><input name="person" list="people" autocomplete="off" key=${person.value} defaultValue=${person.value} /><//>
    <datalist id="people">${people.value.map((p) => html`<option key=${p.user} value=${p.user}>${p.events} events</option>`)}</datalist>
    <${Field} label="Time in view"><input type="datetime-local" value=${local(t)} onChange=${setTime} /><//>
    <${Field} label="Items already taken"><select value=${filter.value.seen} onChange=${(e) => set(filter, { ...filter.value, seen: e.target.value })}>
      <option value="allow">may come again</option><option value="exclude">left out</option><option value="only">only those</option></select><//>
    <${Field} label="Not again within (hours)"><input type="number" min="0" max="10000" step="1" value=${filter.value.cooldown} onChange=${(e) => set(filter, { ...filter.value, cooldown: Math.max(0, Number(e.target.value) || 0) })} /><//>
    <${Field} label="Curve over"><select value=${span.value} onChange=${(e) => set(span, Number(e.target.value))}>${[3, 7, 14, 30, 84].map((d) => html`<option key=${d} value=${d}>${d} days</option>`)}</select><//>
    <div class="row"><button class="main">Show</button></div></form></section>`;
}

// How the rate comes about, as one bar.
function Bar({ x }) {
  let from = 0;
  return html`<svg class="bar-row" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">${CAUSES.map(([key, , cls]) => {
    const w = x.rate > 0 ? (100 * x.parts[key]) / x.rate : 0;
    const r = html`<rect key=${key} class=${cls} x=${from} y="0" width=${w} height="10" />`;
    from += w;
    return r;
  })}</svg>`;
}

function Item({ x, time }) {
  return html`<li><div class="row"><button class="link grow" onClick=${() => loadSimilar(x.item)} title="Similar items">${x.item}</button>
    <span class="soft">${x.rate < 0.01 ? x.rate.toExponential(1) : x.rate.toFixed(3)} / h</span></div><${Bar} x=${x} />
    <ul class="plain why">${(x.reasons || []).filter((r) => r.share >= 0.005).sort((a, b) => b.share - a.share).map((r) => html`<li key=${r.kind}>${reason(r, time)}</li>`)}</ul></li>`;
}

const HEADER = ['place', 'item', 'rate per hour', 'taste', 'own', 'friends', 'other items', 'reasons'];

function Top({ title, name, list, tools }) {
  const rows = list.items.map((x, i) => [i + 1, x.item, x.rate, x.parts.base, x.parts.own, x.parts.friends, x.parts.items, (x.reasons || []).map((r) => reason(r, list.at)).join('; ')]);
  const shown = rows.map((r) => [...r.slice(0, 2), ...r.slice(2, 7).map((v) => v.toPrecision(3)), r[7]]);
  return html`<${Figure} title=${title} name=${name} header=${HEADER} rows=${rows} shown=${shown} tools=${tools}>
    <p class="note">${when(list.at)}${list.in_model ? list.folded ? '; what came since the fit is folded in' : '' : '; new to the model, folded in from own events'}</p>
    ${list.items.length ? html`<ol class="tops">${list.items.map((x) => html`<${Item} key=${x.item} x=${x} time=${list.at} />`)}</ol>` : html`<p class="note">No item passes the filters.</p>`}<//>`;
}

export function Tops() {
  const slider = html`<label class="inline">${hours.value} h later<input type="range" min="1" max="168" value=${hours.value} aria-label="Hours later"
    onInput=${(e) => { hours.value = Number(e.target.value); }} onChange=${() => ask()} /></label>`;
  return html`<div class="keys row">${CAUSES.map(([, label, cls]) => html`<span key=${label}><span class="key ${cls}"></span>${label}</span>`)}</div>
    <div class="two"><${Top} title="Top items now" name="top-now" list=${now.value} />
      ${later.value ? html`<${Top} title="Top items later" name="top-later" list=${later.value} tools=${slider} />` : null}</div>
    ${similar.value ? html`<section class="card" aria-label="Similar items"><h3>Items like ${similar.value.item}</h3>
      ${similar.value.items.length ? html`<ul class="plain chips">${similar.value.items.map((s) => html`<li key=${s.item}><button class="small" onClick=${() => loadSimilar(s.item)}>${s.item}</button> <span class="soft">${s.similarity.toFixed(2)}</span></li>`)}</ul>` : html`<p class="note">There is no other item.</p>`}</section>` : null}`;
}
