// tests/bench/flash/plot.mjs - tokens per second over the memory budget as an SVG, from the JSON lines of p8_sweep.sh and p7_baselines.sh.
//   node tests/bench/flash/plot.mjs [--title TEXT] [--out FILE.svg] RESULTS.jsonl...
// One line per engine through the medians, every run's range as a bar; dashed lines: no memory limit. The rate axis is logarithmic.
import { readFileSync, writeFileSync } from 'node:fs';

const files = [];
let out = 'build/bench/flash-sweep.svg';
let title = 'Decoding speed against memory';
for (let args = process.argv.slice(2); args.length; ) {
  const word = args.shift();
  if (word === '--out') out = args.shift();
  else if (word === '--title') title = args.shift();
  else files.push(word);
}
if (!files.length) {
  console.error('usage: node plot.mjs [--title TEXT] [--out FILE.svg] RESULTS.jsonl...');
  process.exit(2);
}

const colours = {
  'llama mmap': '#888888', 'our mmap': '#b07d2b', 'dense naive': '#7b61c4', dense: '#1f6fb4',
  'sparse resident': '#1d8a4a', 'sparse sketch': '#d1495b', 'sparse sketch4': '#e07b00',
};
const names = {
  'llama mmap': 'llama.cpp, mmap', 'our mmap': 'strobe, mmap', 'dense naive': 'strobe, dense, nothing pinned', dense: 'strobe, dense',
  'sparse resident': 'strobe, packed, gate in RAM', 'sparse sketch': 'strobe, packed, 8-bit sketch', 'sparse sketch4': 'strobe, packed, 4-bit sketch',
  resident: 'strobe, all in RAM', 'resident packed': 'strobe, packed, all in RAM', 'llama resident': 'llama.cpp, all in RAM',
};
const ceilings = { resident: '#1f6fb4', 'resident packed': '#e07b00', 'llama resident': '#888888' };

const series = new Map(); // engine -> share -> rates
let machine = {};
for (const file of files)
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    if (!line) continue;
    const d = JSON.parse(line);
    if (d.machine) machine = d;
    if (d.kind !== 'run' || !(d.engine in names)) continue;
    const share = d.share ?? Math.round(d.ram_share * 100);
    if (!series.has(d.engine)) series.set(d.engine, new Map());
    const at = series.get(d.engine);
    at.set(share, [...(at.get(share) ?? []), d.tokens_per_second]);
  }

const median = (v) => {
  const s = [...v].sort((a, b) => a - b);
  const h = s.length >> 1;
  return s.length % 2 ? s[h] : (s[h - 1] + s[h]) / 2;
};
const text = (s) => s.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const all = [...series.values()].flatMap((at) => [...at.values()].flat());
const W = 860, H = 520, L = 70, R = 250, T = 56, B = 72;
const bottom = Math.min(...all) / 1.25, hi = Math.max(...all) * 1.25;
const x = (share) => L + ((share - 30) / 75) * (W - L - R);
const y = (rate) => H - B - (Math.log(rate / bottom) / Math.log(hi / bottom)) * (H - T - B);
const svg = [];
svg.push(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${W} ${H}" font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="${text(title)}">`);
svg.push(`<rect width="${W}" height="${H}" fill="#ffffff"/><text x="${L}" y="26" font-size="17" font-weight="600" fill="#1b1f24">${text(title)}</text>`);
for (let decade = -2; decade < 4; decade++)
  for (const m of [1, 2, 5]) {
    const v = m * 10 ** decade;
    if (v < bottom * 0.999 || v > hi) continue;
    svg.push(`<line x1="${L}" x2="${W - R}" y1="${y(v).toFixed(1)}" y2="${y(v).toFixed(1)}" stroke="#e3e6ea"/>`);
    svg.push(`<text x="${L - 8}" y="${(y(v) + 4).toFixed(1)}" text-anchor="end" fill="#444b53">${+v.toPrecision(2)}</text>`);
  }
for (let share = 30; share <= 100; share += 10) {
  svg.push(`<line x1="${x(share)}" x2="${x(share)}" y1="${T}" y2="${H - B}" stroke="#f0f2f4"/>`);
  svg.push(`<text x="${x(share)}" y="${H - B + 20}" text-anchor="middle" fill="#444b53">${share} %</text>`);
}
svg.push(`<text x="${(L + W - R) / 2}" y="${H - B + 42}" text-anchor="middle" fill="#1b1f24">memory budget, share of the model's 16-bit file</text>`);
svg.push(`<text transform="translate(20 ${(T + H - B) / 2}) rotate(-90)" text-anchor="middle" fill="#1b1f24">tokens per second (log)</text>`);
const foot = [machine.machine, `${machine.cores} cores`, machine.disk_bytes_per_second && `disk ${(machine.disk_bytes_per_second / 1e9).toFixed(1)} GB/s`, machine.commit];
svg.push(`<text x="${L}" y="${H - 10}" font-size="11" fill="#6a737d">${text(foot.filter(Boolean).join(', '))}; points: medians, bars: all runs</text>`);

const labels = [];
for (const [engine, at] of series) {
  if (engine in ceilings) {
    const m = median([...at.values()].flat());
    svg.push(`<line x1="${L}" x2="${W - R}" y1="${y(m).toFixed(1)}" y2="${y(m).toFixed(1)}" stroke="${ceilings[engine]}" stroke-width="1.5" stroke-dasharray="6 4"/>`);
    labels.push({ at: y(m), engine, colour: ceilings[engine] });
    continue;
  }
  const colour = colours[engine];
  const points = [...at].map(([share, v]) => ({ share, m: median(v), v })).filter((p) => p.share <= 105).sort((a, b) => a.share - b.share);
  svg.push(`<polyline fill="none" stroke="${colour}" stroke-width="2" points="${points.map((p) => `${x(p.share).toFixed(1)},${y(p.m).toFixed(1)}`).join(' ')}"/>`);
  for (const p of points) {
    const cx = x(p.share).toFixed(1);
    svg.push(`<line x1="${cx}" x2="${cx}" y1="${y(Math.max(...p.v)).toFixed(1)}" y2="${y(Math.min(...p.v)).toFixed(1)}" stroke="${colour}" stroke-width="1.5"/>`);
    svg.push(`<circle cx="${cx}" cy="${y(p.m).toFixed(1)}" r="3.5" fill="${colour}"><title>${text(names[engine])}, ${p.share} %: ${p.m.toPrecision(3)} tok/s</title></circle>`);
  }
  labels.push({ at: y(points.at(-1).m), engine, colour });
}
// Labels at the lines' ends, pushed apart where they would overlap.
labels.sort((a, b) => a.at - b.at);
labels.forEach((l, i) => { l.y = Math.max(l.at, i ? labels[i - 1].y + 17 : 0); });
for (const l of labels) svg.push(`<text x="${W - R + 12}" y="${(l.y + 4).toFixed(1)}" fill="${l.colour}" font-weight="600">${text(names[l.engine])}</text>`);
svg.push('</svg>');
writeFileSync(out, svg.join('\n') + '\n');
console.log(out);
