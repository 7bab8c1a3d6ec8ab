// The Evals screens in a real Chromium. Most tests serve a planted run (tests/unit/evalreport/planted.c) in place of the server's
// answers: 7,260 samples, hostile ones among them. The last ones are with a real run (evals_run.test.mjs).
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { slow, startServer, strobe, until } from '../e2e/lib.mjs';
import { axe, clean, csvOf, launch, noScroll, openPage, shot } from './lib.mjs';

const dump = join(dirname(strobe), '../tests/unit/evalreport/planted_dump');
const have = existsSync(dump);
if (!have) console.error(`SKIPPED: the Evals screens' planted run needs ${dump}`);
const opts = { skip: have ? false : 'no planted_dump', timeout: 120000 * slow };
const WIDTHS = [320, 1440];
const planted = (...args) => execFileSync(dump, args, { encoding: 'utf8', maxBuffer: 1 << 26 });
const runRow = { id: 'run-1', name: 'planted', state: 'done', created: 1732600000, model: { name: 'scripted' }, note: '',
  counts: { total: 7260, done: 7260, failed: 0, pending: 0, leased: 0, correct: 4000, truncated: 3, empty: 1, unparsed: 2, prompt_tokens: 72600, cached_tokens: 0, completion_tokens: 36300 } };
const template = { id: 'money-1', title: 'A purchase' };
let browser;
let server;
let report;
let compare;
let samples;

before(async () => {
  browser = await launch();
  server = await startServer();
  if (!have) return;
  report = JSON.parse(planted('report'));
  compare = JSON.parse(planted('compare'));
  samples = planted('samples', 'hostile').trim().split('\n').map((l) => JSON.parse(l));
});
after(async () => {
  if (browser) await browser.close();
  if (server) assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.log());
});

const json = (route, body, status = 200) => route.fulfill({ status, contentType: 'application/json', body: JSON.stringify(body) });
const light = ({ question, response, reasoning, info, ...rest }) => rest;

// The server's answers, from the planted run. more: [pattern, handler] that come first.
async function open(t, screen, more = [], options = {}) {
  const p = await openPage(t, browser, { url: server.url, screen: 'overview', ...options });
  const { page } = p;
  const routes = [
    [/\/api\/evals\/runs\/[^/]+\/report$/, (r) => json(r, report)],
    [/\/api\/evals\/runs\/[^/]+\/samples\?/, (r) => {
      const q = new URL(r.request().url()).searchParams;
      const from = q.get('after') === null ? 0 : samples.findIndex((s) => String(s.ord) === q.get('after')) + 1;
      const data = samples.slice(from, from + Number(q.get('limit'))).map(light);
      return json(r, { object: 'list', data, has_more: from + data.length < samples.length });
    }],
    [/\/api\/evals\/runs\/[^/]+\/samples\/\d+$/, (r) => json(r, samples[Number(r.request().url().split('/').pop())])],
    [/\/api\/evals\/runs\/[^/?]+$/, (r) => json(r, runRow)],
    [/\/api\/evals\/runs(\?.*)?$/, (r) => json(r, { object: 'list', data: [runRow, { ...runRow, id: 'run-2', name: 'better', state: 'running', counts: { ...runRow.counts, done: 1200 } }], has_more: false })],
    [/\/api\/evals\/compare$/, (r) => json(r, compare)],
    [/\/api\/evals\/templates(\/.*)?$/, (r) => {
      if (r.request().method() === 'GET') return json(r, /templates$/.test(r.request().url()) ? { object: 'list', data: [template] } : { ...template, text: '{who} has {n} pears.' });
      const { text } = r.request().postDataJSON();
      if (text.includes('broken')) return json(r, { templates: [{ id: 'x', status: 'error', diagnostics: [{ level: 'error', code: 'E1', message: 'unknown name <img src=x onerror=alert(1)>' }] }], samples: [] });
      return json(r, { templates: [{ id: 'x', status: 'ok', diagnostics: [], levels: { 0: { assignments: 120 } } }], samples: [{ question: 'Ana has 3 pears.', gold: '3', spans: [{ name: 'who', kind: 'name', begin: 0, end: 3 }] }] });
    }],
  ];
  await page.route('**/api/evals/**', (route) => {
    const url = route.request().url();
    const [, handler] = [...more, ...routes].find(([re]) => re.test(url)) || [];
    return handler ? handler(route) : route.abort();
  });
  await page.goto(`${server.url}/#/${screen}`);
  await page.getByRole('heading', { level: 2, name: 'Evals' }).waitFor();
  return p;
}

const figure = (page, name) => page.getByRole('region', { name, exact: true });

async function both(p, name, check = true) {
  for (const width of WIDTHS) {
    await p.page.setViewportSize({ width, height: 900 });
    await until(`no sideways scroll at ${width} px: ${name}`, async () => (await noScroll(p.page)) === 0);
    await shot(p.page, `${name}-${width}`);
  }
  if (check) assert.deepEqual(await axe(p.page), []);
}

test('the list of runs shows how far each is', opts, async (t) => {
  const p = await open(t, 'evals');
  await p.page.getByRole('link', { name: 'planted' }).waitFor();
  assert.equal(await p.page.getByRole('progressbar', { name: 'progress of better' }).getAttribute('value'), String(1200 / 7260));
  await p.page.setViewportSize({ width: 375, height: 900 });
  assert.ok((await p.page.locator('.side').boundingBox()).height < 300, 'the names of the screens take no more than they need');
  await p.page.getByText('New run').click();
  await both(p, 'evals-list');
  await clean(p);
});

for (const colorScheme of ['light', 'dark']) {
  test(`findings: every figure has the document's numbers as a table and as a file, ${colorScheme}`, opts, async (t) => {
    const p = await open(t, 'evals/run-1', [], { colorScheme });
    const { page } = p;
    const hist = figure(page, 'Accuracy of the sets: both');
    await hist.locator('svg.drawn').waitFor();
    const c = report.conditions.find((x) => x.variant === 'both' && x.level === 0);
    const rows = await csvOf(page, hist);
    assert.deepEqual(rows.slice(1).map((r) => Number(r[2])), c.histogram.counts);
    assert.equal(rows.slice(1).reduce((s, r) => s + Number(r[2]), 0), 20, 'every set once');
    assert.equal(await hist.locator('rect.hbar').count(), c.histogram.counts.length);
    assert.equal(await hist.locator('.orig-line').count(), 1);
    const drops = await csvOf(page, figure(page, 'Drop against the originals'));
    const want = report.contrasts.filter((x) => x.kind === 'original');
    assert.deepEqual(drops.slice(1).map((r) => r[0]), want.map((x) => x.b.variant));
    drops.slice(1).forEach((r, i) => assert.ok(Math.abs(Number(r[1]) - 100 * want[i].paired.difference) < 1e-3));
    await figure(page, 'Levels of difficulty: both').getByText('points a level').waitFor();
    await figure(page, 'Clauses that change nothing').getByText('are the trap', { exact: false }).first().waitFor();
    for (const name of ['Accuracy', 'Drop against the originals', 'Names, numbers, surface, both', 'Variant against variant', 'Levels of difficulty: both', 'Clauses that change nothing', 'Tests', 'How much of it is extraction']) {
      await figure(page, name).getByRole('button', { name: 'Table' }).click();
      assert.ok(await figure(page, name).locator('tbody tr').count() > 0, name);
      await figure(page, name).getByRole('button', { name: 'Chart' }).click();
    }
    await both(p, `evals-findings-${colorScheme}`);
    await clean(p);
  });

  test(`the map of templates can be read at every shade, ${colorScheme}`, opts, async (t) => {
    const p = await open(t, 'evals/run-1/templates', [], { colorScheme });
    const { page } = p;
    await page.getByRole('region', { name: 'Templates by variant, percent right' }).waitFor();
    const shades = await page.locator('.ematrix td[class*=shade]').evaluateAll((all) => [...new Set(all.map((e) => e.className.match(/shade\d/)[0]))].sort());
    assert.deepEqual(shades, ['shade0', 'shade1', 'shade2', 'shade3', 'shade4']);
    assert.equal(await page.locator('.ematrix tbody tr').count(), 60);
    assert.equal(await page.locator('.ematrix thead th').getByText('original', { exact: true }).count(), 1, 'originals stand once');
    await page.getByLabel('Order').selectOption('id');
    assert.equal(await page.locator('.ematrix tbody th').first().innerText(), 't000');
    const rows = await csvOf(page, figure(page, 'Templates by variant'));
    assert.equal(rows.length, 1 + 60 * report.heat.conditions.length);
    await both(p, `evals-heat-${colorScheme}`);
    await page.getByRole('link', { name: /: t000, noop, / }).click();
    await page.getByText('20 of 7,260').waitFor();
    await clean(p);
  });
}

test('7,260 answers are a window that scrolls and obeys the keyboard', opts, async (t) => {
  const p = await open(t, 'evals/run-1/answers');
  const { page } = p;
  await page.getByLabel('Answers that are').selectOption('');
  await page.getByText('7,260 of 7,260', { exact: true }).waitFor();
  const box = page.locator('.windowed');
  assert.ok(await box.locator('tr.erow').count() < 60, 'only rows in sight exist');
  assert.equal(await box.locator('table').getAttribute('aria-rowcount'), '7261');
  // Through the whole list in steps: what is in sight is always filled with the right rows.
  for (const share of [0.1, 0.35, 0.6, 0.85, 1]) {
    await box.evaluate((el, s) => { el.scrollTop = s * (el.scrollHeight - el.clientHeight); }, share);
    await until(`rows at ${share}`, () => box.evaluate((el) => {
      const r = el.getBoundingClientRect();
      return [0.2, 0.5, 0.9].every((f) => {
        const hit = document.elementFromPoint(r.left + 60, r.top + f * r.height);
        return hit && hit.closest('tr.erow');
      });
    }));
  }
  assert.equal(await box.locator('tr.erow').last().getAttribute('aria-rowindex'), '7261');
  await box.locator('tr.erow button').last().focus();
  await page.keyboard.press('Home');
  await until('the first row has the focus', () => page.evaluate(() => document.activeElement.dataset.row === '0'));
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('PageDown');
  await until('a later row has the focus', () => page.evaluate(() => Number(document.activeElement.dataset.row) > 5));
  await page.keyboard.press('Enter');
  await page.getByRole('region', { name: 'Answer', exact: true }).getByText('Steps, computed again').waitFor();
  await clean(p);
});

test('a failure shows substitutions, original, what was found, steps and every profile', opts, async (t) => {
  const p = await open(t, 'evals/run-1/answers/t003/noop', [[/samples\/\d+$/, (r) => {
    const s = samples[Number(r.request().url().split('/').pop())];
    return json(r, { ...s, response: '4 apples cost 4 * 3 = 12, and 12 + 1 = 14. The answer is 12', extracted: s.extracted.map((h) => ({ ...h, begin: 57, end: 59 })) });
  }]]);
  const { page } = p;
  await page.getByText('20 of 7,260', { exact: true }).waitFor();
  await page.getByLabel('Answers that are').selectOption('trap');
  await page.locator('tr.erow button').first().click();
  const detail = page.getByRole('region', { name: 'Answer', exact: true });
  await detail.getByText('the answer that the distractor leads to').waitFor();
  assert.ok(await detail.locator('mark.m-name').count() >= 2);
  assert.equal(await detail.locator('pre[aria-label="Response"] mark').innerText(), '12');
  await detail.getByText('true:').waitFor();
  await detail.getByText('false:').waitFor();
  assert.equal(await detail.getByRole('region', { name: 'What each profile finds' }).locator('tbody tr').count(), 10);
  await detail.getByLabel('Original question').waitFor();
  await both(p, 'evals-answer');
  await page.getByRole('button', { name: 'Next' }).click();
  await clean(p);
});

test('hostile answers stay text', opts, async (t) => {
  const long = `${'9'.repeat(1 << 20)}\u202e</pre><img src=x onerror=alert(3)>`;
  const p = await open(t, 'evals/run-1/answers', [[/samples\/\d+$/, (r) => {
    const s = samples[Number(r.request().url().split('/').pop())];
    return json(r, { ...s, response: s.ord % 2 ? s.response : long, gold: '<b>7</b>' });
  }]]);
  const { page } = p;
  await page.locator('tr.erow button').first().click();
  const detail = page.getByRole('region', { name: 'Answer', exact: true });
  await detail.getByText('Steps, computed again').waitFor();
  for (let i = 0; i < 3; i++) {
    const all = detail.getByRole('button', { name: /^Show all/ });
    if (await all.count()) await all.first().click();
    await page.getByRole('button', { name: 'Next' }).click();
    await detail.getByText('Steps, computed again').waitFor();
  }
  assert.equal(await page.locator('main img, main script, main b b').count(), 0);
  assert.ok(!(await detail.innerText()).includes('\u202e'));
  await page.setViewportSize({ width: 320, height: 900 });
  await until('no sideways scroll', async () => (await noScroll(page)) === 0);
  await clean(p);
});

test('templates with the same share of right answers stand on the diagonal', opts, async (t) => {
  const templates = [{ id: 't1', n: 3, a: 0.1 + 0.2, b: 0.3 }, { id: 't2', n: 3, a: 0.3, b: 0.1 + 0.2 }];
  const doc = { ...compare, conditions: compare.conditions.map((c) => ({ ...c, templates })) };
  const p = await open(t, 'evals/compare/run-1/run-2', [[/\/compare$/, (r) => json(r, doc)]]);
  await p.page.locator('.pdot').first().waitFor();
  assert.equal(await p.page.locator('.pdot').count(), compare.conditions.length, 'one dot for both');
  assert.equal(await p.page.locator('.pdot.up, .pdot.down').count(), 0);
  await clean(p);
});

test('two models are compared template by template', opts, async (t) => {
  const p = await open(t, 'evals/compare/run-1/run-2');
  const { page } = p;
  const fig = figure(page, 'Template by template: noop');
  await fig.locator('circle').first().waitFor();
  const rows = await csvOf(page, fig);
  const c = compare.conditions.find((x) => x.variant === 'noop');
  assert.deepEqual(rows.slice(1).map((r) => r.map((v, i) => (i ? Number(v) : v))), c.templates.map((x) => [x.id, x.n, x.a, x.b]));
  await both(p, 'evals-compare');
  await clean(p);
});

test('the workbench checks while one types, and what it says stays text', opts, async (t) => {
  const p = await open(t, 'evals/templates');
  const { page } = p;
  await page.getByText('Ana has 3 pears.', { exact: false }).waitFor();
  assert.equal(await page.locator('.samples mark').innerText(), 'Ana');
  await both(p, 'evals-workbench');
  await page.getByLabel('Template', { exact: true }).fill('broken');
  await page.getByText('unknown name <img', { exact: false }).waitFor();
  assert.equal(await page.getByLabel('Template', { exact: true }).getAttribute('aria-invalid'), 'true');
  assert.equal(await page.locator('main img').count(), 0);
  await page.getByLabel('Start from').selectOption('money-1');
  await until('the chosen template', async () => (await page.getByLabel('Template', { exact: true }).inputValue()).includes('pears'));
  await clean(p);
});

test('a run is followed live, and its end is noticed', opts, async (t) => {
  let state = { ...runRow, state: 'running', counts: { ...runRow.counts, done: 100, correct: 50 } };
  let streams = 0;
  const p = await open(t, 'evals/run-1', [
    [/\/events$/, (r) => {
      streams += 1;
      const body = `data: ${JSON.stringify({ id: 'run-1', counts: { done: 100 * streams, correct: 50 * streams } })}\n\n`;
      if (streams === 3) state = { ...runRow, counts: { ...runRow.counts, correct: 5000 } };
      return r.fulfill({ status: 200, contentType: 'text/event-stream', body });
    }],
    [/\/runs\/run-1$/, (r) => json(r, state)],
  ]);
  const { page } = p;
  const status = page.getByRole('region', { name: 'Chosen run' }).getByRole('status').first();
  await status.getByText('running').waitFor();
  await status.getByText('done').waitFor({ timeout: 60000 * slow });
  await page.getByText('5,000 of 7,260 answered').waitFor();
  assert.ok(streams >= 3);
  await clean(p);
});

test('what the server refuses is said', opts, async (t) => {
  const p = await open(t, 'evals', [[/\/runs$/, (r) => (r.request().method() === 'POST' ? json(r, { error: { message: 'count: 0 is not in 1..100000', param: 'count', code: 'invalid_value', type: 'invalid_request_error' } }, 400) : r.fallback())],
    [/run-404/, (r) => json(r, { error: { message: "there is no run 'run-404'", param: null, code: 'not_found', type: 'not_found_error' } }, 404)]]);
  const { page } = p;
  await page.getByText('New run').click();
  await page.getByRole('button', { name: 'Start run' }).click();
  await page.locator('#eval-error').getByText('is not in 1..100000').waitFor();
  assert.equal(await page.getByLabel('Sets of each variant').getAttribute('aria-invalid'), 'true');
  await page.goto(`${server.url}/#/evals/run-404`);
  await page.getByRole('alert').getByText("there is no run 'run-404'").waitFor();
  assert.ok(p.faults.every((f) => /status of (400|404)/.test(f)), p.faults.join());
});
