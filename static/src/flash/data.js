// What the Flash screen knows: the layers' totals, asked for while the screen is open, and the trace in view.
import { signal } from '@preact/signals';
import { getJson, postJson } from '../lib/api.js';
import { live } from '../lib/live.js';

const POLL_MS = 2000;
const COLUMNS = 60;

export const PHASES = [['attention', 'attention_ns'], ['mask', 'mask_ns'], ['wait for disk', 'wait_ns'], ['compute', 'compute_ns']];

export const stats = signal(null);
export const layers = signal(null);
export const columns = signal([]); // of the heat map: {label, layers: [what grew in between], passes}
export const trace = signal(null);
export const tracing = signal(false);
export const error = signal(null);

const KEYS = ['needed', 'missed', 'bytes', 'wait_ns'];

function growth(now, before) {
  return now.layers.map((l, i) => Object.fromEntries(KEYS.map((k) => [k, l[k] - (before ? before.layers[i][k] : 0)])));
}

function addColumn(now) {
  const before = layers.value;
  const fresh = !before || before.passes > now.passes || before.layers.length !== now.layers.length;
  if (fresh) columns.value = [];
  const passes = now.passes - (fresh ? 0 : before.passes);
  if (!passes) return;
  const label = fresh ? 'before this screen was opened' : new Date().toLocaleTimeString('en-GB');
  columns.value = [...columns.value, { label, passes, layers: growth(now, fresh ? null : before) }].slice(-COLUMNS);
}

async function poll() {
  if (!live.value.model) return;
  const [s, l] = await Promise.all([getJson('/api/flash/stats'), getJson('/api/flash/layers')]);
  if (l.layers.length) addColumn(l);
  stats.value = s;
  layers.value = l;
}

// Asks until stopped; returns the stop. A failed poll is tried again: the shell says when the server is lost.
export function startPolling() {
  let timer = 0;
  let stopped = false;
  const step = async () => {
    await poll().catch(() => {});
    if (!stopped) timer = setTimeout(step, live.value.model ? POLL_MS : 300);
  };
  step();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

export async function showTrace(id) {
  error.value = null;
  try {
    trace.value = await getJson(`/api/flash/traces/${encodeURIComponent(id)}`);
  } catch (e) {
    error.value = e;
  }
}

export async function traceAnswer(prompt, maxTokens) {
  if (tracing.value) return;
  tracing.value = true;
  error.value = null;
  try {
    const answer = await postJson('/v1/completions', { prompt, max_tokens: maxTokens, ignore_eos: true, flash: { trace: true } });
    await showTrace(answer.flash.trace);
    await poll();
  } catch (e) {
    error.value = e;
  }
  tracing.value = false;
}
