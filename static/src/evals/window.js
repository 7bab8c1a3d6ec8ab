// A table of many rows of which only those in sight exist. Rows are of one height; arrow keys move between them.
import { useEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';

const ROW = 36;
const SPARE = 12; // rows beyond each edge

// columns: [{name, num}]; cells(row, i): contents; onOpen(row); chosen: index or -1
export function Windowed({ rows, columns, cells, rowKey, onOpen, chosen, label }) {
  const box = useRef(null);
  const [at, setAt] = useState({ top: 0, high: 480 });
  const [focus, setFocus] = useState(0);
  const measure = () => box.current && setAt({ top: box.current.scrollTop, high: box.current.clientHeight });
  useEffect(() => {
    measure();
    const watch = new ResizeObserver(measure);
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    if (box.current) box.current.scrollTop = 0;
    setFocus(0);
    measure();
  }, [label]);
  const first = Math.max(0, Math.min(rows.length - 1, Math.floor(at.top / ROW)) - SPARE);
  const last = Math.min(rows.length, Math.ceil((at.top + at.high) / ROW) + SPARE);
  const shown = rows.slice(first, last);
  const tabstop = focus >= first && focus < last ? focus : first; // one row can always be reached
  const move = (to) => {
    const i = Math.max(0, Math.min(rows.length - 1, to));
    const el = box.current;
    setFocus(i);
    if (i * ROW < el.scrollTop) el.scrollTop = i * ROW;
    else if ((i + 3) * ROW > el.scrollTop + el.clientHeight) el.scrollTop = (i + 3) * ROW - el.clientHeight;
    measure();
    requestAnimationFrame(() => requestAnimationFrame(() => {
      const b = el.querySelector(`[data-row="${i}"]`);
      if (b) b.focus({ preventScroll: true });
    }));
  };
  const key = (e) => {
    const i = Number(e.target.dataset && e.target.dataset.row);
    if (!Number.isInteger(i) || e.target.dataset.row === undefined) return;
    const page = Math.max(1, Math.floor(at.high / ROW) - 2);
    const by = { ArrowDown: i + 1, ArrowUp: i - 1, PageDown: i + page, PageUp: i - page, Home: 0, End: rows.length - 1 }[e.key];
    if (by === undefined) return;
    e.preventDefault();
    move(by);
  };
  return html`<div class="scroll windowed" ref=${box} onScroll=${measure} onKeyDown=${key} tabindex=${rows.length ? -1 : 0} role="region" aria-label=${label}>
    <table aria-rowcount=${rows.length + 1}><thead><tr aria-rowindex="1">${columns.map((c) => html`<th key=${c.name} class=${c.num ? 'num' : ''}>${c.name}</th>`)}</tr></thead>
    <tbody>${first ? html`<tr aria-hidden="true" key="above"><td class="spacer" colspan=${columns.length} style=${{ height: `${first * ROW}px` }}></td></tr>` : null}
      ${shown.map((r, k) => {
    const i = first + k;
    const c = cells(r);
    return html`<tr key=${rowKey(r)} aria-rowindex=${i + 2} class=${i === chosen ? 'erow chosen' : 'erow'}>${c.map((v, j) => html`<td key=${j} class=${columns[j].num ? 'num' : columns[j].cut ? 'cut' : ''}>${j ? v : html`<button class="plainlink" data-row=${i} tabindex=${i === tabstop ? 0 : -1} onFocus=${() => setFocus(i)} onClick=${() => onOpen(r, i)}>${v}</button>`}</td>`)}</tr>`;
  })}
      ${last < rows.length ? html`<tr aria-hidden="true" key="below"><td class="spacer" colspan=${columns.length} style=${{ height: `${(rows.length - last) * ROW}px` }}></td></tr>` : null}</tbody></table></div>`;
}
