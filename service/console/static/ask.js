// Ask anything, of two versions at once.
import * as api from './api.js';
import { html, useEffect, useRef, useState } from './h.js';
import { Answers, Empty, Fault, Field, useFrame, useLoad } from './ui.js';
import { named } from './versions.js';

export function Ask({ question: given }) {
  const { bank, can, go, tick, openTeach } = useFrame();
  const saved = useLoad(() => (can('snapshots:read') ? api.snapshots(bank, { limit: 100 }) : Promise.resolve({ items: [] })), [bank]);
  const [typed, setTyped] = useState(given || '');
  const [question, setQuestion] = useState(given || '');
  const [left, setLeft] = useState('head');
  const [right, setRight] = useState('');
  const box = useRef();
  useEffect(() => {
    box.current.focus();
  }, []);
  const versions = saved.data?.items || [];
  const other = right || versions.find((one) => !one.is_head && !one.tainted_by.length)?.id || 'none';
  const submit = (event) => {
    event.preventDefault();
    setQuestion(typed.trim());
  };
  const keydown = (event) => {
    if (event.key === 'Enter' && !event.shiftKey) submit(event);
  };
  const choice = (label, value, set, none) =>
    html`<${Field} label=${label}>${(id) => html`
    <select id=${id} value=${value} onChange=${(event) => set(event.target.value)}>
      <option value="head">now</option>${versions.map((one) => html`<option value=${one.id} disabled=${one.tainted_by.length > 0}>${named(one)}</option>`)}
      ${none && html`<option value="none">nothing</option>`}
    </select>`}<//>`;
  return html`
    <div class="head"><h1>Ask</h1></div>
    <form class="ask" onSubmit=${submit}>
      <${Field} label="Question or situation">${(
        id,
      ) => html`<textarea id=${id} ref=${box} data-search rows="2" maxlength="20000" value=${typed}
        placeholder="In your own words" onInput=${(event) => setTyped(event.target.value)} onKeyDown=${keydown}></textarea>`}<//>
      <div class="bench">${choice('Version', left, setLeft)}${choice('beside', other, setRight, true)}
        <button class="main" disabled=${!typed.trim()}>Ask</button></div>
    </form>
    ${
      question
        ? html`<${Compared} key=${`${question}\n${left}\n${other}\n${tick}`} question=${question} sides=${[left, other].filter((id) => id !== 'none')} versions=${versions}
        onSupport=${(id) => go('corrections', id)}
        onTeach=${can('corrections:write') && ((wrong) => openTeach({ input: question, wrong }))} />`
        : html`<${Empty}>The answers of two versions stand side by side here, with how sure each is and which corrections it rests on.<//>`
    }`;
}

function Compared({ question, sides, versions, onSupport, onTeach }) {
  const { bank } = useFrame();
  const asked = useLoad(() => Promise.all(sides.map((version) => api.recall(bank, question, { version }))), []);
  if (asked.error) return html`<${Fault} error=${asked.error} />`;
  if (!asked.data) return html`<p class="soft" role="status">Asking…</p>`;
  const best = asked.data.map((reply) => (reply.abstained ? null : (reply.answers[0]?.value ?? null)));
  return html`
    <p class="compared" role="status">${sides.length < 2 ? '' : best[0] === best[1] ? 'Both versions answer alike.' : html`<strong>The two versions answer differently.</strong>`}</p>
    <div class="sides">${asked.data.map(
      (reply, place) => html`<section key=${place} class="side">
      <h2>${sides[place] === 'head' ? 'Now' : named(versions.find((one) => one.id === sides[place]))}</h2>
      <${Answers} reply=${reply} onSupport=${onSupport} />
      ${onTeach && sides[place] === 'head' && html`<p><button type="button" onClick=${() => onTeach(best[place])}>Not right? Teach the answer<kbd>t</kbd></button></p>`}
    </section>`,
    )}</div>`;
}
