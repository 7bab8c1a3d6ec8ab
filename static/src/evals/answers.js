// Answers of a run: which, and one of them in full with what was substituted, found and computed.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { count } from '../lib/format.js';
import { Alert, Facts, Field } from '../ui/basic.js';
import { save } from '../ui/figure.js';
import { csv } from '../lib/format.js';
import { loadSample, loadSamples } from './data.js';
import { conditionName, pieces, plain, steps } from './text.js';
import { Windowed } from './window.js';

const SHOWN = 20000; // characters of a text before one asks for more
const CLASSES = { correct: 'right', unparsed: 'no number found', empty: 'empty', truncated: 'cut by the limit', refusal: 'refusal', trap: 'fell for the trap', step: 'an intermediate step', sign: 'sign, percent or unit', arithmetic: 'arithmetic slip', other: 'wrong otherwise', failed: 'no answer', none: 'not asked yet' };
export const className = (c) => CLASSES[c] || c;

// Text of a model or a file: inert, unseen characters visible, long ones cut.
function Model({ text, marks = [], label }) {
  const [all, setAll] = useState(false);
  const cut = !all && text.length > SHOWN ? text.slice(0, SHOWN) : text;
  return html`<pre class="model" tabindex="0" aria-label=${label}><bdi>${pieces(cut, marks).map((p, i) => (p.mark ? html`<mark key=${i} class="m-${p.mark.kind}" title=${p.mark.title}>${plain(p.text)}</mark>` : plain(p.text)))}</bdi>${text.length === 0 ? html`<span class="soft">nothing</span>` : null}</pre>
    ${cut.length < text.length ? html`<button class="small" onClick=${() => setAll(true)}>Show all ${count(text.length)} characters</button>` : null}`;
}

const spansOf = (s) => ((s.info && s.info.spans) || []).map((m) => ({ begin: m.begin, end: m.end, kind: m.kind || 'name', title: `${m.name}${m.number ? ` = ${m.number}` : ''}` }));

function Rules({ s }) {
  if (!s.extracted || !s.extracted.length) return null;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="What each profile finds"><table><thead><tr><th>profile</th><th>rule</th><th>found</th><th>counts as</th></tr></thead>
    <tbody>${s.extracted.map((h) => html`<tr key=${h.profile} class=${h.profile === s.profile ? 'chosen' : ''}><td>${h.profile}</td><td>${h.rule}</td><td class="wrap">${h.rule === 'none' ? 'nothing' : plain(h.text)}</td><td class=${h.correct ? 'state-done' : 'state-failed'}>${h.correct ? 'right' : 'wrong'}</td></tr>`)}</tbody></table></div>`;
}

function Steps({ text }) {
  const found = steps(text);
  if (!found.length) return html`<p class="note">No step of the form \u201ca + b = c\u201d in the response.</p>`;
  return html`<ul class="steps">${found.map((f, i) => html`<li key=${i} class=${f.ok ? 'state-done' : 'state-failed'}>${f.ok ? 'true' : 'false'}: <code>${plain(f.text)}</code></li>`)}</ul>`;
}

function Detail({ runId, row, rows, onClose }) {
  const [s, setSample] = useState(null);
  const [original, setOriginal] = useState(null);
  const [error, setError] = useState(null);
  const head = useRef(null);
  useEffect(() => {
    const stop = new AbortController();
    setSample(null);
    setOriginal(null);
    setError(null);
    const first = rows.find((r) => r.original && r.template === row.template && r.level === 0);
    loadSample(runId, row.ord, stop.signal).then(setSample).catch((e) => !stop.signal.aborted && setError(e));
    if (first && first.ord !== row.ord) loadSample(runId, first.ord, stop.signal).then(setOriginal).catch(() => {});
    if (head.current) head.current.focus();
    return () => stop.abort();
  }, [runId, row.ord]);
  const hit = s && (s.extracted || []).find((h) => h.profile === s.profile);
  const trap = s && s.trap !== null && s.trap !== undefined && s.info && s.info.traps ? s.info.traps[s.trap] : null;
  return html`<section class="card detail" aria-label="Answer"><div class="row head"><h3 class="grow" tabindex="-1" ref=${head}>${row.key} <span class="soft">${className(row.class)}</span></h3><button class="small" onClick=${onClose}>Close</button></div>
    <${Alert} error=${error} />
    ${!s ? error ? null : html`<p class="note">Loading the answer.</p>` : html`
      <div class="two"><div><h4>Question</h4><${Model} text=${s.question} marks=${spansOf(s)} label="Question" />
        <p class="row note keys"><span><mark class="m-name">name</mark></span><span><mark class="m-number">number</mark></span><span><mark class="m-surface">form</mark></span><span>what was substituted</span></p></div>
      <div><h4>${original ? 'Original' : row.original ? 'This is the original' : 'Original'}</h4>${original ? html`<${Model} text=${original.question} marks=${spansOf(original)} label="Original question" /><p class="note">right is ${plain(original.gold)}, answered ${className(original.class)}</p>` : html`<p class="note">${row.original ? 'Nothing was substituted.' : 'The run has no original of this template.'}</p>`}</div></div>
      <h4>Response</h4><${Model} text=${s.response || ''} marks=${hit && hit.end > hit.begin ? [{ begin: hit.begin, end: hit.end, kind: 'found', title: `found by rule ${hit.rule}` }] : []} label="Response" />
      ${s.reasoning ? html`<details><summary>Reasoning</summary><${Model} text=${s.reasoning} label="Reasoning" /></details>` : null}
      <${Facts} rows=${[['right answer', plain(s.gold)], ['found', hit && hit.rule !== 'none' ? plain(hit.text) : 'nothing'], trap ? ['trap', `${plain(String(trap.value ?? trap))}${trap.why ? ` (${plain(trap.why)})` : ''}: the answer that the distractor leads to`] : null,
    ['ended by', s.finish || 'unknown'], ['tokens', `${count(s.prompt_tokens)} asked, ${count(s.completion_tokens)} answered`], ['attempts', count(s.attempts)], s.error ? ['error', plain(s.error)] : null]} />
      <h4>Steps, computed again</h4><${Steps} text=${s.response || ''} />
      <h4>What each profile finds</h4><${Rules} s=${s} />
      ${s.info && s.info.solution ? html`<details><summary>Reference solution</summary><${Model} text=${s.info.solution} label="Reference solution" /></details>` : null}`}
  </section>`;
}

const COLUMNS = [{ name: 'question' }, { name: 'variant' }, { name: 'answer is' }, { name: 'right answer', num: true }, { name: 'found', num: true }, { name: 'rule' }, { name: 'tokens', num: true }];
const HEAD = ['key', 'template', 'variant', 'level', 'class', 'gold', 'found', 'rule', 'completion tokens'];

function own(r) {
  return (r.extracted || []).find((h) => h.profile === r.profile) || { text: r.found ?? '', rule: r.rule ?? '' };
}

const differs = (r) => (r.extracted || []).some((h) => h.correct !== (r.class === 'correct'));

// start: {template, variant, level} of a link from the map
export function Answers({ runId, start, live }) {
  const [rows, setRows] = useState([]);
  const [error, setError] = useState(null);
  const [done, setDone] = useState(false);
  const [f, setFilter] = useState({ klass: start.template ? '' : 'wrong', template: start.template || '', condition: start.condition || '' });
  const [chosen, setChosen] = useState(null);
  useEffect(() => setFilter((old) => ({ ...old, template: start.template || '', condition: start.condition || '', klass: start.template ? '' : old.klass })), [start.template, start.condition]);
  useEffect(() => {
    const stop = new AbortController();
    setDone(false);
    loadSamples(runId, stop.signal, setRows).then(() => setDone(true)).catch((e) => !stop.signal.aborted && setError(e));
    return () => stop.abort();
  }, [runId, live]);
  const conditions = useMemo(() => [...new Set(rows.map(conditionName))].sort(), [rows]);
  const templates = useMemo(() => [...new Set(rows.map((r) => r.template))].sort(), [rows]);
  const classes = useMemo(() => [...new Set(rows.map((r) => r.class))].sort(), [rows]);
  const shown = useMemo(() => rows.filter((r) => (f.klass === '' || (f.klass === 'wrong' ? r.class !== 'correct' && r.state === 'done' : f.klass === 'differs' ? differs(r) : r.class === f.klass))
    && (!f.template || r.template === f.template) && (!f.condition || conditionName(r) === f.condition)), [rows, f]);
  const set = (name) => (e) => setFilter({ ...f, [name]: e.target.value });
  const at = chosen ? shown.findIndex((r) => r.ord === chosen.ord) : -1;
  const step = (by) => { const to = shown[at + by]; if (to) setChosen(to); };
  return html`<section class="card" aria-label="Answers"><div class="row head"><h3 class="grow">Answers <span class="soft" role="status">${count(shown.length)} of ${count(rows.length)}${done ? '' : ', loading'}</span></h3>
      <button class="small" onClick=${() => save(`${runId}-answers.csv`, csv(HEAD, shown.map((r) => [r.key, r.template, r.variant, r.level, r.class, r.gold, own(r).text, own(r).rule, r.completion_tokens])), 'text/csv')}>CSV</button></div>
    <${Alert} error=${error} />
    <div class="row pickers"><${Field} label="Answers that are"><select value=${f.klass} onChange=${set('klass')}><option value="">all</option><option value="wrong">wrong</option><option value="differs">judged differently by a profile</option>${classes.map((c) => html`<option key=${c} value=${c}>${className(c)}</option>`)}</select></${Field}>
      <${Field} label="Template"><select value=${f.template} onChange=${set('template')}><option value="">all</option>${templates.map((t) => html`<option key=${t} value=${t}>${t}</option>`)}</select></${Field}>
      <${Field} label="Variant"><select value=${f.condition} onChange=${set('condition')}><option value="">all</option>${conditions.map((c) => html`<option key=${c} value=${c}>${c}</option>`)}</select></${Field}></div>
    ${shown.length || !done ? html`<${Windowed} label="Answers: ${f.klass || 'all'} ${f.template} ${f.condition}" rows=${shown} columns=${COLUMNS} rowKey=${(r) => r.ord} chosen=${at} onOpen=${setChosen}
      cells=${(r) => [r.key, conditionName(r), className(r.class), plain(String(r.gold)), plain(String(own(r).text)).slice(0, 24), own(r).rule, r.completion_tokens]} />` : html`<p class="note">No answer matches.</p>`}
    ${chosen ? html`<div class="row"><button class="small" disabled=${at <= 0} onClick=${() => step(-1)}>Previous</button><button class="small" disabled=${at < 0 || at + 1 >= shown.length} onClick=${() => step(1)}>Next</button></div><${Detail} key=${chosen.ord} runId=${runId} row=${chosen} rows=${rows} onClose=${() => setChosen(null)} />` : null}</section>`;
}
