// Template workbench: edit one, see at once what the authoring gate says and what it makes.
import { useEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { count } from '../lib/format.js';
import { Alert, Field } from '../ui/basic.js';
import { save } from '../ui/figure.js';
import { checkTemplate, listTemplates, loadTemplate } from './data.js';
import { pieces, plain } from './text.js';

const WAIT_MS = 400;
const VARIANTS = ['both', 'names', 'numbers', 'surface', 'original', 'noop', 'noop-control'];
const SKETCH = JSON.stringify({
  id: 'my-template', title: 'A purchase', unit: 'money', tags: ['money'],
  text: '{who} buys {n} {item:plural} at {cur}{p:money} each.{#1+} {who:He} adds a {t}% tip.{/} How much does {who} pay?',
  vars: { who: 'person = Nadia', n: '3..12 = 4', item: 'snack = muffin', p: '1.25..4.75 by 0.25 = 2.5', cur: 'currency = $', t: '10, 20, 25 = 20' },
  let: { bill: 'n*p' },
  where: ['is_int(bill)'],
  answer: { 0: 'bill', 1: 'bill*(1+t/100)' },
  solution: 'The {item:plural} cost {n}*{p}={bill}.{#1+} The tip is {bill}*{t}/100={bill*t/100}, so the bill is {bill}+{bill*t/100}={bill*(1+t/100)}.{/}',
  gold: { 0: 10, 1: 12 },
}, null, 1);

const spans = (s) => (s.spans || (s.info && s.info.spans) || []).map((m) => ({ begin: m.begin, end: m.end, kind: m.kind || 'name', title: m.name }));

function Diagnostics({ t }) {
  const list = t.diagnostics || [];
  return html`<p role="status">${plain(t.id || 'template')}: <span class=${{ ok: 'state-done', warning: 'state-cancelled', error: 'state-failed' }[t.status] || ''}>${t.status}</span>${list.length ? `, ${count(list.length)} remark${list.length === 1 ? '' : 's'}` : ', no remarks'}</p>
    ${list.length ? html`<ul class="diags">${list.map((d, i) => html`<li key=${i}><span class=${{ warning: 'state-cancelled', error: 'state-failed' }[d.level] || 'soft'}>${d.level || 'note'}</span> ${plain(typeof d === 'string' ? d : d.message || '')}${d.line ? ` (line ${d.line}, column ${d.column})` : ''}</li>`)}</ul>` : null}
    ${t.levels ? html`<p class="note">${Object.entries(t.levels).map(([l, v]) => `level ${l}: ${typeof v === 'object' ? Object.entries(v).filter(([, x]) => typeof x === 'number' && x !== 0).map(([k, x]) => `${count(x)} ${k.replaceAll('_', ' ')}`).join(', ') : v}`).join('; ')}</p>` : null}`;
}

function Samples({ samples }) {
  return html`<ol class="samples">${samples.map((s, i) => html`<li key=${i}><bdi>${pieces(s.question, spans(s)).map((p, j) => (p.mark ? html`<mark key=${j} class="m-${p.mark.kind}" title=${p.mark.title}>${plain(p.text)}</mark>` : plain(p.text)))}</bdi> <b>${plain(String(s.gold_text ?? s.gold ?? s.answer ?? ''))}</b>${s.solution ? html`<details><summary>solution</summary>${plain(s.solution)}</details>` : null}</li>`)}</ol>`;
}

// arg: a template's id, or ''
export function Workbench({ arg }) {
  const [list, setList] = useState(null);
  const [text, setText] = useState('');
  const [told, setTold] = useState(null);
  const [error, setError] = useState(null);
  const [f, setF] = useState({ variant: 'both', level: '0', seed: '1' });
  const asked = useRef(null);
  useEffect(() => {
    listTemplates().then((d) => setList(d.data || d.templates || [])).catch(setError);
  }, []);
  useEffect(() => {
    if (!arg) {
      setText(SKETCH);
      return;
    }
    loadTemplate(arg).then((t) => setText(typeof t.text === 'string' && t.format === 'text' ? t.text : JSON.stringify(t.template || t, null, 1))).catch(setError);
  }, [arg]);
  useEffect(() => {
    if (!text.trim()) return undefined;
    const timer = setTimeout(async () => {
      if (asked.current) asked.current.abort();
      asked.current = new AbortController();
      const { signal } = asked.current;
      try {
        const d = await checkTemplate({ text, samples: 10, variant: f.variant, level: Number(f.level), seed: Number(f.seed) || 0 }, signal);
        if (signal.aborted) return;
        setTold(d);
        setError(null);
      } catch (e) {
        if (!signal.aborted) {
          setError(e);
          setTold(null);
        }
      }
    }, WAIT_MS);
    return () => clearTimeout(timer);
  }, [text, f]);
  useEffect(() => () => asked.current && asked.current.abort(), []);
  const set = (name) => (e) => setF({ ...f, [name]: e.target.value });
  const bad = told && (told.templates || []).some((t) => t.status === 'error');
  return html`<section aria-label="Template workbench"><div class="row head"><h3 class="grow">Template workbench</h3><button class="small" onClick=${() => save('template.json', text, 'application/json')}>Save as file</button></div>
    <p class="note">Nothing is kept on the server: save the file and name it in a run, or check it with <code>strobe eval check FILE</code>.</p>
    <div class="row pickers"><${Field} label="Start from"><select value=${arg} onChange=${(e) => { location.hash = `#/evals/templates${e.target.value ? `/${encodeURIComponent(e.target.value)}` : ''}`; }}><option value="">a sketch</option>${(list || []).map((t) => html`<option key=${t.id} value=${t.id} selected=${t.id === arg}>${t.id}${t.title ? `: ${t.title}` : ''}</option>`)}</select></${Field}>
      <${Field} label="Samples of"><select value=${f.variant} onChange=${set('variant')}>${VARIANTS.map((v) => html`<option key=${v} value=${v}>${v}</option>`)}</select></${Field}>
      <${Field} label="Level"><select value=${f.level} onChange=${set('level')}>${['-1', '0', '1', '2'].map((v) => html`<option key=${v} value=${v}>${v}</option>`)}</select></${Field}>
      <${Field} label="Seed"><input type="number" min="0" max="4294967295" value=${f.seed} onInput=${set('seed')} /></${Field}></div>
    <div class="two bench"><${Field} label="Template"><textarea class="code" rows="24" spellcheck="false" value=${text} aria-invalid=${bad ? 'true' : undefined} aria-describedby="bench-said" onInput=${(e) => setText(e.target.value)}></textarea></${Field}>
      <div id="bench-said"><${Alert} error=${error} />${told ? html`${(told.templates || []).map((t, i) => html`<${Diagnostics} key=${i} t=${t} />`)}${told.sample_error ? html`<${Alert} warn>${plain(told.sample_error)}</${Alert}>` : null}${(told.samples || []).length ? html`<h4>What it makes</h4><${Samples} samples=${told.samples} />` : null}` : error ? null : html`<p class="note">Checking.</p>`}</div></div></section>`;
}
