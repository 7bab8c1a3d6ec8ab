// One line on the mask of a packed model: what it lets pass and what it misses, as far as tokens were looked at.
import { html } from '../lib/html.js';
import { bytes, count } from '../lib/format.js';

const share = (v) => `${(100 * v).toPrecision(3)} %`;

function found(m) {
  if (m.exact && !m.checked) return 'exact, every neuron that fires is found';
  if (m.recall === null) return m.check_every ? 'no token was looked at yet' : 'nobody looks at what it misses (--mask-check 0)';
  const range = m.recall_low < m.recall_high ? ` (${share(m.recall_low)} to ${share(m.recall_high)})` : '';
  return `finds ${share(m.recall)}${range} of the neurons that fire and misses ${share(m.missed_mass)} of the activation`;
}

export function Mask({ m }) {
  if (!m) return null;
  const parts = [found(m)];
  if (m.over_load !== null) parts.push(`lets ${m.over_load.toFixed(2)} pass for one that fires`);
  if (m.bytes) parts.push(`takes ${bytes(m.bytes)}`);
  if (m.checked) parts.push(`${count(m.checked)} tokens looked at, layer by layer`);
  return html`<p class="note">Mask <strong>${m.kind}</strong>: ${parts.join('; ')}.</p>`;
}
