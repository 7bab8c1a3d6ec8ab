// The server's live figures: one event stream per tab, reconnected with growing pauses. All screens read
// `live` and `history`; only this file knows the server's field names.
import { signal } from '@preact/signals';
import { events } from './api.js';

const KEEP_S = 300;

export const live = signal({ ready: false, online: false, model: null, slots: [], errors: [] });
export const history = signal({ tokens: [[], [], []], reads: [[], []], hits: [[], []] });

let stopper = null;
let last = null;

export function startLive() {
  if (stopper) stopper.abort();
  stopper = new AbortController();
  follow(stopper.signal);
}

async function follow(stop) {
  let pause = 500;
  while (!stop.aborted) {
    try {
      for await (const ev of events('/api/events?topics=stats', stop)) {
        pause = 500;
        take(JSON.parse(ev.data));
      }
    } catch (e) {
      if (stop.aborted || e.status === 401) return;
    }
    live.value = { ...live.value, online: false };
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(pause * 2, 8000);
  }
}

// Per second, from two snapshots of a counter.
function per(d, key) {
  if (!last || last.started !== d.started || d.time_ms <= last.time_ms) return 0;
  return Math.max(0, ((d[key] || 0) - (last[key] || 0)) * 1000 / (d.time_ms - last.time_ms));
}

// Of the neurons needed since the last snapshot, the share that was in memory; null: none was needed.
function hitRate(d) {
  const needed = per(d, 'needed');
  return needed > 0 ? 1 - per(d, 'missed') / needed : null;
}

function remember(decode, prefill, read, hit) {
  const now = Date.now() / 1000;
  const add = (series, values) => {
    const all = series.map((s, i) => [...s, values[i]]);
    let cut = 0;
    while (cut < all[0].length && all[0][cut] < now - KEEP_S) cut += 1;
    return all.map((s) => s.slice(cut));
  };
  history.value = {
    tokens: add(history.value.tokens, [now, decode, prefill]),
    reads: add(history.value.reads, [now, read / 1048576]),
    hits: add(history.value.hits, [now, hit === null ? null : 100 * hit]),
  };
}

function take(d) {
  const m = d.model;
  const decodeRate = per(d, 'generated');
  const prefillRate = per(d, 'prompt');
  const readRate = per(d, 'bytes_read');
  const hit = hitRate(d);
  last = d;
  remember(decodeRate, prefillRate, readRate, hit);
  live.value = {
    ready: true,
    online: true,
    version: d.version,
    model: m && { id: m.id, arch: m.arch, quant: m.quant, nParam: m.n_param, bytes: m.bytes, nCtx: m.n_ctx,
      nCtxTrain: m.n_ctx_train, nThread: m.n_thread, cpu: m.cpu, source: m.source, flashMode: m.flash_mode,
      hasTemplate: m.has_template, templateError: m.template_error, duo: m.duo, duoRouter: m.duo_router, tokenizerWarning: m.tokenizer_warning },
    decodeRate, prefillRate, readRate,
    generated: d.generated, prompt: d.prompt, promptCached: d.prompt_cached,
    ttftP50: d.first_p50 ?? NaN, ttftP95: d.first_p95 ?? NaN,
    active: d.active, nSlot: (d.slots || []).length, queued: d.queued, queueMax: m ? m.queue_max : 0, rejected: d.rejected,
    ramPeak: d.ram_peak, ramBudget: m ? m.ram_budget : 0, bytesRead: d.bytes_read, bytesWanted: d.bytes_wanted, needed: d.needed, missed: d.missed,
    resident: m ? m.resident : 0, streamed: m ? m.streamed : 0, flashMode: m ? m.flash_mode : 'off',
    slots: d.slots || [],
    errors: (d.errors || []).map((e) => ({ time: new Date(e.time * 1000).toLocaleTimeString(), status: e.status, message: e.message })),
  };
}
