// The curves of a run, over steps, tokens, seconds or dollars.
import { signal } from '@preact/signals';
import { html } from '../lib/html.js';
import { compact, count, duration, money } from '../lib/format.js';
import { XYChart } from '../ui/chart.js';

const AXES = {
  tokens: { name: 'tokens', format: compact },
  seconds: { name: 'time', format: duration },
  dollars: { name: 'dollars', format: money },
  step: { name: 'steps', format: count },
};
const axis = signal('tokens');

// Columns that the file lacks are full of nulls.
const column = (c, name) => c[name] || c.step.map(() => null);

function hasAxis(c, key) {
  const col = c[key];
  return Boolean(col) && col.some((v) => v > 0);
}

export function Curves({ c, name }) {
  if (!c) return html`<p class="note">Loading the curves.</p>`;
  if (!c.step.length) return html`<section class="card"><h3>Curves</h3><p class="note">The first figures come with the first step.</p></section>`;
  const usable = Object.keys(AXES).filter((k) => hasAxis(c, k));
  const at = usable.includes(axis.value) ? axis.value : 'step';
  const x = { ...AXES[at], key: at, values: c[at] };
  const chart = (title, unit, series, more) => html`<${XYChart} key=${`${title} ${at}`} title=${title} unit=${unit} x=${x} name=${`${name}-${title.toLowerCase().replaceAll(' ', '-')}`}
    series=${series.map(([label]) => label)} data=${[x.values, ...series.map(([, col]) => column(c, col))]} ...${more} />`;
  return html`<fieldset class="row axes"><legend>Curves over</legend>${usable.map((k) => html`<label key=${k} class="pick-axis">
      <input type="radio" name="axis" value=${k} checked=${k === at} onChange=${() => { axis.value = k; }} />${AXES[k].name}</label>`)}</fieldset>
    ${chart('Loss', 'nats per token', [['training', 'loss'], ['held out', 'val_loss']], { points: [false, true], fit: true, digits: 4 })}
    <div class="two">${chart('Tokens per second', 'tokens/s', [['rate', 'tok_s']], { digits: 0 })}
      ${chart('Gradient norm', '', [['before clipping', 'grad_norm']], { digits: 4 })}
      ${chart('Learning rate', '', [['rate', 'lr']], { digits: 8 })}
      ${c.rss ? chart('Memory', 'MiB', [['process', 'rss']], { scale: 1 / 1048576, digits: 1 }) : null}</div>`;
}
