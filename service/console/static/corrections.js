// The corrections of a bank: search, filter, page by page; one of them in a drawer, with its strength in each version.
import * as api from './api.js';
import { Forget } from './forget.js';
import { html, useEffect, useRef, useState } from './h.js';
import {
  Answers,
  Bar,
  Chip,
  Code,
  Dialog,
  Empty,
  Fault,
  Field,
  More,
  number,
  plural,
  Table,
  Time,
  useFrame,
  useList,
  useLoad,
} from './ui.js';

const STATUSES = ['active', 'superseded', 'rolled_back', 'forgotten'];

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
  useEffect(() => setMarked(new Map()), [bank]);
  const mark = (row) =>
    setMarked((old) => {
      const next = new Map(old);
      if (!next.delete(row.id)) next.set(row.id, row);
      return next;
    });
  const forgettable = can('forget') || can('erase');
  const filtered = Boolean(text || status);
  return html`
    <div class="head"><h1>Corrections</h1>
      ${can('corrections:write') && html`<button type="button" class="main" onClick=${openTeach}>Teach<kbd>t</kbd></button>`}</div>
    <form class="bench" role="search" onSubmit=${(event) => event.preventDefault()}>
      <${Field} label="Search">${(
        field,
      ) => html`<input id=${field} type="search" data-search value=${typed} placeholder="Situation, answer, id or session"
        onInput=${(event) => setTyped(event.target.value)} />`}<//>
      <${Field} label="Status">${(field) => html`<select id=${field} value=${status} onChange=${(event) => setStatus(event.target.value)}>
        <option value="">any</option>${STATUSES.map((one) => html`<option value=${one}>${one.replace('_', ' ')}</option>`)}</select>`}<//>
    </form>
    <div class="marked" role="status">${
      marked.size > 0 &&
      html`<span>${plural(marked.size, 'correction')} marked</span>
      ${forgettable && html`<button type="button" class="danger" onClick=${() => setForgetting([...marked.values()])}>Forget…</button>`}
      <button type="button" class="quiet" onClick=${() => setMarked(new Map())}>Unmark</button>`
    }</div>
    <${Fault} error=${list.error} />
    ${
      list.items.length > 0 &&
      html`<${Table} label="Corrections, newest first" rows=${list.items} marked=${marked} onMark=${forgettable ? mark : undefined}
      onOpen=${(row) => go('corrections', row.id)} columns=${[
        {
          name: 'Situation',
          class: 'wide',
          show: (row) => html`<span class="situation">${row.input ?? html`<em class="soft">erased</em>`}</span>`,
        },
        {
          name: 'Right answer',
          class: 'wide',
          show: (row) =>
            html`<span class="right">${row.right ?? html`<em class="soft">erased</em>`}</span>${row.wrong && html` <del class="small">${row.wrong}</del>`}`,
        },
        { name: 'Status', show: (row) => html`<${Chip} name=${row.status} />` },
        { name: 'Taught', class: 'when', show: (row) => html`<${Time} at=${row.created_at} />` },
        { name: 'Seq', class: 'num', show: (row) => number(row.seq) },
      ]} />`
    }
    ${
      !list.busy &&
      !list.error &&
      !list.items.length &&
      html`<${Empty}>${
        filtered
          ? `None of the ${number(list.looked)} corrections looked at fits.`
          : html`Nothing was taught yet. Press <kbd>t</kbd> to teach the first correction.`
      }<//>`
    }
    <p class="soft small" role="status">${list.busy ? 'Loading…' : filtered && `Looked at ${plural(list.looked, 'correction')}${list.cursor ? '; there are older ones' : ''}.`}</p>
    <${More} list=${list} what="corrections" />
    ${id && html`<${Detail} key=${id} id=${id} onClose=${() => go('corrections')} onForget=${forgettable && ((one) => setForgetting([one]))} />`}
    ${
      forgetting &&
      html`<${Forget} corrections=${forgetting} onClose=${() => {
        setForgetting(null);
        setMarked(new Map());
      }} />`
    }`;
}

function Detail({ id, onClose, onForget }) {
  const { bank, go, ask } = useFrame();
  const one = useLoad(() => api.correction(bank, id), [bank, id]);
  const { data } = one;
  const gone = data && data.input == null;
  return html`<${Dialog} title="Correction" kind="drawer" onClose=${onClose}>
    <${Fault} error=${one.error} />
    ${
      data &&
      html`
      <p class="situation large">${data.input ?? 'Its text was erased.'}</p>
      ${!gone && html`<p class="verdict">${data.wrong && html`<del>${data.wrong}</del>`}<ins>${data.right}</ins></p>`}
      <dl class="pairs">
        <dt>Status</dt><dd><${Chip} name=${data.status} /></dd>
        <dt>Taught</dt><dd><${Time} at=${data.created_at} />, ${new Date(data.created_at).toLocaleString()}</dd>
        <dt>Place in the ledger</dt><dd>${number(data.seq)}</dd>
        <dt>Id</dt><dd><${Code} value=${data.id} keep=${40} /></dd>
        ${data.session_id && html`<dt>Session</dt><dd><${Code} value=${data.session_id} keep=${40} /></dd>`}
        ${Object.keys(data.metadata).length > 0 && html`<dt>Metadata</dt><dd><pre>${JSON.stringify(data.metadata, null, 1)}</pre></dd>`}
      </dl>
      ${
        !gone &&
        html`<${Now} one=${data} onSupport=${(other) => go('corrections', other)} /><${Trace} one=${data} />
        <div class="actions"><button type="button" onClick=${() => ask(data.input)}>Ask this</button>
          ${onForget && data.status !== 'forgotten' && html`<button type="button" class="danger" onClick=${() => onForget(data)}>Forget…</button>`}</div>`
      }`
    }
  <//>`;
}

function Now({ one, onSupport }) {
  const { bank } = useFrame();
  const said = useLoad(() => api.recall(bank, one.input), [bank, one.input]);
  return html`<section><h3>What the memory says now</h3><${Fault} error=${said.error} />${said.data && html`<${Answers} reply=${said.data} onSupport=${onSupport} />`}</section>`;
}

/** How strongly each version gives this correction's answer to its own situation. */
function Trace({ one }) {
  const { bank } = useFrame();
  const trace = useLoad(() => api.trace(bank, one), [bank, one.id]);
  return html`<section><h3>Strength by version</h3><${Fault} error=${trace.error} />
    ${
      trace.data &&
      html`<ul class="trace">${trace.data.map(
        (version) => html`<li key=${version.id}>
      <span>${version.label || version.kind?.replace('_', ' ')}</span><${Bar} share=${version.confidence} tone=${version.first ? '' : 'dim'} label=${`Strength in ${version.label || version.id}`} />
      <span class="small soft">${version.created_at ? html`<${Time} at=${version.created_at} />` : ''}</span></li>`,
      )}</ul>
      <p class="soft small">Confidence of this answer when each version is asked this situation; pale where another answer, or silence, comes first.</p>`
    }</section>`;
}

/** Teach one correction; the receipt shows what the memory said before and says now. */
export function Teach({ given = {}, onClose }) {
  const { bank, changed } = useFrame();
  const [taught, setTaught] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const form = useRef();
  const submit = async (event) => {
    event.preventDefault();
    const said = Object.fromEntries([...new FormData(form.current)].filter(([, value]) => value.trim()));
    setBusy(true);
    setError(null);
    try {
      setTaught(await api.teach(bank, said));
      changed();
    } catch (problem) {
      setError(problem);
    }
    setBusy(false);
  };
  return html`<${Dialog} title=${taught ? 'Taught' : 'Teach'} onClose=${onClose}>
    ${
      taught
        ? html`<${Receipt} taught=${taught} /><div class="actions"><button type="button" onClick=${() => setTaught(null)}>Teach another</button>
      <button type="button" class="main" autofocus onClick=${onClose}>Done</button></div>`
        : html`<form ref=${form} onSubmit=${submit}>
      <${Field} label="In this situation">${(id) => html`<textarea id=${id} name="input" rows="2" required autofocus maxlength="20000" value=${given.input}></textarea>`}<//>
      <${Field} label="the right answer is">${(id) => html`<textarea id=${id} name="right" rows="2" required maxlength="20000"></textarea>`}<//>
      <${Field} label="and not (optional)" hint="What the agent said, if it said something wrong. It is kept beside the correction.">${(
        id,
      ) => html`
        <textarea id=${id} name="wrong" rows="1" maxlength="20000" value=${given.wrong}></textarea>`}<//>
      <${Fault} error=${error} />
      <div class="actions"><button class="main" disabled=${busy}>${busy ? 'Teaching…' : 'Teach'}</button></div></form>`
    }
  <//>`;
}

export function Receipt({ taught }) {
  const { before, after } = taught.receipt.item;
  return html`<div class="receipt" role="status">
    <div><p class="soft small">Before</p><p class="said"><del>${before.value ?? 'silence'}</del></p><${Bar} share=${before.confidence} tone="dim" label="Confidence before" /></div>
    <div><p class="soft small">Now</p><p class="said"><ins>${after.value ?? 'silence'}</ins></p><${Bar} share=${after.confidence} label="Confidence now" /></div>
  </div>`;
}
