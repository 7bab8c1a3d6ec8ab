// What the Recommend screen knows. Everything is asked for anew when the user, the time or the model changes, and events that
// come in meanwhile are seen by the counts, which are polled while the screen is open.
import { signal } from '@preact/signals';
import { events, getJson, postJson } from '../lib/api.js';

const POLL_MS = 3000;
const DAY = 86400;

export const stats = signal(null); // of the recommender; null: not told yet
export const fault = signal(null); // why nothing can be told
export const people = signal([]); // names to choose from
export const person = signal(''); // the chosen one
export const at = signal(null); // Unix seconds: the time in view
export const hours = signal(6); // the second list: so many hours later
export const span = signal(14); // days of the curve
export const filter = signal({ seen: 'allow', cooldown: 0 });
export const now = signal(null); // top items at `at`
export const later = signal(null); // and later
export const curve = signal(null);
export const comeback = signal(null);
export const influence = signal(null);
export const similar = signal(null);
export const askError = signal(null);
export const models = signal(null);
export const chosen = signal(''); // model whose trace is in view
export const model = signal(null);
export const health = signal(null);
export const job = signal(null); // a fit that runs
export const jobError = signal(null);

const path = (name, rest, query) => `/api/recsys/users/${encodeURIComponent(name)}/${rest}?${new URLSearchParams(query)}`;

// ---- what there is ----

// Old data have their own "now": an hour after their last event.
function latest(s) {
  return s.last !== null && s.now - s.last > 3 * DAY ? s.last + 3600 : s.now;
}

async function loadModels() {
  const m = await getJson('/api/recsys/models');
  models.value = m;
  const known = m.data.some((x) => x.id === chosen.value);
  if (!known) chooseModel(m.active || (m.data[0] && m.data[0].id) || '');
}

async function loadStats() {
  const had = stats.value;
  try {
    const s = await getJson('/api/recsys/stats');
    stats.value = s;
    fault.value = null;
    if (!had || had.events !== s.events) {
      people.value = (await getJson('/api/recsys/users?limit=200')).data;
      health.value = await getJson('/api/recsys/health');
    }
    if (!had || had.models !== s.models || had.active !== s.active) await loadModels();
    if (at.value === null && s.events) at.value = latest(s);
    if (!person.value && people.value.length && s.active) person.value = people.value[0].user;
    if (!had || had.active !== s.active || (had.events !== s.events && s.active)) await ask();
  } catch (e) {
    fault.value = e;
  }
}

export function start() {
  let timer = 0;
  let stopped = false;
  const step = async () => {
    await loadStats();
    if (!stopped) timer = setTimeout(step, POLL_MS);
  };
  findJob().finally(step);
  return () => {
    stopped = true;
    clearTimeout(timer);
    if (watching) watching.abort();
  };
}

// ---- about one person ----

let asking = null;

export async function ask() {
  if (asking) asking.abort();
  if (!person.value || !stats.value || !stats.value.active) return;
  const stop = new AbortController();
  asking = stop;
  const t = at.value ?? stats.value.now;
  const f = filter.value;
  const top = (time) => getJson(path(person.value, 'recommend', { n: 10, at: time, explain: 1, seen: f.seen, cooldown: f.cooldown * 3600 }), stop.signal);
  try {
    const [a, b, c, r, i] = await Promise.all([
      top(t), top(t + hours.value * 3600),
      getJson(path(person.value, 'intensity', { from: Math.max(0, t - span.value * DAY), to: t + DAY, points: 400 }), stop.signal),
      getJson(path(person.value, 'return-time', { at: t }), stop.signal),
      getJson(path(person.value, 'influence', {}), stop.signal),
    ]);
    if (stop.signal.aborted) return;
    now.value = a;
    later.value = b;
    curve.value = c;
    comeback.value = r;
    influence.value = i;
    askError.value = null;
  } catch (e) {
    if (!stop.signal.aborted) askError.value = e;
  }
}

export function choosePerson(name) {
  person.value = name;
  similar.value = null;
  ask();
}

export async function loadSimilar(item) {
  try {
    similar.value = await getJson(`/api/recsys/items/${encodeURIComponent(item)}/similar?n=8`);
    askError.value = null;
  } catch (e) {
    askError.value = e;
  }
}

// ---- models and jobs ----

export async function chooseModel(id) {
  chosen.value = id;
  model.value = null;
  if (!id) return;
  try {
    const m = await getJson(`/api/recsys/models/${encodeURIComponent(id)}`);
    if (chosen.value === id) model.value = m;
  } catch (e) {
    jobError.value = e;
  }
}

export async function activate(id) {
  try {
    await postJson(`/api/recsys/models/${encodeURIComponent(id)}/activate`, {});
    jobError.value = null;
    await loadStats();
  } catch (e) {
    jobError.value = e;
  }
}

const isOver = (j) => ['done', 'failed', 'cancelled'].includes(j.state);
let watching = null;

async function watch(id) {
  if (watching) watching.abort();
  watching = new AbortController();
  const stop = watching.signal;
  while (!stop.aborted && job.value && !isOver(job.value)) {
    try {
      for await (const ev of events(`/api/jobs/${encodeURIComponent(id)}/events`, stop)) {
        const data = JSON.parse(ev.data);
        if (ev.event === 'state') job.value = data;
        else if (ev.event === 'progress') job.value = { ...job.value, progress: data };
      }
      job.value = await getJson(`/api/jobs/${encodeURIComponent(id)}`, stop);
    } catch (e) {
      if (stop.aborted || e.status === 404) return;
    }
    if (!isOver(job.value)) await new Promise((done) => setTimeout(done, 500));
  }
  if (!stop.aborted) await loadStats();
}

// A fit that somebody began before this screen was opened.
async function findJob() {
  try {
    const list = await getJson('/api/jobs?limit=20');
    const running = list.data.find((j) => j.kind.startsWith('recsys-') && !isOver(j));
    if (running) {
      job.value = running;
      watch(running.id);
    }
  } catch (e) {
    jobError.value = e.code === 'no_jobs' ? null : e;
  }
}

export async function begin(kind, settings) {
  const key = Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, '0')).join('');
  try {
    job.value = await postJson(`/api/recsys/${kind}`, settings, undefined, { 'Idempotency-Key': key });
    jobError.value = null;
    watch(job.value.id);
  } catch (e) {
    jobError.value = e;
  }
}
