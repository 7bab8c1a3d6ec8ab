// The Recommend screen against a real server: a newcomer loads the demo with one click and sees all of it work.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { slow, startServer, until } from '../e2e/lib.mjs';
import { axe, clean, csvOf, launch, noScroll, openPage, shot } from './lib.mjs';

const opts = { timeout: 180000 * slow };
const WIDTHS = [320, 1440];
let browser;
let server;

before(async () => {
  browser = await launch();
  server = await startServer([]);
});
after(async () => {
  if (browser) await browser.close();
  if (server) assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.log());
});

const open = (t, more) => openPage(t, browser, { url: server.url, screen: 'recommend', ...more });
const part = (page, name) => page.getByRole('region', { name, exact: true });
const get = async (path) => (await fetch(server.url + path)).json();
const post = async (path, body) => (await fetch(server.url + path, { method: 'POST', body: JSON.stringify(body) })).json();

async function loaded(t, more) {
  const p = await open(t, more);
  await part(p.page, 'Top items now').locator('ol.tops > li').first().waitFor({ timeout: 60000 * slow });
  return p;
}

test('an empty server says how to begin, and one click loads the demo, fits and shows it', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  const begin = part(page, 'Fit a model');
  await begin.getByText('There are no events yet').waitFor();
  assert.deepEqual(await axe(page), []);
  await shot(page, 'recommend-empty');
  await begin.getByRole('button', { name: 'Load demo data and fit' }).click();
  await part(page, 'Top items now').locator('ol.tops > li').first().waitFor({ timeout: 90000 * slow });
  const stats = await get('/api/recsys/stats');
  await page.getByText(stats.active, { exact: true }).first().waitFor();
  await part(page, 'Health of the data').getByText(/of 240 users on 96 items/).waitFor();
  await part(page, 'Models').getByText('in use').waitFor();
  await part(page, `Bound (ELBO) of ${stats.active}`).waitFor();
  await clean(p);
});

test('items, shares and times are those that the server tells', opts, async (t) => {
  const p = await loaded(t);
  const { page } = p;
  const { user } = (await get('/api/recsys/users?limit=1')).data[0];
  await part(page, `Rate of ${user}`).waitFor();
  const names = await part(page, 'Top items now').locator('ol.tops > li button.link').allInnerTexts();
  assert.equal(names.length, 10);
  const rows = await csvOf(page, part(page, 'Top items now'));
  assert.equal(rows.length, 11);
  // Asked as the page did, for the same second: the rates fall as time goes by.
  const asked = await page.evaluate(() => performance.getEntriesByType('resource').map((e) => new URL(e.name)).filter((u) => u.pathname.endsWith('/recommend'))
    .map((u) => [Number(u.searchParams.get('at')), u.pathname + u.search]).sort((a, b) => a[0] - b[0])[0][1]);
  const told = await get(asked);
  assert.ok(asked.includes(encodeURIComponent(user)), asked);
  assert.deepEqual(names.slice(0, 3), told.items.slice(0, 3).map((x) => x.item));
  await part(page, 'Top items now').getByText(/habit: \d+ own event/).first().waitFor();
  const back = part(page, 'When the next event comes');
  await back.getByText('50 %').waitFor();
  const curve = await csvOf(page, part(page, `Rate of ${user}`));
  assert.match(curve[0].join(), /^time,all,taste,own habit.*,events \(\d+\)$/);
  assert.ok(curve.length > 300);
  await clean(p);
});

test('another user, another hour and filters change the lists', opts, async (t) => {
  const p = await loaded(t);
  const { page } = p;
  await page.getByLabel('User', { exact: true }).fill('ben-03');
  await page.getByRole('button', { name: 'Show', exact: true }).click();
  await part(page, 'Rate of ben-03').waitFor();
  assert.match(page.url(), /#\/recommend\/ben-03$/);
  await page.getByLabel('Items already taken').selectOption('exclude');
  await until('no own items', async () => (await part(page, 'Top items now').getByText(/own event/).count()) === 0);
  await page.getByLabel('Items already taken').selectOption('only');
  await until('own items', async () => (await part(page, 'Top items now').getByText(/own event/).count()) > 0);
  await page.getByLabel('Items already taken').selectOption('allow');
  const slider = page.getByRole('slider', { name: 'Hours later' });
  await slider.focus();
  const before = await part(page, 'Top items later').locator('p.note').innerText();
  await page.keyboard.press('PageUp');
  await until('another time', async () => (await part(page, 'Top items later').locator('p.note').innerText()) !== before);
  await part(page, 'Top items now').locator('ol.tops > li button.link').first().click();
  await part(page, 'Similar items').getByRole('listitem').first().waitFor();
  await clean(p);
});

test('an event that comes in while somebody looks is seen', opts, async (t) => {
  const p = await loaded(t);
  const { page } = p;
  const user = 'somebody <b>new</b>';
  await post('/api/recsys/events', { events: [1, 2, 3].map((i) => ({ user, item: '<img src=x onerror=alert(1)>', time: Date.now() / 1000 - i * 4000 })) });
  await page.goto(`${server.url}/#/recommend/${encodeURIComponent(user)}`);
  await part(page, `Rate of ${user}`).waitFor({ timeout: 60000 * slow });
  await part(page, 'Top items now').getByText('<img src=x onerror=alert(1)>').first().waitFor();
  await clean(p);
});

test('a second model is fitted and put into use from the screen', opts, async (t) => {
  const p = await loaded(t);
  const { page } = p;
  const first = (await get('/api/recsys/stats')).active;
  const fit = part(page, 'Fit a model');
  await fit.getByLabel('Model').selectOption('srpf');
  await fit.getByLabel('Factors').fill('6');
  await fit.getByLabel('Sweeps at most').fill('15');
  await fit.getByRole('button', { name: /^Fit to all/ }).click();
  const second = await until('the new one in use', async () => { const { active } = await get('/api/recsys/stats'); return active !== first && active; }, 60000);
  await part(page, 'Models').getByText(second).waitFor({ timeout: 60000 * slow });
  await part(page, 'Influence').waitFor({ timeout: 60000 * slow });
  await part(page, 'Models').getByRole('row', { name: new RegExp(first) }).getByRole('button', { name: 'Use' }).click();
  await until('the first one in use', async () => (await get('/api/recsys/stats')).active === first, 60000);
  await part(page, 'Models').getByRole('row', { name: new RegExp(second) }).getByRole('button', { name: 'Use' }).click();
  await until('the second one in use', async () => (await get('/api/recsys/stats')).active === second, 60000);
  await clean(p);
});

for (const colorScheme of ['light', 'dark']) {
  test(`no serious accessibility fault, no sideways scroll, ${colorScheme}`, opts, async (t) => {
    const p = await loaded(t, { colorScheme });
    await part(p.page, 'Health of the data').waitFor();
    assert.deepEqual(await axe(p.page), []);
    for (const width of WIDTHS) {
      await p.page.setViewportSize({ width, height: 900 });
      await until(`no sideways scroll at ${width} px`, async () => (await noScroll(p.page)) === 0);
      await shot(p.page, `recommend-${colorScheme}-${width}`);
    }
    await clean(p);
  });
}

test('a cause has one colour on the whole screen', opts, async (t) => {
  const p = await loaded(t);
  const { page } = p;
  const keys = Object.fromEntries(await page.locator('.keys > span').evaluateAll((all) => all.map((x) => [x.textContent, getComputedStyle(x.firstElementChild).backgroundColor])));
  const { user } = (await get('/api/recsys/users?limit=1')).data[0];
  const legend = await part(page, `Rate of ${user}`).locator('.u-legend .u-series').evaluateAll((all) => all.map((x) => [x.querySelector('.u-label').textContent, x.querySelector('.u-marker').style.borderColor || x.querySelector('.u-marker').style.border]));
  const rgb = (text) => page.evaluate((color) => { const e = document.body.appendChild(document.createElement('i')); e.style.color = color; const c = getComputedStyle(e).color; e.remove(); return c; }, text);
  let compared = 0;
  for (const [label, border] of legend) {
    if (!keys[label]) continue;
    assert.equal(await rgb(border.replace(/^.*solid /, '')), keys[label], label);
    compared += 1;
  }
  assert.ok(compared >= 2, JSON.stringify(legend));
  await clean(p);
});

test('names as long as they may be stay inside the screen', opts, async (t) => {
  const user = `user-${'n'.repeat(200)}`;
  const { last } = await get('/api/recsys/stats');
  const rows = Array.from({ length: 40 }, (_, i) => JSON.stringify({ user, item: `${'x'.repeat(200)}-${i % 12}`, time: Math.floor(last) - 4000 + i * 100 }));
  const sent = await (await fetch(`${server.url}/api/recsys/events`, { method: 'POST', headers: { 'Content-Type': 'application/x-ndjson' }, body: rows.join('\n') })).json();
  assert.equal(sent.accepted, 40);
  const p = await loaded(t);
  const { page } = p;
  await page.getByLabel('User', { exact: true }).fill(user);
  await page.getByRole('button', { name: 'Show', exact: true }).click();
  await part(page, `Rate of ${user}`).waitFor();
  for (const width of [320, 375, 1440]) {
    await page.setViewportSize({ width, height: 900 });
    await until(`no sideways scroll at ${width} px`, async () => (await noScroll(page)) === 0);
    await shot(page, `recommend-long-${width}`);
  }
  await clean(p);
});
