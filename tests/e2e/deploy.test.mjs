// What deploy/ promises: every metric it names is exported, units belong together, and the tools that read the files accept them.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { haveModel, model, slow, startServer, strobe } from './lib.mjs';

const deploy = new URL('../../deploy/', import.meta.url).pathname;
const read = (name) => readFileSync(join(deploy, name), 'utf8');
const have = haveModel('deploy'); // without a model the engine's metrics are absent
const opts = { skip: have ? false : 'shared data absent' };
let server;
let tmp;

before(async () => {
  tmp = mkdtempSync(join(tmpdir(), 'strobe-deploy-'));
  if (have) server = await startServer(['-m', model]);
});
after(async () => {
  rmSync(tmp, { recursive: true, force: true });
  if (server) assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.log());
});

// Runs a tool of the system; false when it is not installed, and says so.
function tool(name, args, options = {}) {
  const r = spawnSync(name, args, { encoding: 'utf8', ...options });
  if (r.error?.code === 'ENOENT') {
    console.error(`SKIPPED: ${name} is not installed`);
    return false;
  }
  assert.equal(r.status, 0, `${name} ${args.join(' ')}\n${r.stdout}${r.stderr}`);
  return `${r.stdout}${r.stderr}`;
}

const metrics = /\bstrobe_[a-z0-9_]+/g;

test('every metric and label that deploy/ names is exported by /metrics', opts, async () => {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  const exported = new Map(); // name -> its label sets
  for (const line of text.split('\n')) {
    const hit = /^(strobe_[a-z0-9_]+)(?:\{(.*)\})? /.exec(line);
    if (hit) exported.set(hit[1], new Set([...(exported.get(hit[1]) || []), ...[...(hit[2] || '').matchAll(/([a-z]+)="([^"]*)"/g)].map((m) => `${m[1]}=${m[2]}`)]));
  }
  assert.ok(exported.size > 25, text);
  const named = new Set();
  for (const file of readdirSync(deploy).filter((f) => /^(prometheus|grafana)/.test(f))) {
    const body = read(file).replaceAll('\\"', '"');
    for (const [name] of body.matchAll(metrics)) {
      assert.ok(exported.has(name), `${file} names ${name}, which /metrics does not export`);
      named.add(name);
    }
    for (const [, name, label, value] of body.matchAll(/(strobe_[a-z0-9_]+)\{([a-z]+)="([^"$]+)"/g))
      assert.ok(exported.get(name).has(`${label}=${value}`), `${file}: ${name} has no ${label}="${value}"`);
  }
  assert.ok(named.size > 20, [...named].join(' '));
});

test('the dashboard is a Grafana document whose panels all ask something', () => {
  const d = JSON.parse(read('grafana-dashboard.json'));
  const ids = d.panels.map((p) => p.id);
  assert.equal(new Set(ids).size, ids.length);
  for (const p of d.panels) {
    assert.ok(p.title && p.targets.length > 0 && p.gridPos.x + p.gridPos.w <= 24, p.title);
    for (const t of p.targets) {
      assert.match(t.expr, /\bstrobe_/, p.title);
      for (const [open, close] of ['()', '{}', '[]'])
        assert.equal(t.expr.split(open).length, t.expr.split(close).length, t.expr);
    }
  }
});

test('promtool accepts scrape settings and alerts', () => {
  for (const f of ['prometheus.yml', 'prometheus-rules.yml']) copyFileSync(join(deploy, f), join(tmp, f));
  const found = tool('promtool', ['check', 'rules', join(tmp, 'prometheus-rules.yml')]);
  if (found) {
    assert.match(found, /SUCCESS: 9 rules found/);
    tool('promtool', ['check', 'config', '--syntax-only', join(tmp, 'prometheus.yml')]);
  }
});

const bytes = (text) => {
  const [, n, unit] = /^(\d+)\s*([KMGT]?)(?:i?B)?$/.exec(text);
  return Number(n) * 1024 ** 'KMGT'.indexOf(unit || '-') * (unit ? 1024 : 1);
};

test('the unit gives the group an eighth more memory than --ram, and time to drain', () => {
  const unit = read('strobe.service');
  const env = Object.fromEntries(read('strobe.env').split('\n').filter((l) => /^[A-Z]/.test(l)).map((l) => l.split(/=(.*)/s)));
  const setting = (name) => new RegExp(`^${name}=(.*)$`, 'm').exec(unit)?.[1];
  const exec = setting('ExecStart');
  for (const name of exec.matchAll(/\$\{?([A-Z_]+)\}?/g)) assert.ok(name[1] in env, `${name[1]} is not in strobe.env`);
  assert.equal(bytes(setting('MemoryMax')), bytes(env.STROBE_RAM) * 9 / 8);
  assert.ok(Number(setting('TimeoutStopSec')) > 30, 'the drain takes 30 s by default');
  for (const [name, want] of [['DynamicUser', 'yes'], ['ProtectSystem', 'strict'], ['ProtectHome', 'yes'], ['NoNewPrivileges', 'yes']])
    assert.equal(setting(name), want, name);
  // The words of ExecStart are flags that serve knows.
  const help = execFileSync(strobe, ['serve', '--help'], { encoding: 'utf8' });
  for (const [flag] of exec.matchAll(/ --[a-z-]+/g)) assert.ok(help.includes(flag), flag);
});

test('systemd-analyze accepts the unit and calls its exposure low', () => {
  const unit = join(tmp, 'strobe.service');
  writeFileSync(unit, read('strobe.service').replace('/usr/local/bin/strobe', strobe));
  const said = tool('systemd-analyze', ['verify', unit]);
  if (said === false) return;
  assert.equal(said.split('\n').filter((l) => l.includes('strobe.service')).join('\n'), '');
  tool('systemd-analyze', ['security', '--offline=true', '--threshold=20', unit]); // 2.0 of 10
});

test('nginx accepts the site, which holds back no event', () => {
  const site = read('nginx.conf');
  for (const line of ['proxy_buffering off;', 'gzip off;', 'proxy_pass_header X-Accel-Buffering;', 'proxy_next_upstream off;'])
    assert.ok(site.includes(line), line);
  writeFileSync(join(tmp, 'site.conf'), site.replace(/listen (\[::\]:)?80;/g, 'listen unix:' + join(tmp, '$1.sock').replaceAll('$1', 's') + ';').replace(/(listen unix:\S+;\s*)+/, '$1'));
  writeFileSync(join(tmp, 'nginx.conf'), `pid ${tmp}/pid;\nerror_log stderr;\nevents {}\nhttp { access_log off; include ${tmp}/site.conf; }\n`);
  tool('nginx', ['-t', '-p', tmp, '-c', join(tmp, 'nginx.conf')]);
});

test('the image copies what the build makes and installs what the program is linked with', () => {
  const file = read('Containerfile');
  assert.equal((file.match(/^FROM debian:12-slim/gm) || []).length, 2);
  assert.match(file, /^USER 10001$/m);
  assert.match(file, /^HEALTHCHECK .*CMD \[/m);
  const needed = tool('ldd', [strobe]);
  for (const [lib, pkg] of [['libjansson.so.4', 'libjansson4'], ['libmicrohttpd.so.12', 'libmicrohttpd12'], ['libpcre2-8.so.0', 'libpcre2-8-0'], ['libpq.so.5', 'libpq5'], ['libcurl.so.4', 'libcurl4'], ['libsqlite3.so.0', 'libsqlite3-0'], ['liburing.so.2', 'liburing2']]) {
    assert.ok(!needed.includes(lib) || file.includes(` ${pkg}`), `${lib} comes from ${pkg}`);
  }
  const own = [...needed.matchAll(/^\s*(lib[a-z0-9_-]+)\.so/gm)].map((m) => m[1]);
  assert.ok(own.includes('libmicrohttpd'), needed);
});

test('the health check of the image tells a served model from none', opts, async () => {
  const [, json] = /^HEALTHCHECK [^\n]*CMD (\[[\s\S]*?\])\n/m.exec(read('Containerfile').replaceAll('\\\n', ''));
  const [shell, flag, script] = JSON.parse(json);
  const check = (url) => spawnSync(shell, [flag, script.replace('/8080', `/${new URL(url).port}`)], { timeout: 30000 * slow }).status;
  const bare = await startServer();
  try {
    assert.equal(check(server.url), 0);
    assert.equal(check(bare.url), 1);
  } finally {
    await bare.stop();
  }
});
