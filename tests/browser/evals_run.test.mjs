// The Evals screens over a real run: started in the browser, answered by a small model of the same server, followed to its end.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { haveModel, model, slow, startServer, until } from '../e2e/lib.mjs';
import { axe, clean, launch, noScroll, openPage, shot } from './lib.mjs';

const have = haveModel('browser evals');
const opts = { skip: have ? false : 'no model', timeout: 240000 * slow };
let browser;
let server;

before(async () => {
  browser = await launch();
  if (have) server = await startServer(['-m', model, '--slots', '4']);
});
after(async () => {
  if (browser) await browser.close();
  if (server) assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.log());
});

const get = async (path) => (await fetch(server.url + path)).json();

test('a run is made, followed, reported, looked through and compared', opts, async (t) => {
  const p = await openPage(t, browser, { url: server.url, screen: 'evals' });
  const { page } = p;
  await page.getByText('No run yet.').waitFor();
  await page.getByText('New run').click();
  await page.getByLabel('Name, for people').fill('from the browser');
  await page.getByLabel('Sets of each variant').fill('3');
  await page.getByText('More settings').click();
  await page.getByLabel('Longest answer, tokens').fill('12');
  await page.getByLabel('Only these templates').fill('bakery-tip');
  await page.getByRole('button', { name: 'Start run' }).click();
  await page.waitForURL(/#\/evals\/run-/);
  const id = page.url().split('/').pop();
  const status = page.getByRole('region', { name: 'Chosen run' }).getByRole('status').first();
  await status.getByText('done').waitFor({ timeout: 120000 * slow });
  const run = await get(`/api/evals/runs/${id}`);
  assert.equal(run.counts.done, 7);
  await page.getByText('7 of 7 questions').waitFor();
  const doc = await get(`/api/evals/runs/${id}/report`);
  assert.equal(doc.format, 'strobe-report/1');
  assert.equal(doc.counts.scored, 7);
  assert.deepEqual(doc.conditions.map((c) => c.variant), ['original', 'both', 'noop']);
  assert.ok(doc.contrasts.find((c) => c.id === 'original:both').primary);
  await page.getByRole('region', { name: 'Accuracy', exact: true }).getByRole('cell', { name: 'noop' }).waitFor();
  for (const width of [320, 1440]) {
    await page.setViewportSize({ width, height: 900 });
    await until(`no sideways scroll at ${width} px`, async () => (await noScroll(page)) === 0);
    await shot(page, `evals-real-${width}`);
  }
  assert.deepEqual(await axe(page), []);
  await page.getByRole('link', { name: 'Answers' }).click();
  await page.getByLabel('Answers that are').selectOption('');
  await page.getByText('7 of 7', { exact: true }).waitFor();
  await page.locator('tr.erow button').nth(2).click();
  const detail = page.getByRole('region', { name: 'Answer', exact: true });
  await detail.getByText('Steps, computed again').waitFor();
  const sample = await get(`/api/evals/runs/${id}/samples/2`);
  const shown = await detail.getByLabel('Question', { exact: true }).innerText();
  assert.equal(shown, sample.question);
  assert.ok(await detail.getByLabel('Question', { exact: true }).locator('mark').count() > 0);
  await shot(page, 'evals-real-answer');
  await page.getByRole('link', { name: 'Templates' }).last().click();
  await page.getByRole('link', { name: /bakery-tip, both, / }).waitFor();
  const saved = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Report' }).click();
  const html = readFileSync(await (await saved).path(), 'utf8');
  assert.ok(html.startsWith('<!doctype html>') && html.includes(id) && !/<script/i.test(html));
  await page.goto(`${server.url}/#/evals/compare/${id}/${id}`);
  await page.getByText('7 questions that both answered').waitFor();
  assert.deepEqual(await axe(page), []);
  await clean(p);
});

test('repeats, the self-test and reuse are asked for by keyboard at 320 px', opts, async (t) => {
  const p = await openPage(t, browser, { url: server.url, screen: 'evals', width: 320, height: 800 });
  const { page } = p;
  await page.getByText('New run').click();
  await page.getByLabel('Name, for people').fill('three times');
  await page.getByLabel('Sets of each variant').fill('1');
  await page.getByText('More settings').click();
  await page.getByLabel('Longest answer, tokens').fill('12');
  await page.getByLabel('Only these templates').fill('bakery-tip');
  await page.getByLabel('Temperature').focus();
  await page.keyboard.press('Control+A');
  await page.keyboard.type('1');
  await page.keyboard.press('Tab');
  assert.equal(await page.getByLabel('Answers to each question').evaluate((e) => e === document.activeElement), true);
  await page.keyboard.type('3');
  await page.keyboard.press('Tab');
  await page.keyboard.type('2');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Space');
  assert.equal(await page.getByLabel('Take answers that other runs here have').isChecked(), true);
  await page.getByText('3 questions per template, each asked 3 times.').waitFor();
  assert.equal(await noScroll(page), 0);
  assert.deepEqual(await axe(page), []);
  await shot(page, 'evals-form-320');
  const sent = page.waitForRequest((r) => r.method() === 'POST' && r.url().endsWith('/api/evals/runs'));
  await page.getByRole('button', { name: 'Start run' }).click();
  const asked = (await sent).postDataJSON();
  assert.deepEqual([asked.repeats, asked.self_test, asked.reuse], [3, 2, true]);
  await page.waitForURL(/#\/evals\/run-/);
  const id = page.url().split('/').pop();
  await until('the run ends', async () => (await get(`/api/evals/runs/${id}`)).state === 'done', 120000);
  const doc = await get(`/api/evals/runs/${id}/report`);
  assert.equal(doc.counts.scored, 9);
  assert.ok(doc.conditions.every((c) => c.repeats.most === 3 && c.repeats.questions === 1 && c.repeats.answers === 3));
  assert.ok(doc.notes.some((n) => n.startsWith('Self-test: ')) && doc.notes.some((n) => n.includes('up to 3 times')));
  await page.getByText('Questions were asked up to 3 times, and all answers count').waitFor();
  await clean(p);
});

test('the report that is mailed is accessible and asks for nothing', opts, async (t) => {
  const list = await get('/api/evals/runs');
  const html = await (await fetch(`${server.url}/api/evals/runs/${list.data[0].id}/export?format=html`)).text();
  const context = await browser.newContext({ viewport: { width: 320, height: 800 } });
  t.after(() => context.close());
  const page = await context.newPage();
  const asked = [];
  page.on('request', (r) => asked.push(r.url()));
  await page.setContent(html);
  assert.deepEqual(asked, []);
  assert.equal(await noScroll(page), 0);
  assert.deepEqual(await axe(page), []);
  await shot(page, 'evals-mailed-320');
  await page.setViewportSize({ width: 1440, height: 900 });
  await shot(page, 'evals-mailed-1440');
});
