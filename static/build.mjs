// Bundles src/ into dist/: app.js, app.css, index.html, icon.svg. The result is committed, so that a
// build of the server needs no Node. `node build.mjs --check` fails when dist/ is out of date.
import { build } from 'esbuild';
import { readFileSync, writeFileSync, mkdirSync } from 'node:fs';
import { createHash } from 'node:crypto';

const here = new URL('.', import.meta.url);
const at = (p) => new URL(p, here).pathname;
const out = await build({
  entryPoints: { app: at('src/main.js') },
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2020',
  legalComments: 'eof',
  outdir: at('dist'),
  write: false,
  loader: { '.css': 'css' },
});
const files = new Map(out.outputFiles.map((f) => [f.path.split('/').pop(), Buffer.from(f.contents)]));
// Hashed names may be cached for ever; index.html names them.
let html = readFileSync(at('index.html'), 'utf8');
const dist = new Map();
for (const [name, bytes] of files) {
  const hash = createHash('sha256').update(bytes).digest('hex').slice(0, 10);
  const hashed = name.replace('.', `-${hash}.`);
  html = html.replace(`/${name}`, `/${hashed}`);
  dist.set(hashed, bytes);
}
dist.set('index.html', Buffer.from(html));
dist.set('icon.svg', readFileSync(at('icon.svg')));

const { readdirSync, rmSync } = await import('node:fs');
mkdirSync(at('dist'), { recursive: true });
if (process.argv.includes('--check')) {
  const have = readdirSync(at('dist')).sort().join();
  const want = [...dist.keys()].sort().join();
  const same = have === want && [...dist].every(([n, b]) => readFileSync(at(`dist/${n}`)).equals(b));
  if (!same) {
    console.error('static/dist is out of date: run `npm ci && npm run build` in static/');
    process.exit(1);
  }
} else {
  for (const name of readdirSync(at('dist'))) rmSync(at(`dist/${name}`));
  for (const [name, bytes] of dist) writeFileSync(at(`dist/${name}`), bytes);
  for (const [name, bytes] of dist) console.log(`${name}  ${bytes.length}`);
}
