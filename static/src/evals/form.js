// A new run: which model, which variants, how many, and what is claimed beforehand.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { count } from '../lib/format.js';
import { live } from '../lib/live.js';
import { Alert, Field } from '../ui/basic.js';
import { submit } from './data.js';

const VARIANTS = [['original', 'original'], ['names', 'names'], ['numbers', 'numbers'], ['surface', 'surface forms'], ['both', 'names and numbers'], ['noop', 'with a clause that changes nothing'], ['noop-control', 'that clause without its number'],
  ['both@-1', 'one clause less (level \u22121)'], ['both@1', 'one clause more (level +1)'], ['both@2', 'two clauses more (level +2)']];
const START = { name: '', where: 'engine', endpoint: '', model: '', key_env: '', api: 'chat', count: '10', seed: '1', max_tokens: '512', temperature: '0', repeats: '1', self_test: '0', reuse: false, only: '', primary: 'original:both', margin: '5', chosen: ['original', 'both', 'noop'] };

function body(f) {
  const b = { variants: f.chosen, count: Number(f.count), seed: Number(f.seed), max_tokens: Number(f.max_tokens), temperature: Number(f.temperature) };
  if (f.name.trim()) b.name = f.name.trim();
  if (f.where === 'endpoint') {
    b.endpoint = f.endpoint.trim();
    b.model = f.model.trim();
    b.api = f.api;
    if (f.key_env.trim()) b.key_env = f.key_env.trim();
  }
  const only = f.only.split(/[\s,]+/).filter(Boolean);
  if (only.length) b.templates = only;
  if (Number(f.repeats) > 1) b.repeats = Number(f.repeats);
  if (Number(f.self_test) > 0) b.self_test = Number(f.self_test);
  if (f.reuse) b.reuse = true;
  if (f.primary) b.primary = { contrast: f.primary, margin: Number(f.margin) / 100 };
  return b;
}

const contrasts = (chosen) => {
  const generated = chosen.filter((v) => v !== 'original' && !v.includes('@'));
  return [...(chosen.includes('original') ? generated.map((v) => `original:${v}`) : []), ...(chosen.includes('both') ? generated.filter((v) => v !== 'both').map((v) => `${v}:both`) : []),
    ...(chosen.includes('noop') && chosen.includes('noop-control') ? ['noop:noop-control'] : [])];
};

export function Form({ open, onMade }) {
  const [f, setForm] = useState(START);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const set = (name) => (e) => setForm({ ...f, [name]: e.target.value });
  const toggle = (v) => (e) => setForm({ ...f, chosen: VARIANTS.map(([id]) => id).filter((id) => (id === v ? e.target.checked : f.chosen.includes(id))) });
  const wrong = (name) => (error && error.param === name ? { 'aria-invalid': 'true', 'aria-describedby': 'eval-error' } : {});
  const send = async (e) => {
    e.preventDefault();
    setBusy(true);
    setError(null);
    try {
      onMade((await submit(body(f))).id);
    } catch (err) {
      setError(err);
    }
    setBusy(false);
  };
  const sets = f.chosen.reduce((n, v) => n + (v === 'original' ? 1 : Number(f.count) || 0), 0);
  const repeats = Number(f.repeats) || 1;
  const declared = contrasts(f.chosen);
  const engine = live.value.model;
  return html`<details class="card new" open=${open}><summary><h3>New run</h3></summary><form class="train" aria-label="New run" onSubmit=${send}>
    <div class="fields">
      <${Field} label="Name, for people"><input value=${f.name} maxlength="120" onInput=${set('name')} ...${wrong('name')} /></${Field}>
      <${Field} label="Model"><select value=${f.where} onChange=${set('where')}><option value="engine">${engine ? `of this server: ${engine.id}` : 'of this server (none is loaded)'}</option><option value="endpoint">behind an OpenAI-compatible address</option></select></${Field}>
      <${Field} label="Sets of each variant"><input type="number" min="1" max="100000" required value=${f.count} onInput=${set('count')} ...${wrong('count')} /></${Field}>
    </div>
    ${f.where === 'endpoint' ? html`<div class="fields"><${Field} label="Address, up to /v1"><input type="url" required placeholder="http://127.0.0.1:8000/v1" value=${f.endpoint} onInput=${set('endpoint')} ...${wrong('endpoint')} /></${Field}>
      <${Field} label="Model's name there"><input required value=${f.model} onInput=${set('model')} ...${wrong('model')} /></${Field}>
      <${Field} label="Variable that holds the key"><input placeholder="OPENAI_API_KEY" value=${f.key_env} onInput=${set('key_env')} ...${wrong('key_env')} /></${Field}></div>` : null}
    <fieldset class="axes row"><legend>Variants</legend>${VARIANTS.map(([id, title]) => html`<label key=${id} class="tick"><input type="checkbox" checked=${f.chosen.includes(id)} onChange=${toggle(id)} /> ${title}</label>`)}</fieldset>
    <div class="fields"><${Field} label="Claim declared beforehand"><select value=${declared.includes(f.primary) ? f.primary : ''} onChange=${set('primary')}><option value="">none</option>${declared.map((c) => html`<option key=${c} value=${c}>${c.replace(':', ' against ')}</option>`)}</select></${Field}>
      <${Field} label="Margin of \u201cno difference\u201d, points"><input type="number" min="0.1" max="50" step="any" value=${f.margin} onInput=${set('margin')} /></${Field}></div>
    <details><summary>More settings</summary><div class="fields">
      <${Field} label="Only these templates"><input placeholder="all; or ids with commas" value=${f.only} onInput=${set('only')} ...${wrong('templates')} /></${Field}>
      <${Field} label="Seed of the questions"><input type="number" min="0" max="9007199254740991" required value=${f.seed} onInput=${set('seed')} ...${wrong('seed')} /></${Field}>
      <${Field} label="Longest answer, tokens"><input type="number" min="1" max="1000000" required value=${f.max_tokens} onInput=${set('max_tokens')} ...${wrong('max_tokens')} /></${Field}>
      <${Field} label="Temperature"><input type="number" min="0" max="2" step="any" required value=${f.temperature} onInput=${set('temperature')} ...${wrong('temperature')} /></${Field}>
      <${Field} label="Answers to each question"><input type="number" min="1" max="100" required value=${f.repeats} onInput=${set('repeats')} ...${wrong('repeats')} /></${Field}>
      <${Field} label="Self-test, questions"><input type="number" min="0" max="256" required value=${f.self_test} onInput=${set('self_test')} ...${wrong('self_test')} aria-describedby="eval-self-test" /></${Field}>
    </div>
    <label class="tick"><input type="checkbox" checked=${f.reuse} onChange=${(e) => setForm({ ...f, reuse: e.target.checked })} /> Take answers that other runs here have to the same questions, asked in the same way</label>
    <p class="note" id="eval-self-test">The self-test first asks that many questions at 1, 8 and 32 at a time: are the answers the same? 0 leaves it out.${repeats > 1 && !(Number(f.temperature) > 0) ? ' At temperature 0 repeated answers tell nothing but whether the model is steady.' : ''}</p></details>
    <p class="note">${count(sets)} question${sets === 1 ? '' : 's'} per template${repeats > 1 ? `, each asked ${count(repeats)} times` : ''}. A key is read from the server's environment, never sent or stored.</p>
    <div id="eval-error"><${Alert} error=${error} /></div>
    <button class="main" disabled=${busy || !f.chosen.length}>${busy ? 'Starting' : 'Start run'}</button></form></details>`;
}
