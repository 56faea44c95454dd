// The corrections of a bank: search, filter, page by page; one of them in a drawer, with where it lives.
import * as api from './api.js';
import { Certificate } from './certificate.js';
import { Forget } from './forget.js';
import { html, useEffect, useState } from './h.js';
import { Hold } from './quarantine.js';
import {
  Bar, Chip, Code, Dialog, Empty, Fault, Field, Line, More, number, Pairs, plural, Table, Time, useDeed, useFrame, useList, useLoad, words,
} from './ui.js';
import { named } from './versions.js';

const STATUSES = ['active', 'superseded', 'rolled_back', 'quarantined', 'forgotten'];
const MEASURED = 200; // corrections whose strength is asked for at once
const ERASED = html`<em class="soft">erased</em>`;

export function Corrections({ id }) {
  const { bank, can, go, openTeach, tick } = useFrame();
  const [typed, setTyped] = useState('');
  const [text, setText] = useState('');
  const [status, setStatus] = useState('');
  const [marked, setMarked] = useState(new Map());
  const [open, setOpen] = useState({}); // {forget} or {hold}: what and how it is called; {certificate: id of a forgetting}
  const [strengths, setStrengths] = useState(new Map()); // of corrections by id: what is said to their situations
  const measuring = useDeed();
  const list = useList((cursor) => api.find(bank, { text, status, cursor }), [bank, text, status]);
  useEffect(() => {
    const timer = setTimeout(() => setText(typed), 250);
    return () => clearTimeout(timer);
  }, [typed]);
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
    ${!list.busy && !list.error && !list.items.length && html`<${Empty}>${filtered ? 'None of them fits.' : html`
      Nothing was taught yet. Press <kbd>t</kbd> to teach the first correction.`}<//>`}
    <p class="soft small" role="status">${list.busy ? 'Loading…' : filtered && looked}</p>
    <${More} list=${list} what="corrections" />
    ${id && html`<${Detail} key=${id} id=${id} onClose=${() => go('corrections')} onOpen=${setOpen} forgettable=${forgettable} />`}
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

function Detail({ id, onClose, onOpen, forgettable }) {
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
  if (!data) return html`<p class="soft" role="status">Asking every version…</p>`;
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

export function TeachButton({ open }) {
  const { can } = useFrame();
  return can('corrections:write') && html`<button type="button" class="main" onClick=${() => open()}>Teach<kbd aria-hidden="true">t</kbd></button>`;
}

/** Teach one correction; the receipt shows what the memory said before and says now. */
export function Teach({ given, onClose }) {
  const { bank, changed, go } = useFrame();
  const [taught, setTaught] = useState(null);
  const teaching = useDeed();
  const close = () => {
    changed(); // not with the reply: what the memory said before is noted a moment after it
    onClose();
  };
  const submit = async (event) => {
    event.preventDefault();
    const lesson = Object.fromEntries([...new FormData(event.target)].filter(([, value]) => value.trim()));
    const reply = await teaching.run(() => api.teach(bank, lesson));
    if (reply) setTaught(reply);
  };
  if (taught) {
    return html`<${Dialog} title="Taught" onClose=${close}>
      <${Receipt} item=${taught.receipt.item} />
      <${Locality} of=${taught.receipt.locality} onOpen=${(id) => {
        close();
        go('corrections', id);
      }} />
      <div class="actions">
        <button type="button" onClick=${() => setTaught(null)}>Teach another</button>
        <button type="button" class="main" autofocus onClick=${close}>Done</button>
      </div><//>`;
  }
  return html`<${Dialog} title="Teach" onClose=${close}><form onSubmit=${submit}>
    <${Line} label="In this situation" name="input" rows="2" required autofocus maxlength="20000" value=${given.input} />
    <${Line} label="the right answer is" name="right" rows="2" required maxlength="20000" />
    <${Line} label="and not (optional)" name="wrong" rows="1" maxlength="20000" value=${given.wrong}
      hint="What the agent said, if it said something wrong. It is kept beside the correction." />
    <${Fault} error=${teaching.error} />
    <div class="actions"><button class="main" disabled=${teaching.busy}>${teaching.busy ? 'Teaching…' : 'Teach'}</button></div>
  </form><//>`;
}

const Receipt = ({ item }) => html`<div class="receipt" role="status">
  <div><p class="soft small">Before</p><p class="said"><del>${item.before.value ?? 'silence'}</del></p>
    <${Bar} share=${item.before.confidence} tone="dim" label="Confidence before" /></div>
  <div><p class="soft small">Now</p><p class="said"><ins>${item.after.value ?? 'silence'}</ins></p>
    <${Bar} share=${item.after.confidence} label="Confidence now" /></div>
</div>`;

/** What became of the corrections nearest to it. */
const Locality = ({ of, onOpen }) => of.n > 0 && html`<p class="soft small">Of the ${plural(of.n, 'correction')} nearest to it
  ${' '}${of.flipped.length ? html`${number(of.flipped.length)} ${of.flipped.length === 1 ? 'is' : 'are'} answered otherwise now:
    ${of.flipped.map((id) => html` <button type="button" class="link" title=${id} onClick=${() => onOpen(id)}>cor_…${id.slice(-6)}</button>`)}`
  : 'none is answered otherwise now.'}</p>`;
