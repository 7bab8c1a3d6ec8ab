// The Training screen: jobs are started, watched and cancelled in a real Chromium. The processes are fake_train, whose script is the
// file that the setting `data` names; the last test is with the real trainer.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { appendFileSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { slow, startServer, strobe, until } from '../e2e/lib.mjs';
import { axe, clean, csvOf, launch, noScroll, openPage, shot } from './lib.mjs';

const fake = join(dirname(strobe), '../tests/support/fake_train');
const have = existsSync(fake);
if (!have) console.error(`SKIPPED: the training screen needs ${fake}`);
const opts = { skip: have ? false : 'no fake_train', timeout: 90000 * slow };
const WIDTHS = [320, 1440];
const data = mkdtempSync(join(tmpdir(), 'strobe-training-'));
let browser;
let server;

before(async () => {
  browser = await launch();
  if (!have) return;
  const scripts = { 'fast.txt': 'step_ms=2', 'slow.txt': 'step_ms=40', 'gated.txt': 'step_ms=5 hold_at=60', 'cut.txt': 'step_ms=5 hold_at=30', 'fails.txt': 'step_ms=5 exit_at=30', 'crashes.txt': 'step_ms=5 checkpoint=10 crash_once=35' };
  for (const [name, text] of Object.entries(scripts)) writeFileSync(join(data, name), text);
  server = await startServer(['--jobs', '3'], { data, env: { STROBE_JOB_PROGRAM: fake } });
});
after(async () => {
  if (browser) await browser.close();
  if (server) assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.log());
  rmSync(data, { recursive: true, force: true });
});

const open = (t, more) => openPage(t, browser, { url: server && server.url, screen: 'training', ...more });
const get = async (path) => (await fetch(server.url + path)).json();
const figure = (page, name) => page.getByRole('region', { name, exact: true });
const chosen = (page) => page.getByRole('region', { name: 'Chosen job' });
const tile = (page, label) => chosen(page).locator('.tile', { has: page.getByText(label, { exact: true }) });

// The form is folded while a job is chosen.
async function openForm(page) {
  const form = page.locator('details.new');
  if (!(await form.evaluate((d) => d.open))) await form.getByText('New training').click();
}

async function start(page, file, steps) {
  await openForm(page);
  await page.getByLabel('Text to learn from').fill(file);
  await page.getByLabel('Steps', { exact: true }).fill(String(steps));
  const before = page.url();
  await page.getByRole('button', { name: 'Start training' }).click();
  await page.waitForURL((u) => /#\/training\/job-[0-9a-f]{12}$/.test(u.href) && u.href !== before);
  return page.url().split('/').pop();
}

const post = async (body) => (await (await fetch(`${server.url}/api/train/pretrain`, { method: 'POST', body: JSON.stringify({ n_vocab: 512, ...body }) })).json()).id;
const state = (id, want) => until(`${id} is ${want}`, async () => (await get(`/api/jobs/${id}`)).state === want, 30000);

test('without a job the screen says what it is for', opts, async (t) => {
  const p = await open(t);
  await p.page.getByText('No job yet.').waitFor();
  assert.deepEqual(await axe(p.page), []);
  for (const width of WIDTHS) {
    await p.page.setViewportSize({ width, height: 900 });
    assert.equal(await noScroll(p.page), 0);
    await shot(p.page, `training-empty-${width}`);
  }
  await clean(p);
});

test('a training is started, followed live and ends with its figures', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  const id = await start(page, 'gated.txt', 120);
  const sent = (await get(`/api/jobs/${id}`)).params;
  assert.equal(sent.data, 'gated.txt');
  assert.equal(sent.steps, 120);
  assert.ok(sent.n_layer && sent.d_model % sent.n_head === 0 && sent.n_vocab === 512);
  await figure(page, 'Loss').locator('canvas').waitFor();
  const note = () => tile(page, 'Progress').locator('.n').innerText();
  await until('the steps before the gate', async () => /step 59 of 120/.test(await note()));
  await tile(page, 'Time left').waitFor();
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 900 });
    await until(`no sideways scroll at ${width} px`, async () => (await noScroll(page)) === 0);
    await shot(page, `training-running-${width}`);
  }
  await page.setViewportSize({ width: 1440, height: 900 });
  appendFileSync(join(data, 'gated.txt'), ' go');
  await chosen(page).getByRole('status').getByText('done').waitFor({ timeout: 20000 * slow });
  assert.equal(await tile(page, 'Progress').locator('.v').innerText(), '100.0 %');
  await figure(page, 'Final figures').getByText(`runs/${id}/model.gguf`).waitFor();
  const row = page.getByRole('row').filter({ hasText: id });
  await row.getByText('done').waitFor();
  await shot(page, 'training-done');
  await clean(p);
});

test('curves have the server\'s numbers, over each axis, as a table and as a file', opts, async (t) => {
  const id = await post({ data: 'fast.txt', steps: 60, price_per_hour: 1 });
  await state(id, 'done');
  const told = (await get(`/api/jobs/${id}/metrics`)).columns;
  const p = await open(t);
  const { page } = p;
  await page.getByRole('link', { name: id }).click();
  const loss = figure(page, 'Loss');
  for (const [label, column] of [['tokens', 'tokens'], ['time', 'seconds'], ['dollars', 'dollars'], ['steps', 'step']]) {
    await page.getByRole('radio', { name: label, exact: true }).check();
    await loss.locator('canvas').waitFor();
    const rows = await csvOf(page, loss);
    assert.deepEqual(rows[0], [column, 'training', 'held out']);
    assert.deepEqual(rows.slice(1).map((r) => r.map((v) => (v === '' ? null : Number(v)))), told.step.map((_, i) => [told[column][i], told.loss[i], told.val_loss[i]]));
  }
  await page.getByRole('radio', { name: 'steps', exact: true }).focus();
  await page.keyboard.press('ArrowLeft'); // the axis by keyboard
  assert.ok(await page.getByRole('radio', { name: 'dollars', exact: true }).isChecked());
  for (const name of ['Loss', 'Tokens per second', 'Gradient norm', 'Learning rate']) {
    await figure(page, name).getByRole('button', { name: 'Table' }).click();
    assert.equal(await figure(page, name).locator('tbody tr').count(), 60, name);
  }
  assert.equal(await loss.locator('tbody tr').first().locator('td').nth(1).innerText(), told.loss[59].toFixed(4));
  await clean(p);
});

test('a running job is cancelled by keyboard and says so', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  const id = await start(page, 'slow.txt', 100000);
  await until('a step', async () => /step \d+/.test(await tile(page, 'Progress').locator('.n').innerText()));
  await chosen(page).getByRole('button', { name: 'Cancel' }).focus();
  await page.keyboard.press('Enter');
  await chosen(page).getByRole('status').getByText('cancelled').waitFor();
  assert.equal((await get(`/api/jobs/${id}`)).state, 'cancelled');
  assert.equal(await chosen(page).getByRole('button', { name: 'Cancel' }).count(), 0);
  await page.getByText('What it printed').click();
  await chosen(page).locator('pre').getByText(/stopped at step/).waitFor();
  await clean(p);
});

test('a cancelled job goes on where it was, one that fails may be tried again', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  const id = await start(page, 'slow.txt', 100000);
  const step = async () => (await get(`/api/jobs/${id}`)).progress?.step ?? 0;
  await until('a step', async () => (await step()) > 2);
  assert.equal(await chosen(page).getByRole('button', { name: 'Go on' }).count(), 0);
  await chosen(page).getByRole('button', { name: 'Cancel' }).click();
  await chosen(page).getByRole('status').getByText('cancelled').waitFor();
  const at = await step();
  await shot(page, 'training-cancelled');
  await chosen(page).getByRole('button', { name: 'Go on' }).focus();
  await page.keyboard.press('Enter');
  await chosen(page).getByRole('status').getByText('running').waitFor();
  await until('the next steps', async () => (await step()) > at + 2);
  await until('they are on the page', async () => Number((await tile(page, 'Progress').locator('.n').innerText()).replace(/^step ([\d,]+).*/, '$1').replace(/,/g, '')) > at);
  await chosen(page).getByRole('button', { name: 'Cancel' }).click();
  await chosen(page).getByRole('status').getByText('cancelled').waitFor();
  const bad = await start(page, 'fails.txt', 100);
  await chosen(page).getByRole('alert').getByText('the loss is no number').waitFor();
  writeFileSync(join(data, 'fails.txt'), 'step_ms=5'); // the reason is mended
  t.after(() => writeFileSync(join(data, 'fails.txt'), 'step_ms=5 exit_at=30'));
  await chosen(page).getByRole('button', { name: 'Go on' }).click();
  await chosen(page).getByRole('status').getByText('done').waitFor({ timeout: 20000 * slow });
  assert.equal((await get(`/api/jobs/${bad}`)).progress.step, 100);
  assert.equal(await chosen(page).getByRole('alert').count(), 0);
  await clean(p);
});

test('what went wrong is shown: a failed job, a refused setting, a lost stream', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  await start(page, 'fails.txt', 100);
  await chosen(page).getByRole('alert').getByText('step 30: the loss is no number').waitFor();
  await openForm(page);
  await page.getByLabel('Text to learn from').fill('/etc/passwd');
  await page.getByRole('button', { name: 'Start training' }).click();
  await page.locator('#train-error').getByText('must name something in the data directory').waitFor();
  assert.equal(await page.getByLabel('Text to learn from').getAttribute('aria-invalid'), 'true');
  await shot(page, 'training-refused');
  assert.ok(p.faults.every((f) => /status of 400/.test(f)), p.faults.join());
  const id = await post({ data: 'crashes.txt', steps: 60 });
  await state(id, 'done');
  await page.goto(`${server.url}/#/training/${id}`);
  await chosen(page).getByText('started again 1 time after a crash').waitFor();
  assert.equal((await csvOf(page, figure(page, 'Loss'))).length, 61, 'each step once');
});

test('a stream that breaks goes on where it was', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  let cuts = 0;
  await page.route('**/api/jobs/*/events**', (route) => (cuts++ < 2 ? route.abort() : route.continue()));
  const id = await start(page, 'cut.txt', 60);
  await until('a stream that is not cut', () => cuts > 2);
  appendFileSync(join(data, 'cut.txt'), ' go');
  await chosen(page).getByRole('status').getByText('done').waitFor({ timeout: 20000 * slow });
  await until('all 60 steps', async () => (await csvOf(page, figure(page, 'Loss'))).length === 61, 20000 * slow);
  assert.equal((await get(`/api/jobs/${id}`)).progress.step, 60);
  assert.ok(p.faults.every((f) => /Failed to load resource/.test(f)), p.faults.join());
});

test('an unknown job and a database in use are said', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  await page.goto(`${server.url}/#/training/job-000000000000`);
  await page.getByRole('alert').getByText('there is no such job').waitFor();
  const second = await startServer([], { data });
  t.after(() => second.stop());
  await page.goto(`${second.url}/#/training`);
  await page.getByRole('alert').getByText('another server uses this data directory').waitFor();
  assert.deepEqual(await axe(page), []);
  assert.ok(p.faults.every((f) => /status of (404|503)/.test(f)), p.faults.join());
});

for (const colorScheme of ['light', 'dark']) {
  test(`the screen has no serious accessibility fault and does not scroll sideways, ${colorScheme}`, opts, async (t) => {
    const p = await open(t, { colorScheme });
    const { page } = p;
    await page.getByText('More settings').click();
    await start(page, 'slow.txt', 100000);
    await figure(page, 'Gradient norm').locator('canvas').waitFor();
    await page.getByText('What it printed').click();
    assert.deepEqual(await axe(page), []);
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 900 });
      await until(`no sideways scroll at ${width} px`, async () => (await noScroll(page)) === 0);
      await shot(page, `training-${colorScheme}-${width}`);
    }
    await chosen(page).getByRole('button', { name: 'Cancel' }).click();
    await clean(p);
  });
}

test('hostile names and logs stay text', opts, async (t) => {
  const bad = '<img src=x onerror=alert(1)>';
  writeFileSync(join(data, bad), 'step_ms=5 exit_at=3');
  const id = await post({ data: bad, steps: 9 });
  await state(id, 'failed');
  const p = await open(t);
  await p.page.getByRole('link', { name: id }).click();
  await p.page.getByRole('cell', { name: bad }).first().waitFor();
  assert.equal(await p.page.locator('main img').count(), 0);
  await clean(p);
});

test('the real trainer is started and followed', { timeout: 120000 * slow }, async (t) => {
  const own = mkdtempSync(join(tmpdir(), 'strobe-training-real-'));
  t.after(() => rmSync(own, { recursive: true, force: true }));
  writeFileSync(join(own, 'text.txt'), Array.from({ length: 3000 }, (_, i) => `The ${['cat', 'dog', 'bird'][i % 3]} saw ${['a ball', 'the tree'][(i * 7) % 2]}.\n`).join(''));
  const real = await startServer([], { data: own });
  t.after(() => real.stop());
  const p = await open(t, { url: real.url });
  const { page } = p;
  await page.getByText('More settings').click();
  await page.getByLabel('Vocabulary to learn').fill('270');
  await page.getByLabel('Tokens per sequence').fill('64');
  const id = await start(page, 'text.txt', 40);
  await chosen(page).getByRole('status').getByText('done').waitFor({ timeout: 90000 * slow });
  const j = await (await fetch(`${real.url}/api/jobs/${id}`)).json();
  assert.equal(j.progress.step, 40);
  assert.ok(j.result.loss < 5);
  await figure(page, 'Final figures').getByText('40', { exact: true }).waitFor();
  await shot(page, 'training-real');
  assert.equal(await page.getByText('Quality and sparsity').count(), 0, 'no panel without figures');
  // The model that came out is made sparse: its figures are those of the result.
  const asked = await fetch(`${real.url}/api/train/relufy`, { method: 'POST', body: JSON.stringify({ from: j.result.model, data: 'text.txt', to: 'relu', steps: 10, batch: 4, ctx: 64 }) });
  const relufy = await asked.json();
  assert.equal(asked.status, 202, JSON.stringify(relufy));
  await page.goto(`${real.url}/#/training/${relufy.id}`);
  await chosen(page).getByRole('status').getByText('done').waitFor({ timeout: 90000 * slow });
  let result = null; // the page may still say "done" of the job before
  await until('relufy is done', async () => {
    const r = await (await fetch(`${real.url}/api/jobs/${relufy.id}`)).json();
    result = r.state === 'done' && r.result;
    return Boolean(result);
  }, 90000);
  const rows = await csvOf(page, figure(page, 'Zeros before down, by layer'));
  assert.deepEqual(rows.slice(1).map((r) => Number(r[3])), result.after.sparsity.layers.map((l) => l.down_in));
  await figure(page, 'Quality and sparsity').getByText(result.after.perplexity.toFixed(3)).waitFor();
  assert.deepEqual(await axe(page), []);
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 900 });
    await until(`no sideways scroll at ${width} px`, async () => (await noScroll(page)) === 0);
    await shot(page, `training-relufy-${width}`);
  }
  await clean(p);
});
