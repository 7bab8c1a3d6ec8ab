// What the Evals screens know, and the only place that knows the server's field names.
import { signal } from '@preact/signals';
import { events, getJson, postJson } from '../lib/api.js';

const POLL_MS = 3000;
const PAGE = 20;
const SAMPLES_PAGE = 1000;
const SAMPLES_MAX = 100000;

export const runs = signal(null); // newest first; null: not told yet
export const more = signal(false);
export const listError = signal(null);
export const run = signal(null); // the chosen one
export const runError = signal(null);
export const report = signal(null); // of the chosen one
export const reportError = signal(null);

const enc = encodeURIComponent;
const base = (id) => `/api/evals/runs/${enc(id)}`;

export const isOver = (r) => ['done', 'cancelled', 'paused'].includes(r.state);

// ---- the list ----
let older = [];

async function loadList() {
  try {
    const page = await getJson(`/api/evals/runs?limit=${PAGE}`);
    const known = new Set(page.data.map((r) => r.id));
    runs.value = [...page.data, ...older.filter((r) => !known.has(r.id))];
    if (!older.length) more.value = page.has_more;
    listError.value = null;
  } catch (e) {
    listError.value = e;
  }
}

export async function loadOlder() {
  try {
    const page = await getJson(`/api/evals/runs?limit=${PAGE}&after=${enc(runs.value[runs.value.length - 1].id)}`);
    older = [...runs.value.slice(PAGE), ...page.data];
    more.value = page.has_more;
    await loadList();
  } catch (e) {
    listError.value = e;
  }
}

// Asks until stopped; returns the stop.
export function startList() {
  let timer = 0;
  let stopped = false;
  const step = async () => {
    await loadList();
    if (!stopped) timer = setTimeout(step, POLL_MS);
  };
  step();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

// ---- the chosen run: its state by events, its report when it ends and now and then before ----
const REPORT_MS = 10000;

async function loadReport(id, stop) {
  try {
    const doc = await getJson(`${base(id)}/report`, stop);
    if (stop.aborted) return;
    report.value = doc;
    reportError.value = null;
  } catch (e) {
    if (!stop.aborted) reportError.value = e;
  }
}

function patch(d) {
  const r = d.run || d;
  if (run.value && (!r.id || r.id === run.value.id)) run.value = { ...run.value, ...r, counts: { ...run.value.counts, ...r.counts } };
}

async function follow(id, stop) {
  let pause = 500;
  while (!stop.aborted && run.value && !isOver(run.value)) {
    try {
      for await (const ev of events(`${base(id)}/events`, stop)) {
        pause = 500;
        patch(JSON.parse(ev.data));
        if (isOver(run.value)) break;
      }
    } catch (e) {
      if (stop.aborted || e.status === 401) return;
    }
    if (stop.aborted) return;
    try {
      run.value = await getJson(base(id), stop);
    } catch (e) {
      if (e.status === 404) runError.value = e;
    }
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(pause * 2, 8000);
  }
}

let stopper = null;

async function watch(id, stop) {
  try {
    run.value = await getJson(base(id), stop);
  } catch (e) {
    if (!stop.aborted) runError.value = e;
    return;
  }
  await loadReport(id, stop);
  while (!stop.aborted && !isOver(run.value)) {
    const timer = setInterval(() => loadReport(id, stop), REPORT_MS);
    await follow(id, stop);
    clearInterval(timer);
    if (!stop.aborted) await loadReport(id, stop);
  }
}

// '' lets go of it.
export function chooseRun(id) {
  if (stopper) stopper.abort();
  stopper = null;
  run.value = null;
  report.value = null;
  runError.value = null;
  reportError.value = null;
  if (!id) return;
  stopper = new AbortController();
  watch(id, stopper.signal);
}

export async function act(verb) {
  const { id } = run.value;
  try {
    patch(await postJson(`${base(id)}/${verb}`, {}));
    runError.value = null;
    chooseRun(id);
  } catch (e) {
    runError.value = e;
  }
}

export const submit = (body) => postJson('/api/evals/runs', body);

// ---- answers ----

// Calls `more(rows so far)` after each page; resolves with all.
export async function loadSamples(id, stop, progress) {
  let all = [];
  let after = '';
  for (;;) {
    const page = await getJson(`${base(id)}/samples?limit=${SAMPLES_PAGE}${after === '' ? '' : `&after=${enc(after)}`}`, stop);
    all = all.concat(page.data);
    progress(all);
    if (!page.has_more || !page.data.length || all.length >= SAMPLES_MAX) return all;
    after = page.last_id ?? page.data[page.data.length - 1].ord;
  }
}

export const loadSample = (id, ord, stop) => getJson(`${base(id)}/samples/${enc(ord)}`, stop);

export const compare = (a, b) => postJson('/api/evals/compare', { a, b });

export const exportUrl = (id, format) => `${base(id)}/export?format=${format}`;

// ---- templates ----
export const listTemplates = () => getJson('/api/evals/templates');
export const loadTemplate = (id) => getJson(`/api/evals/templates/${enc(id)}`);
export const checkTemplate = (body, stop) => postJson('/api/evals/templates', body, stop);
