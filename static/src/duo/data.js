// What the Duo screen knows: the list of traces, the one in view and its figures, and a trace that is being made.
import { signal } from '@preact/signals';
import { getJson, postJson } from '../lib/api.js';

const WAIT_MS = 1000;
const FIGURES = ['budget_curve', 'layer_usage', 'difficulty', 'schedule', 'controls'];
const AT_BUDGET = ['layer_position', 'tokens', 'agreement'];

export const traces = signal([]);
export const trace = signal(null); // header and curves
export const figures = signal({}); // by name
export const budget = signal(0); // big layers
export const sequence = signal(0);
export const error = signal(null);
export const making = signal(null); // null, or what is said while one is made

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

// A job's trace has the job's id.
async function waitForJob(id) {
  for (;;) {
    const job = await getJson(`/api/jobs/${id}`);
    if (job.state === 'done') return id;
    if (job.state === 'failed' || job.state === 'cancelled') throw new Error(`The job ${job.state === 'failed' ? 'failed' : 'was cancelled'}${job.error ? `: ${job.error.message || job.error}` : ''}.`);
    making.value = `Job ${id} is ${job.state}; it can be watched and cancelled on the Training screen.`;
    await sleep(WAIT_MS);
  }
}

export async function make(settings) {
  if (making.value) return;
  making.value = 'Tracing';
  error.value = null;
  try {
    const got = await postJson('/api/duo/traces', settings);
    const id = got.format === 'strobe-duo-trace' ? got.id : await waitForJob(got.id);
    await show(id);
    await loadList();
  } catch (e) {
    error.value = e;
  }
  making.value = null;
}
