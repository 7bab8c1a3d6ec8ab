// A time-series chart (uPlot canvas) in a figure with the same numbers as a table and a file.
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { html } from '../lib/html.js';
import { Figure } from './figure.js';

const COLORS = ['#1f77d0', '#c2560c', '#2a8f5b', '#8a4fc4'];

function cssColor(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// gaps: values are missing in between; those that are there are joined and shown as points.
function options(width, { series, unit, top, gaps }) {
  const axis = { stroke: cssColor('--soft'), grid: { stroke: cssColor('--line'), width: 1 }, ticks: { stroke: cssColor('--line'), width: 1 } };
  const clock = (u, at) => at.map((t) => new Date(t * 1000).toLocaleTimeString('en-GB'));
  return {
    width,
    height: 220,
    legend: { live: false },
    cursor: { y: false },
    scales: { y: { range: (u, lo, hi) => [0, top || Math.max(hi * 1.1, 1)] } },
    axes: [{ ...axis, space: 80, incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300], values: clock }, { ...axis, label: unit, labelSize: 18, size: 56 }],
    series: [{ label: 'time' }, ...series.map((s, i) => ({ label: s, stroke: COLORS[i], width: 2, spanGaps: Boolean(gaps), points: { show: Boolean(gaps), size: 5 } }))],
  };
}

// Redrawn when `data` changes; made anew when it is shown again after the table.
function Plot({ title, data, ...more }) {
  const box = useRef(null);
  const plot = useRef(null);
  useEffect(() => {
    const u = new uPlot(options(box.current.clientWidth || 300, more), data, box.current);
    plot.current = u;
    const watch = new ResizeObserver(() => box.current && u.setSize({ width: box.current.clientWidth, height: 220 }));
    watch.observe(box.current);
    return () => {
      watch.disconnect();
      u.destroy();
      plot.current = null;
    };
  }, []);
  useEffect(() => {
    if (plot.current) plot.current.setData(data);
  }, [data]);
  return html`<div class="chart" ref=${box} role="img" aria-label="${title}; the Table button shows the numbers"></div>`;
}

// data: [times in Unix seconds, values of series 1, ...]; top: of the scale, where it does not follow the data; gaps: values may be null
export function TimeChart({ title, unit, top, gaps, series, data, name }) {
  const rows = data[0].map((t, i) => [new Date(t * 1000).toISOString(), ...data.slice(1).map((d) => d[i])]);
  const shown = rows.slice(-60).reverse().map((r) => [r[0].slice(11, 19), ...r.slice(1).map((v) => (v === null ? '' : v.toFixed(2)))]);
  return html`<${Figure} title=${title} name=${name} header=${['time', ...series]} columns=${['time', ...series.map((s) => `${s} (${unit})`)]} rows=${rows} shown=${shown}>
    <${Plot} title=${title} series=${series} unit=${unit} top=${top} gaps=${gaps} data=${data} /></${Figure}>`;
}
