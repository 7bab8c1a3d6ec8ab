// Training: start one, watch it, stop it.
import { useEffect } from 'preact/hooks';
import { html } from '../lib/html.js';
import { compact, percent } from '../lib/format.js';
import { Alert } from '../ui/basic.js';
import { choose, isOver, jobs, listError, loadOlder, more, startList } from './data.js';
import { Form } from './form.js';
import { Run, stateName } from './run.js';

const shown = (v, digits) => (Number.isFinite(v) ? v.toFixed(digits) : '');

// What a job is about, in few words.
function about(j) {
  const p = j.params;
  return p.data || p.base || Object.values(p).find((v) => typeof v === 'string') || '';
}

function Row({ j, chosen }) {
  const p = j.progress || {};
  return html`<tr class=${chosen ? 'chosen' : ''}><td><a href="#/training/${j.id}" aria-current=${chosen ? 'true' : undefined}>${j.id}</a></td>
    <td class="state-${j.state}">${stateName(j)}</td><td>${j.kind}</td><td class="cut" title=${about(j)}>${about(j)}</td>
    <td class="num">${Number.isFinite(p.share) && !isOver(j) ? html`<progress class="bar" max="1" value=${p.share} aria-label="progress of ${j.id}"></progress>` : Number.isFinite(p.share) ? percent(p.share) : ''}</td>
    <td class="num">${Number.isFinite(p.tokens) ? compact(p.tokens) : ''}</td><td class="num">${shown(p.loss, 3)}</td><td class="num">${shown(p.val_loss, 3)}</td>
    <td>${new Date(j.created * 1000).toLocaleString('en-GB')}</td></tr>`;
}

function List({ chosen }) {
  if (!jobs.value) return listError.value ? null : html`<p class="note">Asking for the jobs.</p>`;
  if (!jobs.value.length) return html`<section class="card"><h3>Jobs</h3><p class="note">No job yet. A training started above, or over the API (<code>POST /api/train/pretrain</code>), appears here and goes on when the server is restarted.</p></section>`;
  return html`<section class="card" aria-label="Jobs"><h3>Jobs</h3><div class="scroll tall" tabindex="0" role="region" aria-label="Jobs, table"><table>
    <thead><tr><th>job</th><th>state</th><th>kind</th><th>data</th><th class="num">progress</th><th class="num">tokens</th><th class="num">loss</th><th class="num">held out</th><th>queued</th></tr></thead>
    <tbody>${jobs.value.map((j) => html`<${Row} key=${j.id} j=${j} chosen=${j.id === chosen} />`)}</tbody></table></div>
    ${more.value ? html`<button class="small" onClick=${loadOlder}>Older jobs</button>` : null}</section>`;
}

export function Training({ arg }) {
  useEffect(startList, []);
  useEffect(() => {
    choose(arg);
    return () => choose('');
  }, [arg]);
  return html`<h2>Training</h2>
    <${Form} open=${!arg} onMade=${(id) => { location.hash = `#/training/${id}`; }} />
    <${Alert} error=${listError.value} />
    <${List} chosen=${arg} />
    ${arg ? html`<${Run} />` : null}`;
}
