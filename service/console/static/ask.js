// Ask anything, of two versions at once, and why each of them answers so.
import * as api from './api.js';
import { Why } from './corrections/why.js';
import { html, useEffect, useRef, useState } from './h.js';
import { useFrame, useLoad } from './parts/frame.js';
import { Busy, Empty, Fault, Field, Said } from './parts/marks.js';
import { useVersions, VersionChoice } from './versions/choice.js';

const NONE = 'none'; // instead of a second version

export function Ask({ question: given }) {
  const { tick } = useFrame();
  const saved = useVersions();
  const versions = saved.versions || [];
  const [typed, setTyped] = useState(given || '');
  const [question, setQuestion] = useState(given || '');
  const [left, setLeft] = useState('head');
  const [chosen, setChosen] = useState(null);
  const right = chosen || versions.find((one) => !one.is_head && !one.tainted_by.length)?.id || NONE;
  const box = useRef();
  useEffect(() => box.current.focus(), []);
  const submit = (event) => {
    event.preventDefault();
    setQuestion(typed.trim());
  };
  const keydown = (event) => event.key === 'Enter' && !event.shiftKey && submit(event);
  return html`
    <div class="head"><h1>Ask</h1></div>
    <form class="ask" onSubmit=${submit}>
      <${Field} label="Question or situation">${(id) => html`
        <textarea id=${id} ref=${box} data-search rows="2" maxlength="20000" placeholder="In your own words" value=${typed}
          onInput=${(event) => setTyped(event.target.value)} onKeyDown=${keydown}></textarea>`}<//>
      <div class="bench">
        <${VersionChoice} label="Version" value=${left} versions=${versions} onChange=${setLeft} />
        <${VersionChoice} label="beside" value=${right} versions=${versions} onChange=${setChosen}><option value=${NONE}>nothing</option><//>
        <button class="main" disabled=${!typed.trim()}>Ask</button>
      </div>
    </form>
    <${Fault} error=${saved.error} />
    ${question ? saved.versions && html`<${Sides} key=${[question, left, right, tick].join('\n')} question=${question} nameOf=${saved.nameOf}
      ids=${[left, right].filter((id) => id !== NONE)} />`
    : html`<${Empty}>The answers of two versions stand side by side here, with how sure each is and which corrections carry it.<//>`}`;
}

function Sides({ question, ids, nameOf }) {
  const { bank, can, openTeach } = useFrame();
  const { data, error } = useLoad(() => api.probe(bank, [question], ids), []);
  if (error) return html`<${Fault} error=${error} />`;
  if (!data) return html`<${Busy}>Asking…<//>`;
  const [cells] = data.rows;
  const said = cells.map((cell) => (cell.abstained ? null : cell.value));
  return html`
    <p class="compared" role="status">${ids.length > 1 && (said[0] === said[1] ? 'Both versions answer alike.'
    : html`<strong>The two versions answer differently.</strong>`)}</p>
    <div class="sides">${cells.map((cell, place) => html`<section class="side">
      <h2>${nameOf(ids[place])}</h2>
      <${Said} cell=${cell} />
      ${cell.value != null && html`<${Why} question=${question} version=${ids[place]} />`}
      ${ids[place] === 'head' && can('corrections:write') && html`<p>
        <button type="button" onClick=${() => openTeach({ input: question, wrong: said[place] })}>Not right? Teach the answer</button></p>`}
    </section>`)}</div>`;
}
