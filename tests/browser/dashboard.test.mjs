// The dashboard in a real Chromium against a real server: what a user sees, does and may not be hurt by.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { haveModel, model, slow, startServer, until } from '../e2e/lib.mjs';
import { axe, clean, csvOf, launch, noScroll, openPage, shot } from './lib.mjs';

const have = haveModel('dashboard');
const opts = { skip: have ? false : 'shared data absent', timeout: 60000 * slow };
const WIDTHS = [320, 1440];
const SCREENS = ['overview', 'playground'];
const MODEL_ARGS = ['-m', model, '--slots', '2', '--queue', '4', '--ctx', '16384', '--threads', '1'];
let browser;
let server;

before(async () => {
  browser = await launch();
  if (have) server = await startServer(MODEL_ARGS);
});
after(async () => {
  if (browser) await browser.close();
  if (server) assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.log());
});

const open = (t, more) => openPage(t, browser, { url: server && server.url, ...more });
const answer = (page) => page.locator('.msg.assistant').last();

// Bans the end of text (and a new beginning), so that the tiny model talks until it is stopped.
async function endless(page, max) {
  await page.route(/\/v1\/(chat\/)?completions$/, (route) => {
    const body = route.request().postDataJSON();
    return route.continue({ postData: JSON.stringify({ ...body, max_tokens: max, logit_bias: { 1: -100, 2: -100 } }) });
  });
}

// Hands the server's events to the page one by one, some milliseconds apart, as a bigger model would: the small one sends all of
// them before the page has drawn thrice.
function pace(page) {
  return page.evaluate(() => {
    const real = window.fetch;
    const paced = () => {
      const text = new TextDecoder();
      let rest = '';
      return new TransformStream({
        async transform(bytes, out) {
          const events = (rest + text.decode(bytes, { stream: true })).split(/(?<=\n\n)/);
          rest = events[events.length - 1].endsWith('\n\n') ? '' : events.pop();
          for (const e of events) {
            await new Promise((done) => setTimeout(done, 2));
            out.enqueue(new TextEncoder().encode(e));
          }
        },
        flush(out) { out.enqueue(new TextEncoder().encode(rest)); },
      });
    };
    window.fetch = async (...args) => {
      const r = await real(...args);
      return /event-stream/.test(r.headers.get('content-type')) ? new Response(r.body.pipeThrough(paced()), r) : r;
    };
  });
}

async function ask(page, text, newTokens) {
  if (newTokens) await page.getByLabel('New tokens').fill(String(newTokens));
  await page.getByLabel('Your message').fill(text);
  await page.getByRole('button', { name: 'Send' }).click();
}

async function done(page) {
  await page.getByText(/ended: /).waitFor();
  await page.getByRole('button', { name: /^(Send|Continue)$/ }).waitFor();
}

const slots = async (url) => (await fetch(`${url}/slots`)).json();
const idle = (url) => until('all slots are free', async () => (await slots(url)).every((s) => !s.is_processing));

// A background generation over the API; begins again until its signal comes.
async function generate(url, signal) {
  try {
    while (!signal.aborted) {
      const r = await fetch(`${url}/v1/completions`, {
        method: 'POST', signal, headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ prompt: 'Once upon a time', max_tokens: 12000, stream: true, logit_bias: { 1: -100, 2: -100 } }),
      });
      for await (const c of r.body) void c;
    }
  } catch (e) {
    if (e.name !== 'AbortError') throw e;
  }
}

for (const screen of SCREENS) {
  for (const width of WIDTHS) {
    test(`${screen} loads clean at ${width} px`, opts, async (t) => {
      const p = await open(t, { screen, width });
      if (screen === 'overview') await p.page.getByText('stories260K').first().waitFor();
      assert.equal(await noScroll(p.page), 0, 'no horizontal page scroll');
      await shot(p.page, `${screen}-${width}`);
      await clean(p);
    });
  }
  for (const colorScheme of ['light', 'dark']) {
    test(`${screen} has no serious accessibility fault, ${colorScheme}`, opts, async (t) => {
      const p = await open(t, { screen, colorScheme });
      if (screen === 'playground') {
        await ask(p.page, 'Tell me of a cat', 24);
        await done(p.page);
        await p.page.locator('.strip .tok').nth(3).focus();
      } else await p.page.getByRole('heading', { name: 'Slots' }).waitFor();
      assert.deepEqual(await axe(p.page), []);
      await shot(p.page, `${screen}-${colorScheme}`);
      await clean(p);
    });
  }
}

test('overview shows the model and moves while it generates', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  const tile = (label) => page.locator('.tile', { has: page.getByText(label, { exact: true }) });
  const facts = page.locator('dl.facts').first();
  for (const text of ['llama', 'F32', '16,384 positions', 'all in memory', 'none: plain fallback']) await facts.getByText(text, { exact: false }).first().waitFor();
  const stop = new AbortController();
  const work = generate(server.url, stop.signal);
  await tile('Active sequences').getByText('1 / 2').waitFor();
  await page.getByText('generating', { exact: true }).waitFor();
  const value = async () => Number((await tile('Generated tokens/s').locator('.v').innerText()).replaceAll(',', ''));
  await until('a rate', async () => (await value()) > 0);
  const note = () => tile('Generated tokens/s').locator('.n').innerText();
  const first = await note();
  await until('the total grows', async () => (await note()) !== first);
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 900 });
    await page.waitForTimeout(1500);
    assert.equal(await noScroll(page), 0);
    await shot(page, `overview-busy-${width}`);
  }
  stop.abort();
  await work;
  await idle(server.url);
  await tile('Active sequences').getByText('0 / 2').waitFor();
  await clean(p);
});

test('the chart has a table and a CSV of the same figures', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  const chart = page.getByRole('region', { name: 'Tokens per second, last five minutes', exact: true });
  await chart.locator('canvas').waitFor();
  await until('figures of two seconds', async () => (await csvOf(page, chart)).length > 2);
  const download = page.waitForEvent('download');
  await chart.getByRole('button', { name: 'CSV' }).press('Enter');
  assert.equal((await download).suggestedFilename(), 'strobe-tokens-per-second.csv');
  const lines = (await csvOf(page, chart)).map((r) => r.join());
  assert.equal(lines[0], 'time,generated,prompt');
  for (const l of lines.slice(1)) assert.match(l, /^\d{4}-\d\d-\d\dT[\d:.]+Z,[\d.]+,[\d.]+$/);
  await chart.getByRole('button', { name: 'Table' }).press('Enter');
  await chart.getByRole('columnheader', { name: 'generated (tokens/s)' }).waitFor();
  assert.ok(await chart.locator('tbody tr').count() >= Math.min(60, lines.length - 1));
  await chart.getByRole('button', { name: 'Chart' }).press('Enter');
  await chart.locator('canvas').waitFor();
  await clean(p);
});

test('a chat streams step by step and explains its tokens', opts, async (t) => {
  const p = await open(t, { screen: 'playground' });
  const { page } = p;
  await endless(page, 400);
  await pace(page);
  // The page itself notes each length that it shows.
  await page.evaluate(() => {
    window.steps = new Set();
    new MutationObserver(() => {
      const last = [...document.querySelectorAll('.msg')].pop();
      if (last) window.steps.add(last.textContent.length);
    }).observe(document.querySelector('main'), { subtree: true, childList: true, characterData: true });
  });
  await ask(page, 'Once upon a time');
  await page.getByText(/ended: length/).waitFor({ timeout: 20000 * slow });
  const steps = await page.evaluate(() => window.steps.size);
  assert.ok(steps >= 4, `text grew in ${steps} steps`);
  await page.getByText(/first token after .*400 new tokens.*tokens\/s/).waitFor();
  const tokens = page.locator('.strip .tok');
  assert.equal(await tokens.count(), 400);
  await tokens.nth(2).focus();
  await page.getByText(/^Token 3 /).waitFor();
  const rows = page.getByRole('row').filter({ hasText: '%' });
  assert.equal(await rows.count(), await rows.filter({ hasText: '(chosen)' }).count() === 1 && await rows.count() > 5 ? 6 : 5);
  await page.keyboard.press('Tab');
  await page.getByText(/^Token 4 /).waitFor();
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 900 });
    assert.equal(await noScroll(page), 0);
    await shot(page, `playground-chat-${width}`);
  }
  await ask(page, 'And then?');
  await done(page);
  assert.equal(await page.locator('.msg').count(), 4);
  await clean(p);
});

test('Stop ends the answer and frees the slot', opts, async (t) => {
  const p = await open(t, { screen: 'playground' });
  const { page } = p;
  await endless(page, 15000);
  // The server may have sent all of it before a busy machine's page has seen the click; paced, the page is still reading.
  await pace(page);
  await ask(page, 'Once upon a time');
  await until('text', async () => (await answer(page).innerText()).length > 40);
  await page.getByRole('button', { name: 'Stop' }).press('Enter'); // it moves down as the text grows
  await page.getByText('ended: stopped by you').waitFor();
  await idle(server.url);
  const text = await answer(page).innerText();
  assert.ok(text.length > 40);
  await page.waitForTimeout(300);
  assert.equal(await answer(page).innerText(), text, 'nothing more arrives');
  await clean(p);
});

test('a plain completion continues the text', opts, async (t) => {
  const p = await open(t, { screen: 'playground' });
  const { page } = p;
  await page.getByLabel('Mode').selectOption('text');
  await page.getByLabel('Temperature').fill('0');
  await page.getByLabel('New tokens').fill('20');
  await page.getByLabel('Text to continue').fill('Once upon a time');
  await page.getByRole('button', { name: 'Continue' }).click();
  await done(page);
  const r = await (await fetch(`${server.url}/v1/completions`, { method: 'POST',
    body: JSON.stringify({ prompt: 'Once upon a time', temperature: 0, max_tokens: 20 }) })).json();
  assert.equal(await page.getByLabel('Continuation').textContent(), r.choices[0].text);
  assert.equal(await page.locator('.strip .tok').count(), 20);
  await page.locator('.strip .tok').first().focus();
  await page.getByText(/\(chosen\)/).waitFor();
  await clean(p);
});

test('hostile text from the user and from the model stays text', opts, async (t) => {
  const p = await open(t, { screen: 'playground' });
  const { page } = p;
  const bad = '<img src=x onerror=alert(1)><script>alert(2)</script>';
  const ev = (delta, logprobs) => `data: ${JSON.stringify({ choices: [{ index: 0, delta, logprobs, finish_reason: null }] })}\n\n`;
  const lp = { content: [{ token: bad, logprob: -0.1, top_logprobs: [{ token: bad, logprob: -0.1 }] }] };
  await page.route('**/v1/chat/completions', (route) => route.fulfill({ contentType: 'text/event-stream',
    body: `${ev({ role: 'assistant', content: bad }, lp)}data: ${JSON.stringify({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] })}\n\ndata: [DONE]\n\n` }));
  await page.getByLabel('System message').fill(bad);
  await ask(page, bad);
  await done(page);
  await page.locator('.strip .tok').first().focus();
  await page.getByRole('button', { name: 'Show raw prompt' }).click();
  await page.getByRole('heading', { name: 'Raw prompt' }).waitFor();
  assert.equal((await page.locator('.msg').allTextContents()).filter((x) => x.includes(bad)).length, 2);
  assert.equal(await page.locator('main img, main script').count(), 0);
  await page.unroute('**/v1/chat/completions');
  await ask(page, bad, 8);
  await done(page);
  assert.equal(await page.locator('main img, main script').count(), 0);
  await clean(p);
});

test('a refused request shows the reason', opts, async (t) => {
  const p = await open(t, { screen: 'playground' });
  await p.page.getByLabel('Temperature').fill('99');
  await ask(p.page, 'hello');
  await p.page.getByRole('alert').getByText(/temperature/).waitFor();
  assert.ok(p.faults.every((f) => /status of 400/.test(f)), p.faults.join());
});

test('the request can be copied as curl and the raw prompt shown', opts, async (t) => {
  const p = await open(t, { screen: 'playground', permissions: ['clipboard-read', 'clipboard-write'] });
  const { page } = p;
  await page.getByLabel('System message').fill('Be brief.');
  await page.getByLabel('Your message').fill("It's a cat");
  await page.getByRole('button', { name: 'Show raw prompt' }).click();
  const raw = page.locator('.card', { has: page.getByRole('heading', { name: 'Raw prompt' }) });
  assert.equal(await raw.locator('pre').textContent(), "system: Be brief.\nuser: It's a cat\nassistant:");
  await raw.getByRole('button', { name: 'Close' }).click();
  assert.equal(await raw.count(), 0);
  await page.getByRole('button', { name: 'Copy as curl' }).click();
  await page.getByRole('button', { name: 'Copied' }).waitFor();
  const text = await page.evaluate(() => navigator.clipboard.readText());
  assert.ok(text.startsWith(`curl -N ${server.url}/v1/chat/completions `), text);
  const body = JSON.parse(/-d '(.*)'$/s.exec(text)[1].replaceAll("'\\''", "'"));
  assert.deepEqual(body.messages, [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: "It's a cat" }]);
  await clean(p);
});

test('everything is reached with the keyboard', opts, async (t) => {
  const p = await open(t);
  const { page } = p;
  const at = () => page.evaluate(() => (document.activeElement.innerText || document.activeElement.tagName).trim());
  const tabTo = async (what) => {
    for (let i = 0; i < 40; i += 1) {
      await page.keyboard.press('Tab');
      if ((await at()) === what) return;
    }
    assert.fail(`Tab does not reach ${what}`);
  };
  await page.keyboard.press('Tab');
  assert.equal(await at(), 'Skip to the content');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  await page.goto(`${server.url}/`);
  await page.getByRole('heading', { level: 2, name: 'Overview' }).waitFor();
  await tabTo('Overview');
  await tabTo('Playground');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { level: 2, name: 'Playground' }).waitFor();
  await tabTo('TEXTAREA');
  await page.keyboard.type('Hello');
  await tabTo('Send');
  const ring = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(ring, 'solid', 'focus is visible');
  await page.keyboard.press('Enter');
  await done(page);
  await page.getByLabel('Your message').focus();
  await page.keyboard.type('More');
  await page.keyboard.press('Control+Enter');
  await until('a second answer', async () => (await page.locator('.msg').count()) === 4);
  await done(page);
  await clean(p);
});

test('without a model the pages say how to give one', { timeout: 60000 * slow }, async (t) => {
  const bare = await startServer([]);
  t.after(() => bare.stop());
  for (const width of WIDTHS) {
    const p = await open(t, { url: bare.url, width });
    await p.page.getByRole('heading', { name: 'No model is loaded' }).waitFor();
    await p.page.getByText('deploy/quickstart.sh MODEL.gguf', { exact: true }).waitFor();
    assert.equal(await noScroll(p.page), 0);
    await shot(p.page, `overview-none-${width}`);
    await p.page.getByRole('link', { name: 'Playground' }).click();
    await p.page.getByRole('alert').getByText('-m MODEL').waitFor();
    assert.ok(await p.page.getByRole('button', { name: 'Send' }).isDisabled());
    assert.deepEqual(await axe(p.page), []);
    await clean(p);
  }
});

// One that the system gives to nobody by itself (those begin at 32768), so that it is free again after a restart.
async function freePort() {
  for (;;) {
    const port = 20000 + Math.floor(Math.random() * 10000);
    const s = createServer();
    const free = await new Promise((r) => { s.on('error', () => r(false)).listen(port, '127.0.0.1', () => s.close(() => r(true))); });
    if (free) return String(port);
  }
}

test('a server restart is told and survived', opts, async (t) => {
  const args = [...MODEL_ARGS, '--port', await freePort()];
  const one = await startServer(args);
  const p = await open(t, { url: one.url });
  const { page } = p;
  await one.stop();
  await page.locator('.state').getByText('connection lost').waitFor();
  await page.getByRole('alert').getByText(/connection to the server is lost/).waitFor();
  const two = await startServer(args);
  t.after(() => two.stop());
  await page.locator('.state').getByText('connected', { exact: false }).waitFor({ timeout: 20000 * slow });
  await page.getByRole('alert').waitFor({ state: 'detached' });
  await page.getByRole('link', { name: 'Playground' }).click();
  await ask(page, 'Are you back?', 8);
  await done(page);
  assert.ok(p.faults.every((f) => /Failed to load resource|ERR_/.test(f)), p.faults.join());
});
