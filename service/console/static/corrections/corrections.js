// The corrections of a bank: search, filter, page by page, and what is done with those that are marked.
import * as api from '../api.js';
import { Certificate } from '../forgetting/certificate.js';
import { Forget } from '../forgetting/forget.js';
import { Hold } from '../forgetting/hold.js';
import { html, useEffect, useState } from '../h.js';
import { useDeed, useFrame, useList, useSettled } from '../parts/frame.js';
import { Bar, Chip, Empty, Fault, Field, Line } from '../parts/marks.js';
import { More, Table } from '../parts/table.js';
import { number, plural, Time, words } from '../parts/words.js';
import { Correction } from './correction.js';
import { TeachButton } from './teach.js';

const STATUSES = ['active', 'superseded', 'rolled_back', 'quarantined', 'forgotten'];
const MEASURED = 200; // corrections whose strength is asked for at once
const ERASED = html`<em class="soft">erased</em>`;

export function Corrections({ id }) {
  const { bank, can, go, openTeach, tick } = useFrame();
  const [typed, setTyped] = useState('');
  const text = useSettled(typed);
  const [status, setStatus] = useState('');
  const [marked, setMarked] = useState(new Map());
  const [open, setOpen] = useState({}); // {forget} or {hold}: what and how it is called; {certificate: id of a forgetting}
  const [strengths, setStrengths] = useState(new Map()); // of corrections by id: what is said to their situations
  const measuring = useDeed();
  const list = useList((cursor) => api.find(bank, { text, cursor, fits: status && ((one) => one.status === status) }), [bank, text, status]);
  useEffect(() => setStrengths(new Map()), [tick]); // whatever was changed may have changed them
  const measure = async () => {
    const rows = list.items.filter((row) => row.input != null && !strengths.has(row.id)).slice(0, MEASURED);
    const told = rows.length && (await measuring.run(() => api.probe(bank, rows.map((row) => row.input), ['head'])));
    if (told) setStrengths((old) => new Map([...old, ...rows.map((row, place) => [row.id, told.rows[place][0]])]));
  };
  const mark = (row) => setMarked((old) => {
    const next = new Map(old);
    if (!next.delete(row.id)) next.set(row.id, row);
    return next;
  });
  const forgettable = can('forget') || can('erase');
  const all = { what: { corrections: [...marked.keys()] }, named: plural(marked.size, 'correction') };
  const close = () => {
    setOpen({});
    setMarked(new Map());
  };
  const filtered = Boolean(text || status);
  const looked = `Looked at ${plural(list.looked, 'correction')}${list.cursor ? '; there are older ones' : ''}.`;
  return html`
    <div class="head"><h1>Corrections</h1><${TeachButton} open=${openTeach} /></div>
    <form class="bench" role="search" onSubmit=${(event) => event.preventDefault()}>
      <${Line} label="Search" type="search" data-search maxlength="256" placeholder="Words of a situation, an answer, metadata" value=${typed}
        onInput=${(event) => setTyped(event.target.value)} />
      <${Field} label="Status">${(field) => html`<select id=${field} value=${status} onChange=${(event) => setStatus(event.target.value)}>
        <option value="">any</option>${STATUSES.map((one) => html`<option value=${one}>${words(one)}</option>`)}</select>`}<//>
      <button type="button" onClick=${measure} disabled=${measuring.busy}>${measuring.busy ? 'Asking…' : 'Measure strength'}</button>
    </form>
    <div class="marked" role="status">${marked.size > 0 && html`
      <span>${plural(marked.size, 'correction')} marked</span>
      ${can('forget') && html`<button type="button" onClick=${() => setOpen({ hold: all })}>Hold…</button>`}
      <button type="button" class="danger" onClick=${() => setOpen({ forget: all })}>Forget…</button>
      <button type="button" class="quiet" onClick=${() => setMarked(new Map())}>Unmark</button>`}</div>
    <${Fault} error=${list.error || measuring.error} />
    ${list.items.length > 0 && html`<${Table} label="Corrections, newest first" rows=${list.items} onOpen=${(row) => go('corrections', row.id)}
      marked=${marked} onMark=${forgettable && mark} columns=${[
    { name: 'Situation', class: 'wide', show: (row) => html`<span class="situation">${row.input ?? ERASED}</span>` },
    { name: 'Right answer', class: 'wide', show: (row) => html`
      <span><span class="right">${row.right ?? ERASED}</span>${row.wrong && html` <del class="small">${row.wrong}</del>`}</span>` },
    { name: 'Status', show: (row) => html`<${Chip} name=${row.status} />` },
    ...(strengths.size ? [{ name: 'Strength', show: (row) => html`<${Strength} cell=${strengths.get(row.id)} right=${row.right} />` }] : []),
    { name: 'Taught', class: 'when', show: (row) => html`<${Time} at=${row.created_at} />` },
    { name: 'Seq', class: 'num', show: (row) => number(row.seq) },
  ]} />`}
    ${!list.busy && !list.error && !list.items.length && html`<${Empty}>${filtered ? 'None of them fits: take a word away, or another status.' : html`
      Nothing was taught yet. A correction is a situation and the answer that is right in it. Press <kbd>t</kbd> to teach the first one.`}<//>`}
    <p class="soft small" role="status">${list.busy ? 'Loading…' : filtered && looked}</p>
    <${More} list=${list} what="corrections" />
    ${id && html`<${Correction} key=${id} id=${id} onClose=${() => go('corrections')} onOpen=${setOpen} forgettable=${forgettable} />`}
    ${open.forget && html`<${Forget} ...${open.forget} onClose=${close} />`}
    ${open.hold && html`<${Hold} ...${open.hold} onClose=${close} />`}
    ${open.certificate && html`<${Certificate} id=${open.certificate} onClose=${close} />`}`;
}

/** How sure the memory is of a correction's answer in its situation, where it gives that. */
function Strength({ cell, right }) {
  if (!cell) return null;
  if (cell.abstained || cell.value !== right) return html`<${Chip} name=${cell.abstained ? 'silence' : 'another answer'} />`;
  return html`<${Bar} share=${cell.confidence} label=${`Strength of ${right}`} />`;
}
