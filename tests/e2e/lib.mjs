// Starts a strobe server for a test on a free port and ends it by its pid.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

// How many times as long as a quiet machine needs a test waits before it gives up: that costs nothing where all goes well, and
// machines of build servers may have a tenth of their processors.
export const slow = Number(process.env.STROBE_SLOW) || 8;
const root = new URL('../../', import.meta.url).pathname;
export const strobe = process.env.STROBE || join(root, 'build/release/server/strobe');
export const data = process.env.STROBE_TEST_DATA || join(root, '../shared/data');
export const model = join(data, 'models/stories260K/stories260K.gguf');

// A ReLU model of 15 MB with unequal neurons, packed for streaming, in `dir`; null and said loudly: the build has no tools for it.
// Its least memory is about 40 MB with one slot of 512 positions, all of it needs about 60.
export function packedModel(test, dir) {
  const synth = join(dirname(strobe), '../tests/bench/synth_gguf');
  if (!existsSync(synth)) {
    console.error(`SKIPPED: ${test} needs ${synth}`);
    return null;
  }
  const plain = join(dir, 'plain.gguf');
  const packed = join(dir, 'packed.gguf');
  execFileSync(synth, ['--layers', '8', '--embd', '256', '--ff', '2048', '--heads', '4', '--kv', '4', '--vocab', '512', '--ctx', '1024',
    '--type', 'Q8_0', '--activation', 'relu', '--active', '0.1', plain]);
  execFileSync(strobe, ['pack', '-q', '-m', plain, '-o', packed]);
  return packed;
}

// The smallest --ram that a refusal names for these options, plus `more` bytes.
export function ramFor(args, more) {
  const r = spawnSync(strobe, ['serve', '--port', '0', ...args, '--ram', '1MiB'], { encoding: 'utf8' });
  return String(Number(/--ram (\d+)/.exec(r.stderr)[1]) + more);
}

export function haveModel(test) {
  if (existsSync(model)) return true;
  console.error(`SKIPPED: ${test} needs shared data models/stories260K`);
  return false;
}

// data: a folder that outlives the server; without it one is made and removed. env: more variables.
export async function startServer(args = [], { data: folder, env } = {}) {
  const home = folder || mkdtempSync(join(tmpdir(), 'strobe-test-'));
  const child = spawn(strobe, ['serve', '--port', '0', '--data', home, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  let log = '';
  child.stderr.on('data', (d) => { log += d; });
  const url = await new Promise((resolve, reject) => {
    let text = '';
    const timer = setTimeout(() => reject(new Error(`no listening line\n${log}`)), 30000 * slow);
    child.stdout.on('data', (d) => {
      text += d;
      const hit = /listening on (http:\S+)\n/.exec(text);
      if (hit) {
        clearTimeout(timer);
        resolve(hit[1]);
      }
    });
    child.on('exit', (code) => reject(new Error(`server ended with ${code}\n${log}`)));
  });
  const ended = new Promise((resolve) => { child.on('exit', (code, signal) => resolve({ code, signal })); });
  return {
    url,
    pid: child.pid,
    data: home,
    log: () => log,
    async kill() {
      child.kill('SIGKILL');
      return ended;
    },
    async stop() {
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), 60000 * slow);
      const how = await ended;
      clearTimeout(timer);
      if (!folder) rmSync(home, { recursive: true, force: true });
      return how;
    },
  };
}

export async function until(what, check, ms = 15000) {
  const end = Date.now() + ms * slow;
  for (;;) {
    const v = await check();
    if (v) return v;
    if (Date.now() > end) throw new Error(`not within ${ms * slow} ms: ${what}`);
    await new Promise((r) => setTimeout(r, 10));
  }
}

// The value of a family of /metrics that has one.
export async function metric(server, name) {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return Number(new RegExp(`^strobe_${name} (\\S+)$`, 'm').exec(text)[1]);
}
