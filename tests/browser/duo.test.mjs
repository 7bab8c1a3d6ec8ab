// The Duo screen on the bundled Duo model: a trace is made, its figures are those of the API, in step with the text, as tables and files.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { slow, startServer } from '../e2e/lib.mjs';
import { axe, clean, csvOf, launch, noScroll, openPage, shot } from './lib.mjs';

const duo = new URL('../../deploy/model/strobe-duo.gguf', import.meta.url).pathname;
const opts = { timeout: 120000 * slow };
let browser;
let server;
let id;

const post = (body) => fetch(`${server.url}/api/duo/traces`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) }).then((r) => r.json());

before(async () => {
  browser = await launch();
  server = await startServer(['-m', duo, '--threads', '1', '--slots', '1']);
  id = (await post({ symbolic: true, tokens: 40, search: 'random', random: 40, placebo: 8, committed: 2, searches: true })).id;
});
after(async () => {
  if (browser) await browser.close();
  if (server) assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.log());
});

const open = async (t, more) => {
  const p = await openPage(t, browser, { url: server.url, screen: 'duo', ...more });
  await p.page.getByRole('region', { name: 'Budget curve', exact: true }).waitFor({ timeout: 30000 * slow });
  return p;
};
const figure = (page, name) => page.getByRole('region', { name, exact: true });
const get = async (name) => (await fetch(`${server.url}/api/duo/traces/${id}/aggregate?figure=${name}`)).json();

test('the figures are those of the trace', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  await page.getByLabel('Trace in view').selectOption(id);
  await page.getByText('40 tokens', { exact: false }).first().waitFor();
  const curve = await get('budget_curve');
  const rows = await csvOf(page, figure(page, 'Budget curve'));
  assert.equal(rows[0].length, 1 + Object.values(curve.curves).filter((c) => c.length).length);
  const fixed = rows[0].indexOf('best fixed route');
  const point = curve.curves.fixed_best[1];
  const row = rows.find((r) => Math.abs(Number(r[0]) - point.relative_flops) < 1e-9);
  assert.ok(Math.abs(Number(row[fixed]) - point.nats) < 1e-9);
  const usage = await get('layer_usage');
  const use = await csvOf(page, figure(page, 'Layers that the oracle makes big'));
  assert.deepEqual(use.slice(1)[6].slice(1).map(Number), usage.oracle[6]);
  const hard = await csvOf(page, figure(page, 'Difficulty'));
  assert.ok(hard.some((r) => r[0] === 'name') && hard.some((r) => r[0] === 'given'), 'classes of the word problems');
  for (const name of ['Schedules', 'Controls', 'Router against oracle', 'Layers that the router makes big']) {
    await figure(page, name).getByRole('button', { name: 'Table' }).click();
    assert.ok(await figure(page, name).locator('tbody tr').count() > 0, name);
  }
  await clean(p);
});

test('the raster goes with the text, by pointer and by keyboard, at any budget', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  await page.getByLabel('Trace in view').selectOption(id);
  const fig = figure(page, 'Tokens and their routes');
  await fig.waitFor();
  const strip = fig.getByRole('group', { name: /Tokens/ }).getByRole('button');
  await strip.nth(4).hover();
  await fig.getByText(/^Token 5 /).waitFor();
  assert.equal(await fig.locator('rect.cursor').getAttribute('x'), '4');
  await strip.nth(4).focus();
  await page.keyboard.press('Tab');
  await fig.getByText(/^Token 6 /).waitFor();
  assert.equal(await fig.locator('rect.cursor').getAttribute('x'), '5');
  await fig.getByRole('combobox', { name: /^Budget/ }).selectOption('12');
  await fig.getByLabel('Routes of').selectOption('router_route');
  await fig.getByText(/router: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11\./).waitFor();
  await fig.getByLabel('Colour of tokens').selectOption('small');
  await clean(p);
});

test('a text is traced from the screen, what is wrong is said, hostile text stays text', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  const hostile = '<img src=x onerror=alert(1)>';
  await page.getByLabel('Search').selectOption('random');
  await page.getByLabel('Text', { exact: true }).fill(hostile);
  await page.getByRole('button', { name: 'Trace', exact: true }).click();
  await page.getByText(/in \d+ sequences? of text/).first().waitFor({ timeout: 60000 * slow });
  const strip = figure(page, 'Tokens and their routes').getByRole('group', { name: /Tokens/ });
  assert.ok((await strip.innerText()).replaceAll(/\s/g, '').includes('onerror=alert(1)'));
  assert.equal(await page.locator('main img').count(), 0);
  await clean(p);
});

test('a long trace is a job that tells how far it is and can be cancelled, also by who comes later', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  await page.getByLabel('What is traced').selectOption('symbolic');
  await page.getByLabel('Tokens at most').fill('4096');
  await page.getByRole('button', { name: 'Trace', exact: true }).click();
  await page.getByText(/^Job \S+ is running: searching, \d+\.\d %$/).waitFor({ timeout: 60000 * slow });
  await page.reload();
  await page.getByText(/^Job \S+ is running: searching/).waitFor({ timeout: 60000 * slow });
  await page.getByRole('button', { name: 'Cancel' }).click();
  await page.getByRole('button', { name: 'Trace', exact: true }).waitFor({ timeout: 60000 * slow });
  assert.equal(await page.getByRole('alert').count(), 0, 'a cancelled job is no fault');
  await clean(p);
});

test('a trace is deleted from the screen', opts, async (t) => {
  const gone = (await post({ text: 'Tom has 4', search: 'random', random: 2, committed: 0, placebo: 0 })).id;
  const p = await open(t);
  const { page } = p;
  await page.getByLabel('Trace in view').selectOption(gone);
  await page.getByText(/in 1 sequence of text/).waitFor();
  await page.getByRole('button', { name: 'Delete the trace in view' }).click();
  await page.locator(`option[value="${gone}"]`).waitFor({ state: 'detached' });
  assert.equal((await fetch(`${server.url}/api/duo/traces/${gone}`)).status, 404);
  await clean(p);
});

test('the playground asks a Duo model for its ways and tells which they were', opts, async (t) => {
  const p = await openPage(t, browser, { url: server.url, screen: 'playground' });
  const { page } = p;
  const asked = page.waitForRequest((r) => r.url().endsWith('/v1/chat/completions'));
  await page.getByLabel('Feed-forward parts').selectOption('random');
  await page.getByLabel('Share of big parts').fill('0.25');
  await page.getByLabel('New tokens').fill('8');
  await page.getByLabel('Your message').fill('Anna has 3 apples.');
  await page.getByRole('button', { name: 'Send' }).click();
  assert.deepEqual((await asked).postDataJSON().duo, { mode: 'random', budget: 0.25 });
  await page.getByText(/feed-forward parts: \d+\.\d % big, \d+\.\d % small/).waitFor({ timeout: 60000 * slow });
  await page.getByLabel('Feed-forward parts').selectOption('big');
  assert.equal(await page.getByLabel('Share of big parts').count(), 0);
  await clean(p);
});

for (const width of [320, 1440]) {
  test(`it is accessible and fits ${width} pixels`, opts, async (t) => {
    const p = await open(t, { width });
    await p.page.getByLabel('Trace in view').selectOption(id);
    await figure(p.page, 'Controls').waitFor();
    assert.deepEqual(await axe(p.page), []);
    assert.ok(await noScroll(p.page) <= 0);
    await shot(p.page, `duo-${width}`);
    await clean(p);
  });
}
