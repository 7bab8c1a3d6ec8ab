// What the browser tests share: a Chromium, pages that note every fault, an accessibility scan, screenshots.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { slow } from '../e2e/lib.mjs';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export function launch() {
  return chromium.launch({
    timeout: 60000 * slow,
    executablePath: process.env.STROBE_CHROMIUM || '/usr/bin/chromium',
    args: ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
}

// A page in its own context. `faults` collects console errors, uncaught exceptions and CSP violations.
export async function openPage(t, browser, { url, screen = 'overview', width = 1440, height = 900, ...more } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, ...more });
  t.after(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(15000 * slow);
  const faults = [];
  page.on('console', (m) => { if (m.type() === 'error') faults.push(m.text()); });
  page.on('pageerror', (e) => faults.push(String(e)));
  page.on('dialog', (d) => { faults.push(`dialog: ${d.message()}`); d.dismiss(); });
  await page.addInitScript(() => {
    window.violations = [];
    document.addEventListener('securitypolicyviolation', (e) => window.violations.push(`${e.violatedDirective} ${e.blockedURI}`));
  });
  await page.goto(`${url}/#/${screen}`);
  await page.getByRole('heading', { level: 2, name: new RegExp(screen, 'i') }).waitFor();
  await page.getByText('connected', { exact: false }).first().waitFor();
  return { page, context, faults };
}

export async function clean({ page, faults }) {
  assert.deepEqual(faults, []);
  assert.deepEqual(await page.evaluate(() => window.violations), []);
}

// The figure's file as rows of cells. The button is pressed by keyboard: while a page moves, a mouse may go down on it and up beside it.
export async function csvOf(page, fig) {
  const download = page.waitForEvent('download', { timeout: 60000 * slow });
  await fig.getByRole('button', { name: 'CSV' }).press('Enter');
  return readFileSync(await (await download).path(), 'utf8').trim().split('\r\n').map((l) => l.split(','));
}

export const noScroll = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

export async function shot(page, name) {
  if (process.env.STROBE_SHOTS) await page.screenshot({ path: join(process.env.STROBE_SHOTS, `${name}.png`), fullPage: true });
}

export async function axe(page) {
  // Through the debugger, not a script element: the page's own policy stays in force.
  await page.evaluate(axeSource);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  return found.violations.filter((v) => ['serious', 'critical'].includes(v.impact))
    .map((v) => `${v.id}: ${v.nodes.map((n) => `${n.target} ${n.failureSummary}`).join(' | ')}`);
}
