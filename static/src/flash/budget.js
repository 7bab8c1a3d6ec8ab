// What another memory cap would give: the server plans it, nothing is loaded.
import { useEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { postJson } from '../lib/api.js';
import { live } from '../lib/live.js';
import { bytes, count, rate } from '../lib/format.js';
import { Alert, Facts } from '../ui/basic.js';

const STEPS = 200;
const WAIT_MS = 120;
const UNLIMITED = 2 ** 50;

const estimate = (ram) => postJson('/api/models/estimate', { ram: Math.round(ram), slots: live.value.nSlot, ctx: live.value.model.nCtx });

// From a little below what works at all to a little above what needs no disk.
async function range(budget) {
  const [least, all] = [await estimate(1), await estimate(UNLIMITED)];
  const lo = least.least_bytes * 0.95;
  const hi = Math.max(all.total_bytes * 1.1, lo * 1.2);
  return { lo, hi, current: await estimate(budget), inside: budget >= lo && budget <= hi };
}

function Plan({ p, now }) {
  if (!p.fits) return html`<${Alert} warn>Does not fit: the least that works is ${bytes(p.least_bytes)}.</${Alert}>`;
  const times = now.tokens_per_second > 0 ? p.tokens_per_second / now.tokens_per_second : 1;
  return html`<${Facts} rows=${[
    ['predicted', `${rate(p.tokens_per_second)} tokens/s${Math.abs(times - 1) > 0.01 ? `, ${times.toFixed(2)} times that of the current budget` : ''}`],
    ['limited by', p.limit],
    ['weights', p.mode === 'off' ? 'all in memory' : p.mode === 'sparse' ? 'streamed by neurons' : 'streamed by layers'],
    ['in memory', bytes(p.resident_bytes + p.cache_bytes)],
    p.mode === 'off' ? null : ['on disk', `${bytes(p.streamed_bytes)}${p.mode === 'sparse' ? `, ${count(p.neurons_cached_per_layer)} neurons per layer cached` : ' read per pass'}`],
    ['keys and values', bytes(p.kv_bytes)],
    p.disk.measured ? null : ['disk', 'assumed, not measured: run strobe calibrate'],
  ]} />`;
}

export function Budget({ budget }) {
  const [r, setRange] = useState(null);
  const [at, setAt] = useState(null);
  const [plan, setPlan] = useState(null);
  const [error, setError] = useState(null);
  const timer = useRef(0);
  const wanted = useRef(0);
  useEffect(() => {
    range(budget).then((x) => { setRange(x); setPlan(x.current); }).catch(setError);
    return () => clearTimeout(timer.current);
  }, [budget]);
  if (error) return html`<section class="card"><h3>What another budget would give</h3><${Alert} error=${error} /></section>`;
  if (!r) return html`<section class="card"><h3>What another budget would give</h3><p class="note">Planning.</p></section>`;
  const share = (x) => Math.min(1, Math.max(0, (x - r.lo) / (r.hi - r.lo)));
  const ram = at === null ? budget : r.lo + ((r.hi - r.lo) * at) / STEPS;
  const move = (e) => {
    const step = Number(e.target.value);
    const bytesAt = r.lo + ((r.hi - r.lo) * step) / STEPS;
    setAt(step);
    wanted.current = step;
    clearTimeout(timer.current);
    timer.current = setTimeout(() => estimate(bytesAt).then((p) => { if (wanted.current === step) setPlan(p); }).catch(setError), WAIT_MS);
  };
  const back = () => { clearTimeout(timer.current); setAt(null); setPlan(r.current); };
  return html`<section class="card" aria-label="What another budget would give"><div class="row head"><h3 class="grow">What another budget would give</h3>
      ${at === null ? null : html`<button class="small" onClick=${back}>Current budget</button>`}</div>
    <label>Memory cap: <strong>${bytes(Math.round(ram))}</strong>${at === null ? ' (current)' : ''}
      <input type="range" min="0" max=${STEPS} value=${at === null ? Math.round(share(budget) * STEPS) : at} onInput=${move} /></label>
    <div class="mark"><svg viewBox="0 0 1000 12" preserveAspectRatio="none" aria-hidden="true">${r.inside ? html`<path d="M${share(budget) * 1000 - 10} 12L${share(budget) * 1000} 0L${share(budget) * 1000 + 10} 12z" />` : null}</svg></div>
    <p class="row note ends"><span>${bytes(Math.round(r.lo))}</span><span>${r.inside ? `\u25b2 now: ${bytes(budget)}` : `now: ${bytes(budget)}, more than the model can use`}</span><span>${bytes(Math.round(r.hi))}</span></p>
    <div aria-live="polite"><${Plan} p=${plan} now=${r.current} /></div></section>`;
}
