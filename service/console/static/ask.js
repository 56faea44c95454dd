// Ask anything, of two versions at once.
import * as api from './api.js';
import { html, useEffect, useRef, useState } from './h.js';
import { Answers, Empty, Fault, Field, useFrame, useLoad } from './ui.js';
import { named, VersionChoice } from './versions.js';

const NONE = 'none'; // instead of a second version

export function Ask({ question: given }) {
  const { bank, can, go, tick, openTeach } = useFrame();
  const saved = useLoad(async () => (can('snapshots:read') ? (await api.snapshots(bank, { limit: 100 })).items : []), [bank]);
  const versions = saved.data || [];
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
    ${question ? html`<${Sides} key=${[question, left, right, tick].join('\n')} question=${question} versions=${versions}
      ids=${[left, right].filter((id) => id !== NONE)} onSupport=${(id) => go('corrections', id)}
      onTeach=${can('corrections:write') && ((wrong) => openTeach({ input: question, wrong }))} />`
    : html`<${Empty}>The answers of two versions stand side by side here, with how sure each is and which corrections it rests on.<//>`}`;
}

function Sides({ question, ids, versions, onSupport, onTeach }) {
  const { bank } = useFrame();
  const { data, error } = useLoad(() => Promise.all(ids.map((version) => api.recall(bank, question, { version }))), []);
  if (error) return html`<${Fault} error=${error} />`;
  if (!data) return html`<p class="soft" role="status">Asking…</p>`;
  const said = data.map((reply) => (reply.abstained ? undefined : reply.answers[0]?.value));
  return html`
    <p class="compared" role="status">${ids.length > 1 && (said[0] === said[1] ? 'Both versions answer alike.'
    : html`<strong>The two versions answer differently.</strong>`)}</p>
    <div class="sides">${data.map((reply, place) => html`<section class="side">
      <h2>${ids[place] === 'head' ? 'Now' : named(versions.find((one) => one.id === ids[place]))}</h2>
      <${Answers} reply=${reply} onSupport=${onSupport} />
      ${onTeach && ids[place] === 'head' && html`
        <p><button type="button" onClick=${() => onTeach(said[place])}>Not right? Teach the answer</button></p>`}
    </section>`)}</div>`;
}
