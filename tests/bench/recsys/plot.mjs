// tests/bench/recsys/plot.mjs - recall@20 and NDCG of models against baselines as an SVG, from the rows that run.sh keeps.
//   node tests/bench/recsys/plot.mjs [--out FILE.svg] "TITLE=ROWS.jsonl"...
// One panel a data set: a bar for recall@20 with its 95 % interval over users, a tick for NDCG. Methods keep the table's order.
import { readFileSync, writeFileSync } from 'node:fs';

const sets = [];
let out = 'build/bench/recsys-recall.svg';
for (let args = process.argv.slice(2); args.length; ) {
  const word = args.shift();
  if (word === '--out') out = args.shift();
  else sets.push({ title: word.slice(0, word.indexOf('=')), file: word.slice(word.indexOf('=') + 1) });
}
if (!sets.length || sets.some((s) => !s.title)) {
  console.error('usage: node plot.mjs [--out FILE.svg] "TITLE=ROWS.jsonl"...');
  process.exit(2);
}

const parse = (line) => {
  try {
    return JSON.parse(line);
  } catch {
    return null; // a torn last line
  }
};
const label = { hrpf: 'hrpf, the default', 'hrpf:1h,1d,7d,60d': 'hrpf, fixed scales' };
for (const s of sets) {
  const all = readFileSync(s.file, 'utf8').split('\n').map(parse).filter((r) => r?.row);
  const sig = all.at(-1)?.sig; // the latest settings
  const byKey = new Map(all.filter((r) => r.sig === sig).map((r) => [r.key, r.row]));
  s.rows = [...byKey].map(([key, r]) => ({
    name: label[key] ?? r.name, model: /^[a-z]*rpf/.test(key), main: key === 'hrpf', recall: r.all['recall@20'], ndcg: r.all.ndcg, span: r['recall@20_95'],
  }));
  if (!s.rows.length) throw new Error(`${s.file}: no rows`);
}

const text = (t) => String(t).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const W = 860, L = 244, R = 104, BAR = 15, STEP = 23, HEAD = 92;
const rows = sets.map((s) => s.rows.length);
const H = HEAD + rows.reduce((a, n) => a + n * STEP + 58, 0);
const x = (v) => L + v * (W - L - R);
const svg = [];
const title = 'Ranking what users really took: recall@20 and NDCG';
svg.push(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${W} ${H}" font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="${text(title)}">`);
svg.push(`<rect width="${W}" height="${H}" fill="#ffffff"/><text x="20" y="28" font-size="17" font-weight="600" fill="#1b1f24">${text(title)}</text>`);
svg.push(`<text x="20" y="50" fill="#57606a">Full ranking at each later event, ties at mid-rank; the same number of factors throughout.</text>`);
svg.push(`<text x="20" y="68" fill="#57606a">Bar: recall@20 with its 95 % interval over users; black tick: NDCG. Numbers: both.</text>`);
let y = HEAD;
for (const s of sets) {
  const top = y + 24;
  const best = Math.max(...s.rows.filter((r) => !r.model).map((r) => r.recall));
  svg.push(`<text x="20" y="${y + 12}" font-weight="600" fill="#1b1f24">${text(s.title)}</text>`);
  for (const v of [0, 0.2, 0.4, 0.6, 0.8]) {
    svg.push(`<line x1="${x(v)}" y1="${top - 4}" x2="${x(v)}" y2="${top + s.rows.length * STEP}" stroke="#e1e4e8"/>`);
    svg.push(`<text x="${x(v)}" y="${top + s.rows.length * STEP + 14}" text-anchor="middle" fill="#57606a">${v}</text>`);
  }
  s.rows.forEach((r, i) => {
    const at = top + i * STEP, mid = at + BAR / 2;
    svg.push(`<text x="${L - 8}" y="${at + 12}" text-anchor="end" fill="#1b1f24"${r.main ? ' font-weight="600"' : ''}>${text(r.name)}</text>`);
    svg.push(`<rect x="${L}" y="${at}" width="${(x(r.recall) - L).toFixed(1)}" height="${BAR}" fill="${r.main ? '#1f6fb4' : r.model ? '#7fb3dc' : '#b8bfc6'}"/>`);
    if (r.span?.[1] > 0) svg.push(`<path d="M${x(r.span[0]).toFixed(1)} ${mid}H${x(r.span[1]).toFixed(1)}M${x(r.span[0]).toFixed(1)} ${mid - 4}v8M${x(r.span[1]).toFixed(1)} ${mid - 4}v8" stroke="#444c56" fill="none"/>`);
    svg.push(`<path d="M${x(r.ndcg).toFixed(1)} ${at - 1}v${BAR + 2}" stroke="#000000" stroke-width="2"/>`);
    svg.push(`<text x="${W - R + 8}" y="${at + 12}" fill="#1b1f24">${r.recall.toFixed(3)} / ${r.ndcg.toFixed(3)}</text>`);
  });
  svg.push(`<line x1="${x(best).toFixed(1)}" y1="${top - 4}" x2="${x(best).toFixed(1)}" y2="${top + s.rows.length * STEP}" stroke="#b5303b" stroke-dasharray="4 3"/>`);
  svg.push(`<text x="${x(best).toFixed(1)}" y="${top - 8}" text-anchor="middle" font-size="11" fill="#b5303b">best baseline</text>`);
  y = top + s.rows.length * STEP + 34;
}
svg.push('</svg>');
writeFileSync(out, svg.join('\n') + '\n');
