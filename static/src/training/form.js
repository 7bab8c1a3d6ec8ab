// A small pre-training: what to read, how big, how long.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { count, params } from '../lib/format.js';
import { Alert, Field } from '../ui/basic.js';
import { submit } from './data.js';

// Widths are multiples of 32 and of the heads; a head has 32 numbers.
const SHAPES = {
  tiny: { n_layer: 4, d_model: 96, n_head: 3 },
  small: { n_layer: 6, d_model: 160, n_head: 5 },
  medium: { n_layer: 8, d_model: 256, n_head: 8 },
  large: { n_layer: 12, d_model: 384, n_head: 12 },
};
const START = { data: '', tokenizer: '', n_vocab: '512', shape: 'tiny', steps: '300', batch: '8', ctx: '256', lr: '0.002', act: 'silu', price_per_hour: '' };

// Tied head, gated network, d_ff of 8/3 the width rounded up to 32.
function nParam(shape, vocab) {
  const { n_layer: layers, d_model: d } = SHAPES[shape];
  const ff = Math.ceil((d * 8) / 3 / 32) * 32;
  return vocab * d + layers * (4 * d * d + 3 * d * ff + 2 * d) + d;
}

function settings(f) {
  const s = { data: f.data.trim(), ...SHAPES[f.shape], steps: Number(f.steps), batch: Number(f.batch), ctx: Number(f.ctx), lr: Number(f.lr), act: f.act };
  if (f.tokenizer.trim()) s.tokenizer = f.tokenizer.trim();
  else s.n_vocab = Number(f.n_vocab);
  if (f.price_per_hour) s.price_per_hour = Number(f.price_per_hour);
  const every = Math.max(1, Math.round(s.steps / 20));
  return { ...s, eval_every: every, checkpoint_every: Math.max(every, 10) };
}

// open: whether it starts unfolded; a chosen job has the screen for itself.
export function Form({ open, onMade }) {
  const [f, setForm] = useState(START);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const set = (name) => (e) => setForm({ ...f, [name]: e.target.value });
  const wrong = (name) => (error && error.param === name ? { 'aria-invalid': 'true', 'aria-describedby': 'train-error' } : {});
  const send = async (e) => {
    e.preventDefault();
    setBusy(true);
    setError(null);
    try {
      onMade((await submit('pretrain', settings(f))).id);
    } catch (err) {
      setError(err);
    }
    setBusy(false);
  };
  const vocab = f.tokenizer.trim() ? 0 : Number(f.n_vocab) || 0;
  const size = nParam(f.shape, vocab);
  return html`<details class="card new" open=${open}><summary><h3>New training</h3></summary><form class="train" aria-label="New training" onSubmit=${send}>
    <div class="fields">
      <${Field} label="Text to learn from"><input value=${f.data} required placeholder="stories.txt" onInput=${set('data')} ...${wrong('data')} /></${Field}>
      <${Field} label="Shape"><select value=${f.shape} onChange=${set('shape')}>${Object.entries(SHAPES).map(([k, s]) => html`<option key=${k} value=${k}>${k}: ${s.n_layer} layers of ${s.d_model}</option>`)}</select></${Field}>
      <${Field} label="Steps"><input type="number" min="1" max="1000000" required value=${f.steps} onInput=${set('steps')} ...${wrong('steps')} /></${Field}>
    </div>
    <details><summary>More settings</summary><div class="fields">
      <${Field} label="Vocabulary to learn"><input type="number" min="257" max="1000000" value=${f.n_vocab} disabled=${Boolean(f.tokenizer.trim())} onInput=${set('n_vocab')} ...${wrong('n_vocab')} /></${Field}>
      <${Field} label="or tokenizer of a GGUF file"><input value=${f.tokenizer} placeholder="model.gguf" onInput=${set('tokenizer')} ...${wrong('tokenizer')} /></${Field}>
      <${Field} label="Sequences per step"><input type="number" min="1" max="4096" required value=${f.batch} onInput=${set('batch')} ...${wrong('batch')} /></${Field}>
      <${Field} label="Tokens per sequence"><input type="number" min="2" max="65536" required value=${f.ctx} onInput=${set('ctx')} ...${wrong('ctx')} /></${Field}>
      <${Field} label="Highest learning rate"><input type="number" min="0" max="1" step="any" required value=${f.lr} onInput=${set('lr')} ...${wrong('lr')} /></${Field}>
      <${Field} label="Activation"><select value=${f.act} onChange=${set('act')}>${['silu', 'gelu', 'relu', 'relu2'].map((a) => html`<option key=${a} value=${a}>${a}</option>`)}</select></${Field}>
      <${Field} label="Price of this machine, $ per hour"><input type="number" min="0" max="1000000" step="any" value=${f.price_per_hour} onInput=${set('price_per_hour')} ...${wrong('price_per_hour')} /></${Field}>
    </div></details>
    <p class="note">The file lies in the server's data directory (<code>strobe serve --data DIR</code>): plain text, JSON lines or token shards. ${vocab ? `${params(size)} parameters, ` : ''}${count(Number(f.batch) * Number(f.ctx) * Number(f.steps))} tokens in all.</p>
    <div id="train-error"><${Alert} error=${error} /></div>
    <button class="main" disabled=${busy}>${busy ? 'Queueing' : 'Start training'}</button></form></details>`;
}
