// Small building blocks of all screens.
import { html } from '../lib/html.js';

export function Tile({ label, value, note, share }) {
  return html`<div class="tile"><p class="k">${label}</p><p class="v">${value}</p>
    ${share === undefined ? null : html`<progress class="bar" max="1" value=${Math.min(1, share || 0)} aria-label=${label}></progress>`}
    ${note ? html`<p class="n">${note}</p>` : null}</div>`;
}

export function Facts({ rows }) {
  return html`<dl class="facts">${rows.filter((r) => r).map(([k, v]) => html`<dt>${k}</dt><dd>${v}</dd>`)}</dl>`;
}

export function Alert({ error, warn, children }) {
  const text = error ? error.message || String(error) : null;
  if (!text && !children) return null;
  return html`<div class="alert ${warn ? 'warn' : ''}" role="alert">${text}${children}</div>`;
}

export function Field({ label, children }) {
  return html`<label>${label}${children}</label>`;
}
