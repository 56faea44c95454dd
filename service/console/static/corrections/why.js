// Why a version answers so: what each level adds to the best answer, which corrections carry it, and what speaks against it.
import * as api from '../api.js';
import { html, useState } from '../h.js';
import { useDeed, useFrame } from '../parts/frame.js';
import { Bar, Fault } from '../parts/marks.js';
import { plural, words } from '../parts/words.js';

const SHOWN = 5; // corrections that carry an answer
const LEAST = 0.01; // part of a score below which nothing is carried

const part = (score, whole) => (whole > 0 ? Math.max(0, score / whole) : 0);

/** A button, since it takes a while, and then the reasons. */
export function Why({ question, version }) {
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
  if (told.value == null) return html`<p class="soft" role="status">It has no answer at all, so there is nothing to explain.</p>`;
  const { carriers, counter, levels, texts } = told;
  return html`<div class="why">
    <h3>Levels</h3>
    <ul class="meters">${levels.map((level) => html`<li><span>${words(level.name)}</span>
      <${Bar} share=${part(level.score, told.score)} label=${`Part of the ${level.name} level`} /></li>`)}</ul>
    <h3>Carried by</h3>
    ${carriers.length > 0 && html`<ul class="carriers">${carriers.map((one) => html`<li>
      <${Taught} one=${texts.get(one.correction)} />
      <${Bar} share=${part(one.carries, told.score)} label="Part of the score that is lost without it" />
      <span class="soft small">without it: ${one.said.value ?? 'silence'}${
        one.level === 'middle' && '; it lies in the middle level'}</span></li>`)}</ul>`}
    <p class="soft small">${carriers.length ? 'Those' : 'None'} of the ${plural(told.sample, 'correction')} nearest to it in the fast level
      ${carriers.length > 0 && ' without which the score of the answer falls, and by how much'}: ${told.method === 'fold'
  ? 'the memory was folded again without each.' : 'what each wrote there was taken out.'}</p>
    <h3>Against it</h3>
    ${counter ? html`<ul class="carriers"><li>${counter.correction && html`<${Taught} one=${texts.get(counter.correction)} />`}
      <${Bar} share=${counter.confidence} tone="dim" label=${`Confidence in ${counter.value}`} />
      <span class="soft small">the next best answer: ${counter.value}</span></li></ul>` : html`<p class="soft small">No other answer.</p>`}
  </div>`;
}

function Taught({ one }) {
  const { go } = useFrame();
  return html`<button type="button" class="link prose" title=${one.id} onClick=${() => go('corrections', one.id)}>${one.input ?? one.id}</button>`;
}
