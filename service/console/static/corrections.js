// The corrections of a bank: search, filter, page by page; one of them in a drawer, with its strength in each version.
import * as api from './api.js';
import { Forget } from './forget.js';
import { html, useEffect, useState } from './h.js';
import {
  Answers, Bar, Chip, Code, Dialog, Empty, Fault, Field, Line, More, number, Pairs, plural, Table, Time, useDeed, useFrame, useList, useLoad, words,
} from './ui.js';

const STATUSES = ['active', 'superseded', 'rolled_back', 'forgotten'];
const ERASED = html`<em class="soft">erased</em>`;

export function Corrections({ id }) {
  const { bank, can, go, openTeach } = useFrame();
  const [typed, setTyped] = useState('');
  const [text, setText] = useState('');
  const [status, setStatus] = useState('');
  const [marked, setMarked] = useState(new Map());
  const [forgetting, setForgetting] = useState(null);
  const list = useList((cursor) => api.find(bank, { text, status, cursor }), [bank, text, status]);
  useEffect(() => {
    const timer = setTimeout(() => setText(typed), 250);
    return () => clearTimeout(timer);
  }, [typed]);
  const mark = (row) => setMarked((old) => {
    const next = new Map(old);
    if (!next.delete(row.id)) next.set(row.id, row);
    return next;
  });
  const forgettable = can('forget') || can('erase');
  const filtered = Boolean(text || status);
  const looked = `Looked at ${plural(list.looked, 'correction')}${list.cursor ? '; there are older ones' : ''}.`;
  return html`
    <div class="head"><h1>Corrections</h1><${TeachButton} open=${openTeach} /></div>
    <form class="bench" role="search" onSubmit=${(event) => event.preventDefault()}>
      <${Line} label="Search" type="search" data-search placeholder="Situation, answer, id or session" value=${typed}
        onInput=${(event) => setTyped(event.target.value)} />
      <${Field} label="Status">${(field) => html`<select id=${field} value=${status} onChange=${(event) => setStatus(event.target.value)}>
        <option value="">any</option>${STATUSES.map((one) => html`<option value=${one}>${words(one)}</option>`)}</select>`}<//>
    </form>
    <div class="marked" role="status">${marked.size > 0 && html`
      <span>${plural(marked.size, 'correction')} marked</span>
      <button type="button" class="danger" onClick=${() => setForgetting([...marked.values()])}>Forget…</button>
      <button type="button" class="quiet" onClick=${() => setMarked(new Map())}>Unmark</button>`}</div>
    <${Fault} error=${list.error} />
    ${list.items.length > 0 && html`<${Table} label="Corrections, newest first" rows=${list.items} onOpen=${(row) => go('corrections', row.id)}
      marked=${marked} onMark=${forgettable && mark} columns=${[
    { name: 'Situation', class: 'wide', show: (row) => html`<span class="situation">${row.input ?? ERASED}</span>` },
    { name: 'Right answer', class: 'wide', show: (row) => html`
      <span><span class="right">${row.right ?? ERASED}</span>${row.wrong && html` <del class="small">${row.wrong}</del>`}</span>` },
    { name: 'Status', show: (row) => html`<${Chip} name=${row.status} />` },
    { name: 'Taught', class: 'when', show: (row) => html`<${Time} at=${row.created_at} />` },
    { name: 'Seq', class: 'num', show: (row) => number(row.seq) },
  ]} />`}
    ${!list.busy && !list.error && !list.items.length && html`<${Empty}>${filtered ? 'None of them fits.' : html`
      Nothing was taught yet. Press <kbd>t</kbd> to teach the first correction.`}<//>`}
    <p class="soft small" role="status">${list.busy ? 'Loading…' : filtered && looked}</p>
    <${More} list=${list} what="corrections" />
    ${id && html`<${Detail} key=${id} id=${id} onClose=${() => go('corrections')} onForget=${forgettable && ((one) => setForgetting([one]))} />`}
    ${forgetting && html`<${Forget} corrections=${forgetting} onClose=${() => {
    setForgetting(null);
    setMarked(new Map());
  }} />`}`;
}

function Detail({ id, onClose, onForget }) {
  const { bank, can, go, ask } = useFrame();
  const { data, error } = useLoad(() => api.correction(bank, id), [bank, id]);
  const there = data?.input != null;
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
      ${there && can('recall:read') && html`
        <${Now} one=${data} onSupport=${(other) => go('corrections', other)} />
        ${can('snapshots:read') && html`<${Trace} one=${data} />`}
        <div class="actions">
          <button type="button" onClick=${() => ask(data.input)}>Ask this</button>
          ${onForget && data.status !== 'forgotten' && html`<button type="button" class="danger" onClick=${() => onForget(data)}>Forget…</button>`}
        </div>`}`}
  <//>`;
}

function Now({ one, onSupport }) {
  const { bank } = useFrame();
  const { data, error } = useLoad(() => api.recall(bank, one.input), [bank, one.id]);
  return html`<section><h3>What the memory says now</h3>
    <${Fault} error=${error} />${data && html`<${Answers} reply=${data} onSupport=${onSupport} />`}</section>`;
}

/** How strongly each version gives this correction's answer to its own situation. */
function Trace({ one }) {
  const { bank } = useFrame();
  const { data, error } = useLoad(() => api.trace(bank, one), [bank, one.id]);
  return html`<section><h3>Strength by version</h3>
    <${Fault} error=${error} />
    ${data && html`<ul class="trace">${data.map((version) => html`<li key=${version.id}>
      <span>${version.label || words(version.kind)}</span>
      <${Bar} share=${version.confidence} tone=${version.first ? '' : 'dim'} label=${`Strength in ${version.label || version.id}`} />
      <span class="small soft"><${Time} at=${version.created_at} /></span></li>`)}</ul>
    <p class="soft small">How sure each version is of this answer in this situation; pale where another answer, or silence, comes first.</p>`}
  </section>`;
}

export function TeachButton({ open }) {
  const { can } = useFrame();
  return can('corrections:write') && html`<button type="button" class="main" onClick=${() => open()}>Teach<kbd aria-hidden="true">t</kbd></button>`;
}

/** Teach one correction; the receipt shows what the memory said before and says now. */
export function Teach({ given, onClose }) {
  const { bank, changed } = useFrame();
  const [taught, setTaught] = useState(null);
  const teaching = useDeed();
  const submit = async (event) => {
    event.preventDefault();
    const lesson = Object.fromEntries([...new FormData(event.target)].filter(([, value]) => value.trim()));
    const reply = await teaching.run(() => api.teach(bank, lesson));
    if (!reply) return;
    setTaught(reply);
    changed();
  };
  if (taught) {
    return html`<${Dialog} title="Taught" onClose=${onClose}>
      <${Receipt} item=${taught.receipt.item} />
      <div class="actions">
        <button type="button" onClick=${() => setTaught(null)}>Teach another</button>
        <button type="button" class="main" autofocus onClick=${onClose}>Done</button>
      </div><//>`;
  }
  return html`<${Dialog} title="Teach" onClose=${onClose}><form onSubmit=${submit}>
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
