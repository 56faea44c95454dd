// What differs between two states: the answers first, then the corrections that came and went, then how far the levels moved.
import * as api from '../api.js';
import { html, useState } from '../h.js';
import { Dialog } from '../parts/dialog.js';
import { useFrame, useLoad } from '../parts/frame.js';
import { Fault, Flips } from '../parts/marks.js';
import { Sheet } from '../parts/table.js';
import { asked, number, plural, words } from '../parts/words.js';
import { named, VersionChoice } from './choice.js';

const MOVED = 10; // corrections that are shown

/** `versions` are those to choose from. */
export function Compare({ first, versions, onClose }) {
  const { bank } = useFrame();
  const [from, setFrom] = useState(first);
  const [to, setTo] = useState('head');
  const diff = useLoad(() => api.diff(bank, from, to), [bank, from, to]);
  const name = (id) => (id === 'head' ? 'Now' : named(versions.find((one) => one.id === id)));
  return html`<${Dialog} title="Compare versions" kind="large" onClose=${onClose}>
    <div class="bench">
      <${VersionChoice} label="From" value=${from} versions=${versions} onChange=${setFrom} />
      <${VersionChoice} label="to" value=${to} versions=${versions} onChange=${setTo} />
    </div>
    <${Difference} diff=${diff} before=${name(from)} after=${name(to)} />
  <//>`;
}

/** A difference that is loaded, and how people call its two sides. */
export const Difference = ({ diff: { data, busy, error }, before, after }) => html`
  <${Fault} error=${error} />
  <p role="status" aria-busy=${busy}>${busy ? 'Asking both versions…' : data && !error && html`
    <strong>${plural(data.flips.length, 'answer differs', 'answers differ')}</strong> of ${asked(data)};
    ${' '}${plural(data.gained_total, 'correction')} came and ${number(data.lost_total)} went.`}</p>
  ${!busy && !error && data && html`
    ${data.flips.length > 0 && html`<section><h3>Answers</h3><${Flips} flips=${data.flips} before=${before} after=${after} /></section>`}
    <${Moved} title="Came" rows=${data.gained} total=${data.gained_total} />
    <${Moved} title="Went" rows=${data.lost} total=${data.lost_total} />
    <section><h3>Levels</h3><${Sheet} names=${['Level', 'Norm before', 'Norm after', 'Difference']} rows=${data.levels.map((level) => [
  words(level.name), number(level.before_norm, 3), number(level.after_norm, 3), number(level.drift, 3)])} /></section>`}`;

const Moved = ({ title, rows, total }) => rows.length > 0 && html`<section><h3>${title}</h3>
  <${Sheet} names=${['No.', 'Situation', 'Right answer']} rows=${rows.slice(0, MOVED).map((one) => [
  number(one.seq), one.input ?? 'not shown any more', one.right ?? ''])} />
  ${total > MOVED && html`<p class="soft small">and ${plural(total - MOVED, 'more correction')}</p>`}</section>`;
