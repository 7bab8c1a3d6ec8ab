// Charts (uPlot canvas) in a figure with the same numbers as a table and a file: over time, or over any numbers.
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { html } from '../lib/html.js';
import { Figure } from './figure.js';

const COLORS = ['#1f77d0', '#c2560c', '#2a8f5b', '#8a4fc4', '#b3263e', '#0f8a8a', '#8a6d00', '#5a6472'];
const TABLE_ROWS = 60;

function cssColor(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const clock = (u, at) => at.map((t) => new Date(t * 1000).toLocaleTimeString('en-GB'));
const timeAxis = { space: 80, incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300], values: clock };

// Labels of a vertical scale: steps between them may be far smaller than uPlot's three decimals.
function plain(u, at) {
  const max = Math.max(...at.map(Math.abs));
  return at.map((v) => (v === 0 ? '0' : max < 0.01 ? v.toExponential(1) : Number(v.toPrecision(6)).toLocaleString('en-US')));
}

// Room on the left for the longest label.
function labelWidth(u, values) {
  const longest = (values || []).reduce((n, v) => Math.max(n, String(v).length), 0);
  return Math.max(40, 14 + 7.5 * longest);
}

// points: of each series, whether values are missing in between; those that are there are joined and shown as points.
// marks: of each series, whether its values are points alone. fit: the scale follows the data instead of starting at 0.
// colors: CSS variables, where the same things have a colour elsewhere on the screen.
function options(width, { series, unit, top, points, marks, fit, x, colors }) {
  const color = (i) => (colors ? cssColor(colors[i]) : COLORS[i]);
  const axis = { stroke: cssColor('--soft'), grid: { stroke: cssColor('--line'), width: 1 }, ticks: { stroke: cssColor('--line'), width: 1 } };
  const range = (u, lo, hi) => (fit && Number.isFinite(lo) ? [lo - (hi - lo) * 0.05 - 1e-9, hi + (hi - lo) * 0.05 + 1e-9] : [0, top || hi * 1.1 || 1]);
  const across = x ? { space: 60, values: (u, at) => at.map(x.format), label: x.name, labelSize: 18, size: 36 } : timeAxis;
  return {
    width,
    height: x ? 240 : 220,
    legend: { live: false },
    cursor: { y: false },
    scales: { x: { time: !x }, y: { range: x ? range : (u, lo, hi) => [0, top || Math.max(hi * 1.1, 1)] } },
    axes: [{ ...axis, ...across }, { ...axis, label: unit || undefined, labelSize: 18, ...(x ? { size: labelWidth, values: plain } : { size: 56 }) }],
    series: [{ label: x ? x.name : 'time' }, ...series.map((s, i) => {
      const gaps = Boolean(points && points[i]);
      if (marks && marks[i]) return { label: s, stroke: color(i), width: 1, paths: () => null, points: { show: true, size: 6, fill: color(i) } };
      return { label: s, stroke: color(i), width: 2, spanGaps: gaps, points: { show: gaps, size: 5 } };
    })],
  };
}

// Redrawn when `data` changes; made anew when it is shown again after the table.
function Plot({ title, data, ...more }) {
  const box = useRef(null);
  const plot = useRef(null);
  useEffect(() => {
    const u = new uPlot(options(box.current.clientWidth || 300, more), data, box.current);
    plot.current = u;
    const watch = new ResizeObserver(() => box.current && u.setSize({ width: box.current.clientWidth, height: u.height }));
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
  const shown = rows.slice(-TABLE_ROWS).reverse().map((r) => [r[0].slice(11, 19), ...r.slice(1).map((v) => (v === null ? '' : v.toFixed(2)))]);
  return html`<${Figure} title=${title} name=${name} header=${['time', ...series]} columns=${['time', ...series.map((s) => `${s} (${unit})`)]} rows=${rows} shown=${shown}>
    <${Plot} title=${title} series=${series} unit=${unit} top=${top} points=${series.map(() => gaps)} data=${data} /></${Figure}>`;
}

// x: {key, name, format}; data: [numbers that do not fall, values of series 1, ...], values may be null; scale: of the values as shown
export function XYChart({ title, unit, x, series, data, name, points, marks, fit, colors, digits = 2, scale = 1 }) {
  const drawn = scale === 1 ? data : [data[0], ...data.slice(1).map((d) => d.map((v) => (v === null ? null : v * scale)))];
  const rows = drawn[0].map((v, i) => [v, ...drawn.slice(1).map((d) => d[i])]);
  const filled = rows.filter((r) => r.slice(1).some((v) => v !== null));
  const shown = filled.slice(-TABLE_ROWS).reverse().map((r) => [(x.cell || x.format)(r[0]), ...r.slice(1).map((v) => (v === null ? '' : v.toFixed(digits)))]);
  const label = (s) => (unit ? `${s} (${unit})` : s);
  return html`<${Figure} title=${title} name=${name} header=${[x.key, ...series]} columns=${[x.name, ...series.map(label)]} rows=${filled} shown=${shown}>
    <${Plot} title=${title} series=${series} unit=${unit} x=${x} points=${points} marks=${marks} fit=${fit} colors=${colors} data=${drawn} /></${Figure}>`;
}
