// What the Duo screen knows: the list of traces, the one in view and its figures, and a trace that is being made.
import { signal } from '@preact/signals';
import { getJson, postJson, remove } from '../lib/api.js';

const WAIT_MS = 1000;
const FIGURES = ['budget_curve', 'layer_usage', 'difficulty', 'schedule', 'controls'];
const AT_BUDGET = ['layer_position', 'tokens', 'agreement'];

export const traces = signal([]);
export const trace = signal(null); // header and curves
export const figures = signal({}); // by name
export const budget = signal(0); // big layers
export const sequence = signal(0);
export const error = signal(null);
export const making = signal(null); // null; or {}, and of a job {id, state, what, share}

const url = (id, figure, more = '') => `/api/duo/traces/${encodeURIComponent(id)}/aggregate?figure=${figure}${more}`;

export async function loadList() {
  try {
    traces.value = (await getJson('/api/duo/traces?limit=50')).data;
    if (!trace.value && traces.value.length) await show(traces.value[0].id);
  } catch (e) {
    error.value = e;
  }
}

async function loadAtBudget() {
  const { id } = trace.value;
  const more = `&budget=${budget.value}&sequence=${sequence.value}`;
  const got = await Promise.all(AT_BUDGET.map((f) => getJson(url(id, f, more))));
  if (trace.value && trace.value.id === id) figures.value = { ...figures.value, ...Object.fromEntries(AT_BUDGET.map((f, i) => [f, got[i]])) };
}

// Another budget or sequence of the trace in view.
export async function look(at) {
  if (at.budget !== undefined) budget.value = at.budget;
  if (at.sequence !== undefined) sequence.value = at.sequence;
  try {
    await loadAtBudget();
  } catch (e) {
    error.value = e;
  }
}

export async function show(id) {
  try {
    error.value = null;
    const doc = await getJson(`/api/duo/traces/${encodeURIComponent(id)}`);
    const got = await Promise.all(FIGURES.map((f) => getJson(url(id, f))));
    trace.value = { ...doc, id };
    budget.value = Math.floor(doc.layers / 2);
    sequence.value = 0;
    figures.value = Object.fromEntries(FIGURES.map((f, i) => [f, got[i]]));
    await loadAtBudget();
  } catch (e) {
    error.value = e;
  }
}

const sleep = (ms) => new Promise((done) => { setTimeout(done, ms); });

// Follows a job to its end. Its trace has its id. false: it was cancelled, and there is none.
async function waitForJob(id) {
  for (;;) {
    const job = await getJson(`/api/jobs/${id}`);
    if (job.state === 'done') return true;
    if (job.state === 'cancelled') return false;
    if (job.state === 'failed') throw new Error(`The job failed${job.error ? `: ${job.error.message || job.error}` : ''}.`);
    const at = job.progress || {};
    making.value = { id, state: job.cancelling ? 'ending' : job.state, what: at.what, share: at.share };
    await sleep(WAIT_MS);
  }
}

// Shows what begin() promises: the id of a trace that is there, or of a job that makes it.
async function follow(begin) {
  if (making.value) return;
  making.value = {};
  error.value = null;
  try {
    const { id, job } = await begin();
    if (!job || await waitForJob(id)) await show(id);
    await loadList();
  } catch (e) {
    error.value = e;
  }
  making.value = null;
}

export function make(settings) {
  return follow(async () => {
    const got = await postJson('/api/duo/traces', settings);
    return { id: got.id, job: got.format !== 'strobe-duo-trace' };
  });
}

// A job that somebody began before this screen was opened.
export async function findJob() {
  if (making.value) return;
  try {
    const active = (await getJson('/api/jobs?limit=20')).data.find((j) => j.kind === 'duo-trace' && ['queued', 'running'].includes(j.state));
    if (active) await follow(async () => ({ id: active.id, job: true }));
  } catch (e) {
    if (e.code !== 'no_jobs') error.value = e;
  }
}

export async function cancel() {
  try {
    await postJson(`/api/jobs/${making.value.id}/cancel`, {});
    if (making.value) making.value = { ...making.value, state: 'ending' };
  } catch (e) {
    error.value = e;
  }
}

export async function forget() {
  try {
    await remove(`/api/duo/traces/${encodeURIComponent(trace.value.id)}`);
    trace.value = null;
    figures.value = {};
    await loadList();
  } catch (e) {
    error.value = e;
  }
}
