// What the Training screen knows: the list of jobs, asked for while the screen is open, and the chosen job, which is watched.
import { signal } from '@preact/signals';
import { events, getJson, postJson } from '../lib/api.js';

const POLL_MS = 3000;
const PAGE = 20;
const DRAW_MS = 250; // lines that come faster are drawn together
const POINTS_MAX = 6000;

export const jobs = signal(null); // newest first; null: not told yet
export const more = signal(false); // there are older ones
export const listError = signal(null);
export const job = signal(null); // the chosen one
export const curves = signal(null); // of the chosen one: {name: [numbers or null]}, one length
export const jobError = signal(null);
export const logText = signal('');

export const isOver = (j) => ['done', 'failed', 'cancelled'].includes(j.state);

let older = []; // pages behind the first, as they were loaded
let watching = null; // of the chosen job

// ---- the list ----

async function loadList() {
  try {
    const page = await getJson(`/api/jobs?limit=${PAGE}`);
    const known = new Set(page.data.map((j) => j.id));
    jobs.value = [...page.data, ...older.filter((j) => !known.has(j.id))];
    if (!older.length) more.value = page.has_more;
    listError.value = null;
  } catch (e) {
    listError.value = e;
  }
}

export async function loadOlder() {
  try {
    const page = await getJson(`/api/jobs?limit=${PAGE}&after=${encodeURIComponent(jobs.value[jobs.value.length - 1].id)}`);
    older = [...jobs.value.slice(PAGE), ...page.data];
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

function patchList(j) {
  if (jobs.value) jobs.value = jobs.value.map((x) => (x.id === j.id ? { ...x, ...j } : x));
}

// ---- the chosen job ----

function emptyCurves() {
  return { step: [] };
}

// What a resumed run repeats replaces what was there.
function dropFrom(c, step) {
  let n = c.step.length;
  while (n && c.step[n - 1] >= step) n -= 1;
  if (n < c.step.length) for (const key of Object.keys(c)) c[key].length = n;
}

function addLine(c, line) {
  if (!Number.isFinite(line.step)) return;
  dropFrom(c, line.step);
  const n = c.step.length;
  for (const [key, v] of Object.entries(line)) {
    if (!Number.isFinite(v)) continue;
    if (!c[key]) c[key] = Array(n).fill(null);
    c[key].push(v);
  }
  for (const column of Object.values(c)) if (column.length === n) column.push(null);
}

// Every second point goes, but none with a held-out loss.
function thin(c) {
  if (c.step.length <= POINTS_MAX) return c;
  const keep = c.step.map((_, i) => i % 2 === 0 || i === c.step.length - 1 || (c.val_loss && c.val_loss[i] !== null));
  return Object.fromEntries(Object.entries(c).map(([key, column]) => [key, column.filter((_, i) => keep[i])]));
}

// Lines are gathered and shown together.
function painter(stop) {
  let store = emptyCurves();
  let timer = 0;
  const show = () => {
    timer = 0;
    if (stop.aborted) return;
    store = thin(store);
    curves.value = { ...store };
  };
  return {
    set(columns) {
      store = { ...emptyCurves(), ...columns };
      show();
    },
    add(line) {
      addLine(store, line);
      if (!timer) timer = setTimeout(show, DRAW_MS);
    },
  };
}

function take(ev, paint) {
  const data = JSON.parse(ev.data);
  if (ev.event === 'metrics') paint.add(data);
  else if (ev.event === 'progress') job.value = { ...job.value, progress: data };
  else if (ev.event === 'state') job.value = data;
  if (ev.event !== 'metrics') patchList(job.value);
}

async function follow(id, from, paint, stop) {
  let at = from;
  let pause = 500;
  while (!stop.aborted && !isOver(job.value)) {
    try {
      for await (const ev of events(`/api/jobs/${encodeURIComponent(id)}/events?from=${at}`, stop)) {
        if (stop.aborted) return;
        pause = 500;
        if (ev.id !== null) at = Number(ev.id);
        take(ev, paint);
      }
    } catch (e) {
      if (stop.aborted || [401, 404].includes(e.status)) return;
    }
    if (isOver(job.value)) return;
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(pause * 2, 8000);
  }
}

// From what the server knows now to the job's end.
async function watch(id) {
  watching = new AbortController();
  const stop = watching.signal;
  const paint = painter(stop);
  try {
    const path = `/api/jobs/${encodeURIComponent(id)}`;
    const found = await getJson(path, stop);
    job.value = found;
    const series = await getJson(`${path}/metrics`, stop);
    paint.set(series.columns);
    await follow(id, series.offset, paint, stop);
  } catch (e) {
    if (!stop.aborted) jobError.value = e;
  }
}

export async function choose(id) {
  if (watching) watching.abort();
  job.value = null;
  curves.value = null;
  jobError.value = null;
  logText.value = '';
  if (id) await watch(id);
}

export async function loadLog() {
  if (!job.value) return;
  const { id } = job.value;
  try {
    const log = await getJson(`/api/jobs/${encodeURIComponent(id)}/log?bytes=16384`);
    if (job.value && job.value.id === id) logText.value = log.text;
  } catch (e) {
    jobError.value = e;
  }
}

export async function cancel() {
  try {
    const j = await postJson(`/api/jobs/${encodeURIComponent(job.value.id)}/cancel`, {});
    const chosen = job.value && job.value.id === j.id;
    if (chosen && isOver(job.value)) return; // the stream told of the end before this answer came
    if (chosen) job.value = j;
    patchList(j);
  } catch (e) {
    jobError.value = e;
  }
}

// A cancelled or failed job goes on from its last checkpoint.
export async function resume() {
  try {
    const j = await postJson(`/api/jobs/${encodeURIComponent(job.value.id)}/resume`, {});
    patchList(j);
    if (!job.value || job.value.id !== j.id) return;
    if (watching) watching.abort();
    job.value = j;
    jobError.value = null;
    await watch(j.id);
  } catch (e) {
    jobError.value = e;
  }
}

// The key makes a request that is sent twice one job.
export async function submit(kind, settings) {
  const key = Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, '0')).join('');
  const made = await postJson(`/api/train/${kind}`, settings, undefined, { 'Idempotency-Key': key });
  await loadList();
  return made;
}
