// Evals: runs, one run, two runs against each other, and the template workbench.
import { useEffect } from 'preact/hooks';
import { html } from '../lib/html.js';
import { count, percent } from '../lib/format.js';
import { Alert } from '../ui/basic.js';
import { chooseRun, listError, loadOlder, more, runs, startList } from './data.js';
import { Form } from './form.js';
import { Compare } from './compare.js';
import { Run, modelName, stateClass, stateName } from './run.js';
import { Workbench } from './workbench.js';

function Row({ r }) {
  const c = r.counts || {};
  const over = (c.done || 0) + (c.failed || 0);
  return html`<tr><td class="cut"><a href="#/evals/${r.id}">${r.name || r.id}</a></td><td class=${stateClass(r)}>${stateName(r)}</td><td class="cut" title=${modelName(r)}>${modelName(r)}</td>
    <td class="num">${['running', 'ready'].includes(r.state) ? html`<progress class="bar" max="1" value=${c.total ? over / c.total : 0} aria-label="progress of ${r.name || r.id}"></progress>` : c.total ? percent(over / c.total) : ''}</td>
    <td class="num">${count(c.total)}</td><td class="num">${c.done ? percent((c.correct || 0) / c.done) : ''}</td><td class="num">${count(c.failed)}</td><td>${r.created ? new Date(r.created * 1000).toLocaleString('en-GB') : ''}</td></tr>`;
}

function List() {
  if (!runs.value) return listError.value ? null : html`<p class="note">Asking for the runs.</p>`;
  if (!runs.value.length) return html`<section class="card"><h3>Runs</h3><p class="note">No run yet. One started above, or with <code>strobe eval run</code> on the same data directory, appears here.</p></section>`;
  return html`<section class="card" aria-label="Runs"><h3>Runs</h3><div class="scroll tall" tabindex="0" role="region" aria-label="Runs, table"><table>
    <thead><tr><th>run</th><th>state</th><th>model</th><th class="num">progress</th><th class="num">questions</th><th class="num">right</th><th class="num">failed</th><th>made</th></tr></thead>
    <tbody>${runs.value.map((r) => html`<${Row} key=${r.id} r=${r} />`)}</tbody></table></div>
    ${more.value ? html`<button class="small" onClick=${loadOlder}>Older runs</button>` : null}</section>`;
}

const TABS = [['', 'Runs'], ['compare', 'Compare'], ['templates', 'Templates']];

export function Evals({ arg }) {
  const [first = '', ...rest] = arg.split('/');
  const id = ['', 'compare', 'templates'].includes(first) ? '' : first;
  useEffect(startList, []);
  useEffect(() => {
    chooseRun(id);
    return () => chooseRun('');
  }, [id]);
  return html`<h2>Evals</h2><nav class="tabs" aria-label="Parts of Evals">${TABS.map(([t, title]) => html`<a key=${t} href="#/evals${t ? `/${t}` : ''}" aria-current=${(id ? '' : first) === t ? 'page' : undefined}>${title}</a>`)}</nav>
    ${first === 'compare' ? html`<${Compare} ids=${rest} />`
    : first === 'templates' ? html`<${Workbench} arg=${rest[0] ? decodeURIComponent(rest[0]) : ''} />`
      : id ? html`<${Run} key=${id} rest=${rest} />`
        : html`<${Form} open=${false} onMade=${(made) => { location.hash = `#/evals/${made}`; }} /><${Alert} error=${listError.value} /><${List} />`}`;
}
