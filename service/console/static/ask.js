// Ask anything, of two versions at once, and why each of them answers so.
import * as api from './api.js';
import { html, useEffect, useRef, useState } from './h.js';
import { Bar, Empty, Fault, Field, plural, Said, useDeed, useFrame, useLoad, words } from './ui.js';
import { named, VersionChoice } from './versions.js';

const NONE = 'none'; // instead of a second version
const SHOWN = 5; // corrections that carry an answer
const LEAST = 0.01; // part of a score below which nothing is carried

export function Ask({ question: given }) {
  const { bank, can, tick } = useFrame();
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
    <${Fault} error=${saved.error} />
    ${question ? saved.data && html`<${Sides} key=${[question, left, right, tick].join('\n')} question=${question} versions=${versions}
      ids=${[left, right].filter((id) => id !== NONE)} />`
    : html`<${Empty}>The answers of two versions stand side by side here, with how sure each is and which corrections carry it.<//>`}`;
}

function Sides({ question, ids, versions }) {
  const { bank, can, openTeach } = useFrame();
  const { data, error } = useLoad(() => api.probe(bank, [question], ids), []);
  if (error) return html`<${Fault} error=${error} />`;
  if (!data) return html`<p class="soft" role="status">Asking…</p>`;
  const [cells] = data.rows;
  const said = cells.map((cell) => (cell.abstained ? null : cell.value));
  return html`
    <p class="compared" role="status">${ids.length > 1 && (said[0] === said[1] ? 'Both versions answer alike.'
    : html`<strong>The two versions answer differently.</strong>`)}</p>
    <div class="sides">${cells.map((cell, place) => html`<section class="side">
      <h2>${ids[place] === 'head' ? 'Now' : named(versions.find((one) => one.id === ids[place]))}</h2>
      <${Said} cell=${cell} />
      ${cell.value != null && html`<${Why} question=${question} version=${ids[place]} />`}
      ${ids[place] === 'head' && can('corrections:write') && html`<p>
        <button type="button" onClick=${() => openTeach({ input: question, wrong: said[place] })}>Not right? Teach the answer</button></p>`}
    </section>`)}</div>`;
}

/** What each level adds to the best answer, which corrections carry it, and what speaks against it. */
function Why({ question, version }) {
  const { bank } = useFrame();
  const [told, setTold] = useState(null);
  const asking = useDeed();
  const ask = async () => {
    const found = await asking.run(async () => {
      const explained = await api.explain(bank, question, version);
      const carriers = explained.carriers.filter((one) => part(one.carries, explained.score) >= LEAST).slice(0, SHOWN);
      const ids = [...new Set([...carriers, explained.counter].map((one) => one?.correction))].filter(Boolean);
      const texts = await Promise.all(ids.map((id) => api.correction(bank, id)));
      return { ...explained, carriers, texts: new Map(texts.map((one) => [one.id, one])) };
    });
    setTold(found || null);
  };
  if (!told) {
    return html`<p><button type="button" onClick=${ask} disabled=${asking.busy}>${asking.busy ? 'Leaving corrections out…' : 'Why?'}</button></p>
      <${Fault} error=${asking.error} />`;
  }
  const { carriers, counter, levels, texts } = told;
  return html`<div class="why">
    <h3>Levels</h3>
    <ul class="meters">${levels.map((level) => html`<li><span>${words(level.name)}</span>
      <${Bar} share=${part(level.score, told.score)} label=${`Part of the ${level.name} level`} /></li>`)}</ul>
    <h3>Carried by</h3>
    ${carriers.length > 0 && html`<ul class="carriers">${carriers.map((one) => html`<li>
      <${Taught} one=${texts.get(one.correction)} />
      <${Bar} share=${part(one.carries, told.score)} label="Part of the score that is lost without it" />
      <span class="soft small">without it: ${one.said.value ?? 'silence'}</span></li>`)}</ul>`}
    <p class="soft small">${carriers.length ? 'Those' : 'None'} of the ${plural(told.sample, 'correction')} nearest to it in the fast level
      ${carriers.length > 0 && ' without which the score of the answer falls, and by how much'}: ${told.method === 'fold'
  ? 'the memory was folded again without each.' : 'what each wrote there was taken out.'}</p>
    <h3>Against it</h3>
    ${counter ? html`<ul class="carriers"><li>${counter.correction && html`<${Taught} one=${texts.get(counter.correction)} />`}
      <${Bar} share=${counter.confidence} tone="dim" label=${`Confidence in ${counter.value}`} />
      <span class="soft small">the next best answer: ${counter.value}</span></li></ul>` : html`<p class="soft small">No other answer.</p>`}
  </div>`;
}

const part = (score, whole) => (whole > 0 ? Math.max(0, score / whole) : 0);

function Taught({ one }) {
  const { go } = useFrame();
  return html`<button type="button" class="link prose" title=${one.id} onClick=${() => go('corrections', one.id)}>${one.input ?? one.id}</button>`;
}
