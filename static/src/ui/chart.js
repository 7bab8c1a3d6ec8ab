// A time-series chart (uPlot canvas) with a table view and a CSV download of the same numbers.
import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import { html } from '../lib/html.js';
import { csv } from '../lib/format.js';

const COLORS = ['#1f77d0', '#c2560c', '#2a8f5b', '#8a4fc4'];

function cssColor(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function options(width, series, unit) {
  const axis = { stroke: cssColor('--soft'), grid: { stroke: cssColor('--line'), width: 1 }, ticks: { stroke: cssColor('--line'), width: 1 } };
  const clock = (u, at) => at.map((t) => new Date(t * 1000).toLocaleTimeString('en-GB'));
  return {
    width,
    height: 220,
    legend: { live: false },
    cursor: { y: false },
    scales: { y: { range: (u, lo, hi) => [0, Math.max(hi * 1.1, 1)] } },
    axes: [{ ...axis, space: 80, incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300], values: clock }, { ...axis, label: unit, labelSize: 18, size: 56 }],
    series: [{ label: 'time' }, ...series.map((s, i) => ({ label: s, stroke: COLORS[i], width: 2, points: { show: false } }))],
  };
}

function save(name, text) {
  const a = document.createElement('a');
  a.href = URL.createObjectURL(new Blob([text], { type: 'text/csv' }));
  a.download = name;
  a.click();
  URL.revokeObjectURL(a.href);
}

// data: [times in Unix seconds, values of series 1, ...]
export function TimeChart({ title, unit, series, data, name }) {
  const box = useRef(null);
  const plot = useRef(null);
  const [table, setTable] = useState(false);
  useEffect(() => {
    if (table || !box.current) return undefined;
    const u = new uPlot(options(box.current.clientWidth || 300, series, unit), data, box.current);
    plot.current = u;
    const watch = new ResizeObserver(() => box.current && u.setSize({ width: box.current.clientWidth, height: 220 }));
    watch.observe(box.current);
    return () => {
      watch.disconnect();
      u.destroy();
      plot.current = null;
    };
  }, [table]);
  useEffect(() => {
    if (plot.current) plot.current.setData(data);
  }, [data]);
  const rows = data[0].map((t, i) => [new Date(t * 1000).toISOString(), ...data.slice(1).map((d) => d[i])]);
  return html`<section class="card" aria-label=${title}>
    <div class="row"><h3 class="grow">${title}</h3>
      <button class="small" aria-pressed=${table} onClick=${() => setTable(!table)}>${table ? 'Chart' : 'Table'}</button>
      <button class="small" onClick=${() => save(`${name}.csv`, csv(['time', ...series], rows))}>CSV</button>
    </div>
    ${table
      ? html`<div class="scroll" tabindex="0" role="region" aria-label="${title}, table"><table>
          <thead><tr><th>time</th>${series.map((s) => html`<th class="num">${s} (${unit})</th>`)}</tr></thead>
          <tbody>${rows.slice(-60).reverse().map((r) => html`<tr key=${r[0]}><td>${r[0].slice(11, 19)}</td>${r.slice(1).map((v) => html`<td class="num">${v === null ? '' : v.toFixed(2)}</td>`)}</tr>`)}</tbody>
        </table></div>`
      : html`<div class="chart" ref=${box} role="img" aria-label="${title}; the Table button shows the numbers"></div>`}
  </section>`;
}
