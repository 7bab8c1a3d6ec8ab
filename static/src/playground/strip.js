// The token strip: every token coloured by its probability; a chosen token shows its alternatives.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';

// More buttons than this make the page slow; the newest are the ones looked at.
const SHOWN = 600;
const BUCKETS = [0.8, 0.5, 0.2, 0.05];

export function bucket(logprob) {
  const p = Math.exp(logprob);
  const i = BUCKETS.findIndex((b) => p >= b);
  return i < 0 ? BUCKETS.length : i;
}

function shown(text) {
  return text === '' ? '\u2205' : text.replaceAll('\n', '\u21b5\n');
}

function probability(logprob) {
  const p = 100 * Math.exp(logprob);
  return p >= 0.1 ? `${p.toFixed(1)} %` : '< 0.1 %';
}

function Alternatives({ token }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Alternatives"><table><thead><tr><th>alternative</th><th class="num">probability</th><th class="num">log-probability</th></tr></thead>
    <tbody>${token.top.map((t) => html`<tr><td class="wrap">${shown(t.token)}${t.token === token.token ? ' (chosen)' : ''}</td>
      <td class="num">${probability(t.logprob)}</td><td class="num">${t.logprob.toFixed(3)}</td></tr>`)}</tbody></table></div>`;
}

export function TokenStrip({ tokens }) {
  const [at, setAt] = useState(-1);
  const from = Math.max(0, tokens.length - SHOWN);
  const chosen = at >= 0 && at < tokens.length ? tokens[at] : null;
  return html`<div class="card"><h3>Why this token?</h3>
    <p class="legend row note">probability:
      ${['80 % and more', '50 %', '20 %', '5 %', 'less'].map((t, i) => html`<span class="tok p${i}">${t}</span>`)}</p>
    ${from ? html`<p class="note">The last ${SHOWN} of ${tokens.length} tokens.</p>` : null}
    <div class="strip" role="group" aria-label="Generated tokens; choose one to see its alternatives">
      ${tokens.slice(from).map((t, k) => [t, from + k]).map(([t, i]) => html`<button key=${i} class="tok p${bucket(t.logprob)}" aria-pressed=${i === at} title="${probability(t.logprob)}"
        onMouseEnter=${() => setAt(i)} onFocus=${() => setAt(i)} onClick=${() => setAt(i)}>${shown(t.token)}</button>`)}</div>
    <div aria-live="polite">${chosen
      ? html`<p>Token ${at + 1} <code>${chosen.token.trim() ? shown(chosen.token) : shown(chosen.token).replaceAll(' ', '\u2423')}</code>: ${probability(chosen.logprob)}</p>${chosen.top.length ? html`<${Alternatives} token=${chosen} />` : null}`
      : html`<p class="note">Point at a token, or reach it with the Tab key.</p>`}</div></div>`;
}
