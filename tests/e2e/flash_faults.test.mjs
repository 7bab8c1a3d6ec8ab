// What happens to a packed model's file while it is served or made (flash.md P15): it is cut short, replaced, overwritten, read by
// two servers, its reads are unaligned or not direct, memory must not be locked or is too small, and the process that packs it is killed.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { haveModel, model, slow, startServer, strobe, until } from './lib.mjs';

const opts = { skip: haveModel('flash faults') ? false : 'shared data absent' };
const prompt = 'Once upon a time there was a little girl';

async function withFolder(work) {
  const dir = mkdtempSync(join(tmpdir(), 'strobe-faults-'));
  try {
    await work(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function pack(dir, name, ...more) {
  const out = join(dir, name);
  execFileSync(strobe, ['pack', '-m', model, '--activation', 'relu', '--mask', 'sketch', '-o', out, ...more], { stdio: 'pipe' });
  return out;
}

// The least memory, which has no room for a single neuron: every pass reads.
function hungry(packed, ...more) {
  const flash = ['--flash', 'sparse', '--ctx', '256'];
  const r = spawnSync(strobe, ['estimate', '-m', packed, '--ram', '1MiB', '--json', '--slots', '1', ...flash], { encoding: 'utf8' });
  assert.equal(r.status, 4, r.stderr);
  return ['-m', packed, ...flash, '--ram', String(JSON.parse(r.stdout).least_bytes), ...more];
}

// Ends the server whatever happens, and well.
async function serving(args, work) {
  const s = await startServer(args);
  let how;
  try {
    await work(s);
  } finally {
    how = await s.stop();
  }
  assert.deepEqual(how, { code: 0, signal: null }, s.log());
}

function generate(packed, limit, ...more) {
  const args = ['generate', '--json', '-p', prompt, '-n', '24', '--temp', '0', '--draft', '0', ...hungry(packed, ...more)];
  const r = spawnSync('bash', ['-c', `${limit} exec "$0" "$@"`, strobe, ...args], { encoding: 'utf8' });
  assert.equal(r.status, 0, r.stderr);
  const d = JSON.parse(r.stdout);
  assert.ok(d.flash.bytes_read > 100000, 'neurons are read from the file');
  return d.tokens.join(' ');
}

async function complete(s, text = prompt) {
  const r = await fetch(`${s.url}/v1/completions`, {
    method: 'POST', headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: text, max_tokens: 24, temperature: 0, ignore_eos: true, draft_max: 0 }),
  });
  const body = await r.json();
  return { status: r.status, text: body.choices?.[0].text, error: body.error?.message };
}

async function bytesRead(s) {
  return (await (await fetch(`${s.url}/api/flash/stats`)).json()).bytes_read;
}

test('a file cut short while it is served is an error that names it, and the server stays up', opts, () => withFolder(async (dir) => {
  const packed = pack(dir, 'cut.gguf');
  const whole = readFileSync(packed);
  for (const source of ['auto', 'pread', 'buffered', 'mmap']) {
    await serving(hungry(packed, '--source', source), async (s) => {
      const before = await complete(s);
      assert.equal(before.status, 200, before.error);
      assert.ok(await bytesRead(s) > 100000, 'neurons are read from the file');
      const fd = openSync(packed, 'r+');
      ftruncateSync(fd, 400000);
      closeSync(fd);
      const cut = await complete(s, `${prompt} who`);
      assert.equal(cut.status, 500, source);
      assert.match(cut.error, /cut\.gguf.*while in use: it was truncated/, source);
      assert.equal((await fetch(`${s.url}/health`)).status, 200);
      writeFileSync(packed, whole);
      assert.deepEqual(await complete(s), before, `${source}: the file is whole again`);
    });
  }
}));

test('a file replaced while it is served goes on being served from the one that was opened', opts, () => withFolder(async (dir) => {
  const packed = pack(dir, 'old.gguf');
  await serving(hungry(packed), async (s) => {
    const before = await complete(s), longer = await complete(s, `${prompt} who`);
    const other = pack(dir, 'other.gguf', '--type', 'f16');
    const read = await bytesRead(s);
    renameSync(other, packed);
    assert.deepEqual(await complete(s, `${prompt} who`), longer);
    writeFileSync(join(dir, 'junk'), 'not a model');
    renameSync(join(dir, 'junk'), packed);
    assert.deepEqual(await complete(s), before);
    assert.ok(await bytesRead(s) > read, 'it was read again');
  });
}));

test('a model copied over the one that is served is an error, not other text', opts, () => withFolder(async (dir) => {
  const file = pack(dir, 'under.gguf'), whole = readFileSync(file), other = Buffer.from(whole);
  for (let i = whole.length >> 1; i < other.length; i++) other[i] ^= 1; // the same header, other weights
  for (const source of ['auto', 'pread', 'buffered', 'mmap']) {
    await serving(hungry(file, '--source', source), async (s) => {
      const before = await complete(s);
      assert.equal(before.status, 200, before.error);
      writeFileSync(file, whole); // touched, not changed
      assert.deepEqual(await complete(s), before, source);
      // The time of a change has steps of some milliseconds: what is written within the step of the last look is not seen.
      const seen = statSync(file, { bigint: true }).mtimeNs;
      await until('a later time', () => { writeFileSync(file, other, { flag: 'r+' }); return statSync(file, { bigint: true }).mtimeNs > seen; });
      for (const text of [prompt, `${prompt} who`]) {
        const after = await complete(s, text);
        assert.equal(after.status, 500, `${source}: ${after.text}`);
        assert.match(after.error, /under\.gguf' was overwritten while in use/, source);
      }
      assert.equal((await fetch(`${s.url}/health`)).status, 200);
      writeFileSync(file, whole);
    });
  }
}));

test('two servers on one packed file at once give the same answers', opts, () => withFolder(async (dir) => {
  const packed = pack(dir, 'shared.gguf');
  await serving(hungry(packed), (a) => serving(hungry(packed, '--source', 'pread'), async (b) => {
    const answers = await Promise.all(Array.from({ length: 12 }, (_, i) => complete(i % 2 ? a : b)));
    for (const r of answers) assert.deepEqual(r, { status: 200, text: answers[0].text, error: undefined });
    for (const s of [a, b]) assert.ok(await bytesRead(s) > 100000);
  }));
}));

test('64 kB of memory that may be locked are enough', opts, () => withFolder((dir) => {
  const packed = pack(dir, 'locked.gguf');
  assert.equal(generate(packed, 'ulimit -l 64 &&'), generate(packed, ''));
}));

test('a budget below the least is refused before it reads, and the least that is named works', opts, () => withFolder((dir) => {
  const packed = pack(dir, 'least.gguf');
  const run = (verb, ram, ...more) => spawnSync(strobe, [verb, '-m', packed, '--flash', 'sparse', '--ctx', '256', '--ram', String(ram), ...more],
    { encoding: 'utf8', timeout: 60000 * slow });
  const once = ['-p', prompt, '-n', '4', '--temp', '0', '-q'];
  const named = (r) => Number(/--ram (\d+)/.exec(r.stderr)?.[1]);
  const refused = run('generate', 1, ...once);
  assert.equal(refused.status, 4, refused.stderr);
  assert.equal(refused.stderr.trim().split('\n').length, 1, refused.stderr);
  const least = named(refused);
  assert.ok(least > 1 << 20, refused.stderr);
  const below = run('generate', least - 1, ...once);
  assert.equal(below.status, 4, below.stderr);
  assert.equal(named(below), least);
  assert.equal(run('generate', least, ...once).status, 0);
  const server = run('serve', 1, '--port', '0', '--data', dir, '-q');
  assert.equal(server.status, 4, server.stderr);
  assert.ok(named(server) >= least, server.stderr);
  assert.equal(server.stdout, '', 'it never listened');
}));

test('a file system in memory, whose direct reads may be refused, gives the same tokens', opts, (t) => withFolder((dir) => {
  let memory;
  try {
    memory = mkdtempSync('/dev/shm/strobe-faults-');
  } catch (e) {
    console.error(`SKIPPED: ${t.name}: ${e.message}`);
    return;
  }
  try {
    const packed = pack(memory, 'memory.gguf');
    const want = generate(pack(dir, 'disk.gguf'), '');
    for (const source of ['auto', 'buffered', 'mmap']) assert.equal(generate(packed, '', '--source', source), want, source);
  } finally {
    rmSync(memory, { recursive: true, force: true });
  }
}));

test('bundles that no direct read is aligned to give the same tokens', opts, () => withFolder((dir) => {
  const tokens = new Set();
  // A neuron is 768 bytes of F32: 64 makes a stride that is no multiple of any disk's block.
  for (const align of ['64', '512', '4096']) {
    const packed = pack(dir, `align${align}.gguf`, '--align', align);
    for (const source of ['auto', 'pread', 'buffered']) tokens.add(generate(packed, '', '--source', source));
  }
  assert.equal(tokens.size, 1, [...tokens].join('\n'));
}));

test('a run of pack that is killed leaves no file, and the next one makes the same', opts, () => withFolder(async (dir) => {
  const want = readFileSync(pack(dir, 'want.gguf', '--type', 'f32'));
  const out = join(dir, 'got.gguf');
  const args = ['pack', '-m', model, '--activation', 'relu', '--mask', 'sketch', '--type', 'f32', '-o', out];
  let killed = 0;
  for (let i = 0; i < 40; i++) {
    rmSync(out, { force: true });
    const child = spawn(strobe, args, { stdio: 'ignore' });
    const ended = new Promise((resolve) => { child.on('exit', (code, signal) => resolve(signal)); });
    await new Promise((r) => setTimeout(r, i % 20));
    child.kill('SIGKILL');
    if (await ended !== 'SIGKILL' || existsSync(out)) continue;
    killed += existsSync(`${out}.partial`) && statSync(`${out}.partial`).size < want.length;
    execFileSync(strobe, args, { stdio: 'pipe' });
    assert.ok(readFileSync(out).equals(want), `run ${i}`);
    execFileSync(strobe, ['inspect', '--verify', '-m', out], { stdio: 'pipe' });
  }
  if (killed === 0) console.error('SKIPPED: pack was too fast to be killed while it wrote');
  // A disk that is slow to take the data is not needed: any prefix is what a killed run leaves.
  for (const share of [0.1, 0.37, 0.8, 0.999]) {
    rmSync(out, { force: true });
    writeFileSync(`${out}.partial`, want.subarray(0, Math.floor(want.length * share)));
    execFileSync(strobe, args, { stdio: 'pipe' });
    assert.ok(readFileSync(out).equals(want), `cut at ${share}`);
    assert.equal(existsSync(`${out}.partial`), false);
  }
}));
