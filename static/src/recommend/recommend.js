// Recommend: what now, why, and when will they be back.
import { useEffect } from 'preact/hooks';
import { html } from '../lib/html.js';
import { compact } from '../lib/format.js';
import { Alert, Tile } from '../ui/basic.js';
import { askError, choosePerson, comeback, fault, influence, now, person, stats, start } from './data.js';
import { Ask, Tops } from './tops.js';
import { Back, Curve } from './curves.js';
import { Fit, Health, Models } from './models.js';
import { gap } from './words.js';

function Tiles() {
  const s = stats.value;
  const r = comeback.value;
  return html`<div class="tiles"><${Tile} label="Events" value=${compact(s.events)} note=${s.merged ? `${compact(s.merged)} repeated, ${compact(s.late)} late` : s.late ? `${compact(s.late)} late` : 'durable'} />
    <${Tile} label="Users and items" value=${`${compact(s.users)} / ${compact(s.items)}`} />
    <${Tile} label="Model in use" value=${s.active ? s.active.split('-')[0].toUpperCase() : 'none'} note=${s.active || 'fit one below'} />
    <${Tile} label="Next event, half of the time within" value=${r ? gap(r.median_hours) : 'unknown'} note=${r ? `of ${r.user}` : ''} /></div>`;
}

function Friends() {
  const f = influence.value;
  if (!f || !(f.by.length || f.on.length)) return null;
  const list = (title, edges) => html`<div><h4>${title}</h4>${edges.length ? html`<ul class="plain">${edges.slice(0, 6).map((e) => html`<li key=${e.user}><a href="#/recommend/${encodeURIComponent(e.user)}">${e.user}</a> <span class="soft">${e.weight.toFixed(3)} events each</span></li>`)}</ul>` : html`<p class="note">Nobody.</p>`}</div>`;
  return html`<section class="card" aria-label="Influence"><h3>Influence</h3><div class="two">${list(`Who draws ${f.user} along`, f.by)}${list(`Whom ${f.user} draws along`, f.on)}</div>
    <p class="note">How many events of one person an event of the other causes, by the model.</p></section>`;
}

export function Recommend({ arg }) {
  useEffect(start, []);
  useEffect(() => {
    let name = '';
    try { name = decodeURIComponent(arg); } catch { name = arg; }
    if (name && name !== person.value) choosePerson(name);
  }, [arg]);
  const s = stats.value;
  if (!s) return html`<h2>Recommend</h2>${fault.value ? html`<${Alert} error=${fault.value} />` : html`<p class="note">Asking the recommender.</p>`}`;
  return html`<h2>Recommend</h2><${Alert} error=${fault.value} />
    ${s.fault ? html`<${Alert} warn=${true}>The active model cannot be used: ${s.fault}<//>` : null}
    <${Tiles} />
    ${s.events && s.active ? null : html`<${Fit} />`}
    ${s.active && s.events ? html`<${Ask} /><${Alert} error=${askError.value} />${person.value && now.value ? html`<${Curve} /><${Tops} /><${Back} /><${Friends} />` : null}` : null}
    <${Models} /><${Health} />
    ${s.events && s.active ? html`<${Fit} />` : null}`;
}
