// The Flash screen against servers that stream neurons, stream nothing, and have no model.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { haveModel, model, packedModel, ramFor, slow, startServer, until } from '../e2e/lib.mjs';
import { axe, clean, csvOf, launch, noScroll, openPage, shot } from './lib.mjs';

const dir = mkdtempSync(join(tmpdir(), 'strobe-flash-'));
const packed = packedModel('flash screen', dir);
const opts = { skip: packed ? false : 'no synth_gguf', timeout: 60000 * slow };
const WIDTHS = [320, 390, 1280];
let browser;
let server;

before(async () => {
  browser = await launch();
  if (!packed) return;
  const args = ['-m', packed, '--slots', '2', '--ctx', '512', '--threads', '1'];
  server = await startServer([...args, '--ram', ramFor(args, 3 << 20)]);
});
after(async () => {
  if (browser) await browser.close();
  if (server) assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.log());
  rmSync(dir, { recursive: true });
});

const open = (t, more) => openPage(t, browser, { url: server && server.url, screen: 'flash', ...more });
const figure = (page, name) => page.getByRole('region', { name, exact: true });
const timeline = (page) => figure(page, "Where each token's time went");
const get = async (path) => (await fetch(server.url + path)).json();

// Guessed tokens would make it fewer passes than tokens; whether any are guessed depends on how long passes take.
async function traceOne(page, tokens) {
  await page.route('**/v1/completions', (route) => route.continue({ postData: JSON.stringify({ ...route.request().postDataJSON(), draft_max: 0 }) }));
  await page.getByLabel('New tokens').fill(String(tokens));
  await page.getByRole('button', { name: 'Trace the next answer' }).click();
  await timeline(page).getByText(new RegExp(`Pass \\d+ of ${tokens}:`)).waitFor();
}

test('an answer is traced, and its passes are those that the server tells', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  await page.getByText('Cache hit rate', { exact: true }).waitFor();
  await page.getByText(/^Mask resident: exact, every neuron that fires is found/).waitFor();
  await traceOne(page, 12);
  const id = await page.getByLabel('Trace in view').inputValue();
  const told = await get(`/api/flash/traces/${id}`);
  assert.equal(told.passes.length, 12);
  const rows = await csvOf(page, timeline(page));
  assert.deepEqual(rows[0], ['pass', 'phase', 'tokens out', 'attention ms', 'mask ms', 'wait for disk ms', 'compute ms', 'other ms', 'total ms', 'bytes', 'reads']);
  assert.equal(rows.length, 13);
  told.passes.forEach((pass, i) => {
    const r = rows[i + 1];
    const parts = r.slice(3, 8).map(Number);
    assert.equal(r[1], pass.phase);
    assert.ok(Math.abs(parts.reduce((a, b) => a + b, 0) - pass.total_ns / 1e6) < 1e-6, 'the stack is as high as the pass is long');
    assert.equal(Number(r[9]), pass.layers.reduce((n, l) => n + l.bytes, 0));
  });
  await clean(p);
});

test('a pass is chosen by pointer and by keyboard, and opens to its layers', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  await traceOne(page, 12);
  const told = await get(`/api/flash/traces/${await page.getByLabel('Trace in view').inputValue()}`);
  const layers = timeline(page).getByRole('region', { name: 'Layers of the chosen pass' });
  const missed = async () => (await layers.locator('tbody tr td:nth-child(7)').allInnerTexts()).join();
  const want = (i) => told.passes[i].layers.map((l) => `${l.missed.toLocaleString('en-US')} / ${l.needed.toLocaleString('en-US')}`).join();
  assert.equal(await missed(), want(1), 'the first token after the prompt');
  const slider = timeline(page).getByRole('slider');
  await slider.focus();
  await page.keyboard.press('ArrowRight');
  await timeline(page).getByText(/Pass 3 of 12/).waitFor();
  assert.equal(await missed(), want(2));
  const bars = timeline(page).locator('svg.bars');
  const box = await bars.boundingBox();
  await bars.click({ position: { x: (box.width * 5.5) / 24, y: 100 } });
  await timeline(page).getByText(/Pass 6 of 12/).waitFor();
  assert.equal(await missed(), want(5));
  await clean(p);
});

test('the trace is saved for perfetto', opts, async (t) => {
  const p = await open(t);
  await traceOne(p.page, 4);
  const download = p.page.waitForEvent('download');
  await p.page.getByRole('button', { name: 'Perfetto file' }).click();
  const file = await download;
  assert.match(file.suggestedFilename(), /^strobe-req-[0-9a-f]{16}\.perfetto\.json$/);
  const doc = JSON.parse(readFileSync(await file.path(), 'utf8'));
  assert.ok(doc.traceEvents.filter((e) => e.ph === 'X').length > 4 * 8);
  await clean(p);
});

test('tiles, heat map, latencies and hit rate follow what runs', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  const heat = figure(page, 'Layers over time');
  await page.getByText('Cache hit rate', { exact: true }).waitFor();
  const before = (await get('/api/flash/stats')).reads;
  await traceOne(page, 16);
  await until('a column of what ran now', async () => (await csvOf(page, heat)).slice(1).some((r) => r[0] !== 'before this screen was opened'));
  const rows = await csvOf(page, heat);
  assert.equal(rows[0].length, 1 + 8);
  await heat.getByRole('combobox', { name: /^Shows/ }).selectOption('missed');
  await heat.getByRole('combobox', { name: /^Columns/ }).selectOption('trace');
  const told = await get(`/api/flash/traces/${await page.getByLabel('Trace in view').inputValue()}`);
  const passes = await csvOf(page, heat);
  assert.deepEqual(passes.slice(1).map((r) => r.slice(1).map(Number)), told.passes.map((x) => x.layers.map((l) => l.missed)));
  const stats = await get('/api/flash/stats');
  assert.ok(stats.reads > before);
  const tile = (label) => page.locator('.tile', { has: page.getByText(label, { exact: true }) }).locator('.v');
  await until('the tile', async () => (await tile('Cache hit rate').innerText()) === `${(100 * stats.cache_hit_rate).toFixed(1)} %`);
  assert.equal(await tile('Read amplification').innerText(), stats.read_amplification.toFixed(2));
  const latency = await csvOf(page, figure(page, 'Reads by latency'));
  assert.equal(latency.slice(1).reduce((n, r) => n + Number(r[1]), 0), stats.reads);
  await until('a hit rate', async () => (await csvOf(page, figure(page, 'Cache hit rate, last five minutes'))).slice(1).some((r) => Number(r[1]) > 0));
  for (const name of ['Layers over time', 'Reads by latency', "Where each token's time went"]) {
    await figure(page, name).getByRole('button', { name: 'Table' }).click();
    assert.ok(await figure(page, name).locator('tbody tr').count() > 1, name);
  }
  await clean(p);
});

test('the budget slider asks for a plan and shows what limits it', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  const card = figure(page, 'What another budget would give');
  const slider = card.getByRole('slider');
  await card.getByText('(current)').waitFor();
  const { ram_budget: budget } = await get('/api/flash/stats');
  await card.getByText(`${(budget / 2 ** 20).toFixed(1)} MiB (current)`).waitFor();
  await card.getByText('streamed by neurons').waitFor();
  const value = async (term) => card.locator('dt', { hasText: term }).locator('xpath=following-sibling::dd[1]').innerText();
  const now = parseFloat(await value('predicted'));
  await slider.focus();
  await page.keyboard.press('End');
  await card.getByText('all in memory').waitFor();
  assert.ok(parseFloat(await value('predicted')) > now);
  assert.match(await value('predicted'), /times that of the current budget/);
  assert.match(await value('limited by'), /\w/);
  await page.keyboard.press('Home');
  await card.getByRole('alert').getByText(/the least that works is/).waitFor();
  await card.getByRole('button', { name: 'Current budget' }).click();
  await card.getByText('(current)').waitFor();
  assert.equal(parseFloat(await value('predicted')), now);
  await clean(p);
});

for (const colorScheme of ['light', 'dark']) {
  test(`the screen has no serious accessibility fault and does not scroll sideways, ${colorScheme}`, opts, async (t) => {
    const p = await open(t, { colorScheme });
    await traceOne(p.page, 8);
    await figure(p.page, 'What another budget would give').getByRole('slider').waitFor();
    assert.deepEqual(await axe(p.page), []);
    for (const width of WIDTHS) {
      await p.page.setViewportSize({ width, height: 900 });
      await until(`no sideways scroll at ${width} px`, async () => (await noScroll(p.page)) === 0);
      await shot(p.page, `flash-${colorScheme}-${width}`);
    }
    await clean(p);
  });
}

test('a trace of another client is shown by its id, a lost one is told', opts, async (t) => {
  const r = await fetch(`${server.url}/v1/completions`, { method: 'POST',
    body: JSON.stringify({ prompt: 'elsewhere', max_tokens: 3, ignore_eos: true, flash: { trace: true } }) });
  const id = r.headers.get('x-request-id');
  await r.json();
  const p = await open(t);
  await p.page.getByLabel('Trace in view').selectOption(id);
  await timeline(p.page).getByText(/of 3:/).waitFor();
  await p.page.route('**/api/flash/traces/**', (route) => route.fulfill({ status: 404, contentType: 'application/json',
    body: JSON.stringify({ error: { message: 'there is no trace <b>x</b>', type: 'not_found_error', param: null, code: 'not_found' } }) }));
  await p.page.getByRole('button', { name: 'Perfetto file' }).click();
  await p.page.getByRole('alert').getByText('there is no trace <b>x</b>').waitFor();
  assert.ok(p.faults.every((f) => /status of 404/.test(f)), p.faults.join());
});

test('a model in memory: the screen says so and how to stream', { skip: haveModel('flash screen') ? false : 'shared data absent', timeout: 60000 * slow }, async (t) => {
  const whole = await startServer(['-m', model, '--slots', '1', '--threads', '1']);
  t.after(() => whole.stop());
  const p = await open(t, { url: whole.url });
  await p.page.getByRole('heading', { name: 'Nothing is streamed' }).waitFor();
  await p.page.getByText('--ram 2GiB').waitFor();
  await traceOne(p.page, 5);
  assert.equal(await p.page.getByText('Read amplification').count(), 0);
  assert.deepEqual(await axe(p.page), []);
  for (const width of WIDTHS) {
    await p.page.setViewportSize({ width, height: 900 });
    await until(`no sideways scroll at ${width} px`, async () => (await noScroll(p.page)) === 0);
  }
  await shot(p.page, 'flash-resident');
  await clean(p);
});

test('without a model the screen says how to give one', { timeout: 60000 * slow }, async (t) => {
  const bare = await startServer([]);
  t.after(() => bare.stop());
  const p = await open(t, { url: bare.url });
  await p.page.getByRole('alert').getByText('-m MODEL').waitFor();
  assert.deepEqual(await axe(p.page), []);
  await clean(p);
});
