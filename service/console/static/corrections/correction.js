// One correction in a drawer: what it says, how firmly it holds, and why the memory answers so in its situation.
import * as api from '../api.js';
import { html } from '../h.js';
import { Dialog } from '../parts/dialog.js';
import { useFrame, useLoad } from '../parts/frame.js';
import { Bar, Busy, Chip, Fault, Pairs } from '../parts/marks.js';
import { Code, number, Time, words } from '../parts/words.js';
import { named } from '../versions/choice.js';
import { Why } from './why.js';

/** `onOpen` is told what to do with it: {forget}, {hold} or {certificate}. */
export function Correction({ id, onClose, onOpen, forgettable }) {
  const { bank, can, ask } = useFrame();
  const { data, error } = useLoad(() => api.correction(bank, id), [bank, id]);
  const there = data?.input != null;
  const one = { what: { corrections: [id] }, named: '1 correction' };
  return html`<${Dialog} title="Correction" kind="drawer" onClose=${onClose}>
    <${Fault} error=${error} />
    ${data && html`
      <p class="lead">${data.input ?? 'Its text was erased.'}</p>
      ${there && html`<p class="verdict">${data.wrong && html`<del>${data.wrong}</del>`}<ins>${data.right}</ins></p>`}
      <${Pairs} of=${[
    ['Status', html`<${Chip} name=${data.status} />`],
    ['Taught', html`<${Time} at=${data.created_at} />, ${new Date(data.created_at).toLocaleString()}`],
    ['Place in the ledger', number(data.seq)],
    ['Id', html`<${Code} value=${data.id} keep=${40} />`],
    ['Session', data.session_id && html`<${Code} value=${data.session_id} keep=${40} />`],
    ['Metadata', Object.keys(data.metadata).length > 0 && html`<pre>${JSON.stringify(data.metadata, null, 1)}</pre>`],
  ]} />
      <${Trace} id=${id} onCertificate=${can('forget') && ((forget) => onOpen({ certificate: forget }))} />
      ${there && html`<section><h3>Its situation, asked now</h3><${Why} key=${id} question=${data.input} version="head" /></section>`}
      ${there && html`<div class="actions">
        <button type="button" onClick=${() => ask(data.input)}>Ask this</button>
        ${data.status !== 'forgotten' && html`
          ${can('forget') && data.status !== 'quarantined' && html`<button type="button" onClick=${() => onOpen({ hold: one })}>Hold…</button>`}
          ${forgettable && html`<button type="button" class="danger" onClick=${() => onOpen({ forget: one })}>Forget…</button>`}`}
      </div>`}`}
  <//>`;
}

/** Where it lives: what became of it, and how strongly each level alone, and each version that holds it, gives its answer to its situation. */
function Trace({ id, onCertificate }) {
  const { bank, go } = useFrame();
  const { data, error } = useLoad(() => api.trace(bank, id), [bank, id]);
  if (error) return html`<${Fault} error=${error} />`;
  if (!data) return html`<${Busy}>Asking every version…<//>`;
  const { removed } = data;
  return html`
    ${data.superseded_by && html`<p>A later correction says otherwise:
      ${' '}<button type="button" class="link" onClick=${() => go('corrections', data.superseded_by)}>look at it</button></p>`}
    ${removed && html`<p>${removed.by === 'forget' ? html`Forgotten (${removed.mode})` : html`Taken out by a ${words(removed.by)}`}
      ${' '}<${Time} at=${removed.at} />. ${removed.by === 'forget' && onCertificate && html`
        <button type="button" onClick=${() => onCertificate(removed.id)}>Certificate</button>`}</p>`}
    ${data.right_now != null && html`<section><h3>Now</h3>
      <p role="status">${data.right_now ? 'Its answer is the one that is given.' : 'Another answer, or silence, comes first in its situation.'}</p>
      <${Strengths} rows=${[['all levels', data, null], ...data.levels.map((level) => [`${level.name} level alone`, level, null])]} /></section>`}
    ${data.snapshots.length > 0 && html`<section><h3>In versions</h3>
      <${Strengths} rows=${data.snapshots.map((one) => [named(one), one, one.created_at])} />
      <p class="soft small">How sure each of the ${data.holding > data.snapshots.length ? 'newest ' : ''}versions that hold it is of its answer in its
        situation; pale where another answer comes first.</p></section>`}`;
}

const Strengths = ({ rows }) => html`<ul class="meters">${rows.map(([name, one, at]) => html`<li>
  <span>${name}</span><${Bar} share=${one.confidence} tone=${one.rank === 1 ? '' : 'dim'} label=${`Strength: ${name}`} />
  <span class="small soft">${at && html`<${Time} at=${at} />`}</span></li>`)}</ul>`;
