// tests/bench/flash/plot_traces.mjs - what neuron traces say, as SVG pictures, from the JSON lines of p5_policies.sh.
//   node tests/bench/flash/plot_traces.mjs [--model NAME] [--dir DIR] RESULTS.jsonl...
// DIR/flash-traces.svg: neurons loaded a token over the share in memory, a panel per text, a line per policy. DIR/flash-reuse.svg: the share
// that any of t successive tokens uses, a line per text, beside what is published of OPT and Falcon. NAME: a model of the results (the first).
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const files = [];
let dir = 'build/bench', model;
for (let args = process.argv.slice(2); args.length; ) {
  const word = args.shift();
  if (word === '--dir') dir = args.shift();
  else if (word === '--model') model = args.shift();
  else files.push(word);
}
if (!files.length) {
  console.error('usage: node plot_traces.mjs [--model NAME] [--dir DIR] RESULTS.jsonl...');
  process.exit(2);
}

const policies = {
  static: ['static: first come, stays', '#888888'], window: ['window of 5 tokens', '#b07d2b'], lru: ['least recently used', '#7b61c4'],
  lfu: ['decayed frequency', '#1f6fb4'], adaptive: ['adaptive (the default)', '#d1495b'], belady: ['best in hindsight', '#1d8a4a'],
};
const tints = ['#d1495b', '#1f6fb4', '#1d8a4a', '#7b61c4', '#e07b00', '#0f8b8d', '#5c4033', '#c2185b'];
// flash.md 1.4, 2.3: what OPT 6.7B needs of a token, what its window and Falcon's hold, and what OPT has used after 150 tokens.
const published = [[1, 10, 'OPT 6.7B'], [5, 24, 'OPT 6.7B'], [5, 33, 'Falcon 7B'], [150, 50, 'OPT 6.7B']];

const rows = files.flatMap((file) => readFileSync(file, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line)));
model ??= rows.find((d) => d.kind === 'text')?.model;
const all = rows.filter((d) => d.model === model && d.kind === 'replay');
const names = [...new Set(all.map((d) => d.text))];
if (!names.length) {
  console.error(`plot_traces: no replay of '${model}' in ${files.join(', ')}`);
  process.exit(1);
}

const escaped = (s) => s.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const line = (points, colour, extra = '') =>
  `<polyline fill="none" stroke="${colour}" stroke-width="2" ${extra} points="${points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ')}"/>`;
const label = (x, y, s, more = '') => `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" fill="#444b53" ${more}>${escaped(s)}</text>`;
const page = (w, h, title, body) =>
  [`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${w} ${h}" font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="${escaped(title)}">`,
    `<rect width="${w}" height="${h}" fill="#ffffff"/><text x="24" y="26" font-size="17" font-weight="600" fill="#1b1f24">${escaped(title)}</text>`,
    ...body, '</svg>', ''].join('\n');

// A frame at (left, top) with its two axes; to: value -> pixel.
function frame({ left, top, w, h, xs, ys, xTo, yTo, xText, yText }) {
  const x = (v) => left + xTo(v) * w, y = (v) => top + h - yTo(v) * h, out = [];
  for (const v of ys) {
    out.push(`<line x1="${left}" x2="${left + w}" y1="${y(v).toFixed(1)}" y2="${y(v).toFixed(1)}" stroke="#e3e6ea"/>`);
    out.push(label(left - 6, y(v) + 4, yText(v), 'text-anchor="end"'));
  }
  for (const v of xs) {
    out.push(`<line x1="${x(v).toFixed(1)}" x2="${x(v).toFixed(1)}" y1="${top}" y2="${top + h}" stroke="#f0f2f4"/>`);
    out.push(label(x(v), top + h + 16, xText(v), 'text-anchor="middle"'));
  }
  return { x, y, out };
}

function panels() {
  const W = 920, across = 3, w = 228, h = 190, top = 74, body = [];
  const curves = all.filter((d) => d.policy && 'cache_pct' in d && (d.policy !== 'window' || d.window === 5));
  const most = Math.ceil(Math.max(...curves.map((d) => d.loads_pct)) / 5) * 5;
  const step = most > 25 ? 10 : 5, percent = (v) => `${v} %`;
  const ys = Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step);
  names.forEach((name, i) => {
    const f = frame({ left: 62 + (i % across) * (w + 62), top: top + Math.floor(i / across) * (h + 74), w, h, xs: [10, 20, 30, 40, 50, 60], ys,
      xTo: (v) => v / 62, yTo: (v) => v / most, xText: percent, yText: percent });
    body.push(...f.out, label(f.x(0), f.y(most) - 8, name, 'font-weight="600"'));
    for (const [policy, [, colour]] of Object.entries(policies)) {
      const points = curves.filter((d) => d.text === name && d.policy === policy).sort((a, b) => a.cache_pct - b.cache_pct);
      body.push(line(points.map((d) => [f.x(d.cache_pct), f.y(d.loads_pct)]), colour, policy === 'belady' ? 'stroke-dasharray="5 3"' : ''));
    }
  });
  const foot = top + Math.ceil(names.length / across) * (h + 74) - 12;
  Object.values(policies).forEach(([text, colour], i) => {
    const x = 62 + (i % across) * (w + 62), y = foot + Math.floor(i / across) * 20;
    body.push(`<line x1="${x}" x2="${x + 24}" y1="${y - 4}" y2="${y - 4}" stroke="${colour}" stroke-width="3"/>`, label(x + 32, y, text));
  });
  body.push(label(24, 48, `neurons loaded a token, % of a layer (up), over neurons in memory, % (right); ${model}`));
  return page(W, foot + 34, 'What a token loads, by cache policy and size', body);
}

function reuse() {
  const W = 860, H = 440, left = 62, right = 200, top = 66, bottom = 56, body = [];
  const f = frame({ left, top, w: W - left - right, h: H - top - bottom, xs: [1, 2, 5, 10, 20, 50, 100, 150], ys: [0, 20, 40, 60, 80, 100],
    xTo: (v) => Math.log(v) / Math.log(150), yTo: (v) => v / 100, xText: String, yText: (v) => `${v} %` });
  body.push(...f.out, label(24, 48, `neurons that any of t successive tokens uses, % of all (up), over t (right, log); ${model}`));
  const ends = names.map((name, i) => {
    const points = all.filter((d) => d.text === name && 's_agg' in d).sort((a, b) => a.s_agg - b.s_agg);
    body.push(line(points.map((d) => [f.x(d.s_agg), f.y(d.active_pct)]), tints[i % tints.length]));
    return { y: f.y(points.at(-1).active_pct), name, colour: tints[i % tints.length] };
  });
  ends.sort((a, b) => a.y - b.y);
  ends.forEach((e, i) => { e.at = Math.max(e.y, i ? ends[i - 1].at + 16 : 0); });
  for (const e of ends) body.push(`<text x="${W - right + 10}" y="${(e.at + 4).toFixed(1)}" fill="${e.colour}" font-weight="600">${escaped(e.name)}</text>`);
  for (const [t, v, name] of published) {
    body.push(`<circle cx="${f.x(t).toFixed(1)}" cy="${f.y(v).toFixed(1)}" r="4" fill="#1b1f24"/>`, 
      label(f.x(t) + (t > 50 ? -8 : 8), f.y(v) + 14, `${name}, published: ${v} %`, t > 50 ? 'text-anchor="end"' : ''));
  }
  return page(W, H, 'How much of the model successive tokens share', body);
}

for (const [name, picture] of [['flash-traces.svg', panels()], ['flash-reuse.svg', reuse()]]) {
  writeFileSync(join(dir, name), picture);
  console.log(join(dir, name));
}
