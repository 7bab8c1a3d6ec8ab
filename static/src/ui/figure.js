// A card around a figure: a title, the same numbers as a table, and as a CSV file.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { csv } from '../lib/format.js';

export function save(name, text, type) {
  const a = document.createElement('a');
  a.href = URL.createObjectURL(new Blob([text], { type }));
  a.download = name;
  a.click();
  URL.revokeObjectURL(a.href);
}

function cell(v) {
  if (v === null || v === undefined) return '';
  return typeof v === 'number' && !Number.isInteger(v) ? v.toFixed(2) : v;
}

function Table({ title, header, rows }) {
  return html`<div class="scroll tall" tabindex="0" role="region" aria-label="${title}, table"><table>
    <thead><tr>${header.map((h, i) => html`<th class=${i ? 'num' : ''}>${h}</th>`)}</tr></thead>
    <tbody>${rows.map((r) => html`<tr key=${r[0]}>${r.map((v, i) => html`<td class=${i ? 'num' : ''}>${cell(v)}</td>`)}</tr>`)}</tbody></table></div>`;
}

// header, rows: plain values for the file; columns, shown: of the table, where they are not the same. tools: more buttons.
export function Figure({ title, name, header, columns, rows, shown, tools, children }) {
  const [table, setTable] = useState(false);
  return html`<section class="card" aria-label=${title}>
    <div class="row head"><h3 class="grow">${title}</h3>${tools}
      <span class="together"><button class="small" aria-pressed=${table} onClick=${() => setTable(!table)}>${table ? 'Chart' : 'Table'}</button>
      <button class="small" onClick=${() => save(`${name}.csv`, csv(header, rows), 'text/csv')}>CSV</button></span></div>
    ${table ? html`<${Table} title=${title} header=${columns || header} rows=${shown || rows} />` : children}</section>`;
}
