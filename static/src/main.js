// The shell: navigation by hash, connection state, key prompt. One screen at a time.
import { render } from 'preact';
import { useState } from 'preact/hooks';
import { signal } from '@preact/signals';
import { html } from './lib/html.js';
import { needKey, setKey } from './lib/api.js';
import { live, startLive } from './lib/live.js';
import { Overview } from './overview/overview.js';
import { Duo } from './duo/duo.js';
import { Flash } from './flash/flash.js';
import { Playground } from './playground/playground.js';
import { Training } from './training/training.js';
import { Evals } from './evals/evals.js';
import { Recommend } from './recommend/recommend.js';
import './style.css';

const SCREENS = [
  ['overview', 'Overview', Overview],
  ['playground', 'Playground', Playground],
  ['flash', 'Flash', Flash],
  ['duo', 'Duo', Duo],
  ['training', 'Training', Training],
  ['evals', 'Evals', Evals],
  ['recommend', 'Recommend', Recommend],
];
const screen = signal('overview');
const arg = signal(''); // what the screen is about: #/SCREEN/ARG, slashes in ARG too

function readHash() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, '').split('/');
  const known = SCREENS.some(([id]) => id === name);
  screen.value = known ? name : 'overview';
  arg.value = known ? rest.join('/') : '';
}

function KeyPrompt() {
  const [text, setText] = useState('');
  return html`<form class="card" onSubmit=${(e) => { e.preventDefault(); setKey(text.trim()); startLive(); }}>
    <h3>This server asks for an API key</h3>
    <label>Key<input type="password" autocomplete="off" value=${text} onInput=${(e) => setText(e.target.value)} /></label>
    <p class="note">It is kept in this tab only.</p><button class="main">Use this key</button></form>`;
}

function App() {
  const [, , Screen] = SCREENS.find(([id]) => id === screen.value);
  const s = live.value;
  return html`<a class="skip" href="#main">Skip to the content</a><div class="shell">
    <header class="side"><h1><img src="/icon.svg" width="24" height="24" alt="" />strobe</h1>
      <nav aria-label="Screens">${SCREENS.map(([id, title]) => html`<a key=${id} href="#/${id}" aria-current=${id === screen.value ? 'page' : undefined}>${title}</a>`)}</nav>
      <p class="state">${!s.ready ? 'connecting' : s.online ? 'connected' : 'connection lost'}${s.model ? html`<br />${s.model.id}` : ''}${s.version ? html`<br />version ${s.version}` : ''}</p></header>
    <main id="main" tabindex="-1">${needKey.value ? html`<${KeyPrompt} />` : null}<${Screen} arg=${arg.value} /></main></div>`;
}

readHash();
addEventListener('hashchange', readHash);
startLive();
const root = document.getElementById('app');
root.replaceChildren();
render(html`<${App} />`, root);
