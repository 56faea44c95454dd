// The versions of a bank on a line of time: save one, compare two, go back to one after a preview.
import * as api from './api.js';
import { html, useState } from './h.js';
import {
  Chip, Code, Confirm, Dialog, Empty, Fault, Field, Flips, Line, More, number, plural, Time, useDeed, useFrame, useList, useLoad, words,
} from './ui.js';

/** What people call a snapshot. */
export const named = (snapshot) => (snapshot ? snapshot.label || `${words(snapshot.kind)} at ${number(snapshot.seq)}` : 'unknown');

/** A choice among the present and what was saved; what holds forgotten corrections cannot be chosen. */
export const VersionChoice = ({ label, value, versions, onChange, children }) => html`<${Field} label=${label}>${(id) => html`
  <select id=${id} value=${value} onChange=${(event) => onChange(event.target.value)}>
    <option value="head">now</option>
    ${versions.map((one) => html`<option value=${one.id} disabled=${one.tainted_by.length > 0}>${named(one)}</option>`)}
    ${children}
  </select>`}<//>`;

export function Versions() {
  const { bank, can } = useFrame();
  const list = useList((cursor) => api.snapshots(bank, { cursor }), [bank]);
  const [open, setOpen] = useState({}); // {take}, {compare: id} or {back: snapshot}
  const close = () => setOpen({});
  return html`
    <div class="head"><h1>Versions</h1>
      ${can('snapshots:write') && html`<button type="button" class="main" onClick=${() => setOpen({ take: true })}>Take a snapshot</button>`}</div>
    <${Fault} error=${list.error} />
    <ol class="line">${list.items.map((one) => html`<${Version} key=${one.id} one=${one}
      onCompare=${can('recall:read') && can('memory:inspect') && (() => setOpen({ compare: one.id }))}
      onBack=${can('rollback') && (() => setOpen({ back: one }))} />`)}</ol>
    ${!list.busy && !list.error && !list.items.length && html`<${Empty}>No version was saved yet.<//>`}
    <${More} list=${list} what="versions" />
    ${open.take && html`<${Take} onClose=${close} />`}
    ${open.compare && html`<${Compare} first=${open.compare} versions=${list.items} onClose=${close} />`}
    ${open.back && html`<${RollBack} to=${open.back} onClose=${close} />`}`;
}

function Version({ one, onCompare, onBack }) {
  const tainted = one.tainted_by.length;
  return html`<li class=${one.is_head ? 'head-of' : ''}><article aria-label=${named(one)}>
    <header>
      <h2>${named(one)}</h2>
      ${one.is_head && html`<${Chip} name="head" tone="good" />`}
      ${one.label && html`<${Chip} name=${one.kind} />`}
      ${one.pinned && html`<${Chip} name="pinned" />`}
      ${tainted > 0 && html`<${Chip} name=${`holds ${plural(tainted, 'forgotten correction')}`} tone="bad" />`}
      <${Time} at=${one.created_at} />
    </header>
    ${one.note && html`<p>${one.note}</p>`}
    <p class="facts small">
      <span>${plural(one.corrections, 'correction')} in its weights</span><span>ledger up to ${number(one.seq)}</span>
      <span>digest <${Code} value=${one.digest} keep=${10} /></span><span><${Code} value=${one.id} /></span>
    </p>
    ${!tainted && html`<div class="actions start">
      ${onCompare && html`<button type="button" onClick=${onCompare}>Compare…</button>`}
      ${onBack && html`<button type="button" onClick=${onBack}>Roll back…</button>`}
    </div>`}
  </article></li>`;
}

function Take({ onClose }) {
  const { bank, changed, say } = useFrame();
  const taking = useDeed();
  const submit = async (event) => {
    event.preventDefault();
    const { pin, ...said } = Object.fromEntries([...new FormData(event.target)].filter(([, value]) => value.trim()));
    const taken = await taking.run(() => api.takeSnapshot(bank, { ...said, pin: Boolean(pin) }));
    if (!taken) return;
    say(`Saved: ${named(taken)}`);
    changed();
    onClose();
  };
  return html`<${Dialog} title="Take a snapshot" onClose=${onClose}><form onSubmit=${submit}>
    <p>The bank as it is now is kept, and can be asked, compared and returned to.</p>
    <${Line} label="Label" name="label" maxlength="128" autofocus />
    <${Line} label="Note" name="note" rows="2" maxlength="1000" />
    <label class="check"><input type="checkbox" name="pin" /> Pin it: no cleaning up removes it</label>
    <${Fault} error=${taking.error} />
    <div class="actions"><button class="main" disabled=${taking.busy}>${taking.busy ? 'Saving…' : 'Take a snapshot'}</button></div>
  </form><//>`;
}

function Compare({ first, versions, onClose }) {
  const { bank } = useFrame();
  const [from, setFrom] = useState(first);
  const [to, setTo] = useState('head');
  const { data, busy, error } = useLoad(() => api.diff(bank, from, to), [bank, from, to]);
  const name = (id) => (id === 'head' ? 'Now' : named(versions.find((one) => one.id === id)));
  return html`<${Dialog} title="Compare versions" kind="large" onClose=${onClose}>
    <div class="bench">
      <${VersionChoice} label="From" value=${from} versions=${versions} onChange=${setFrom} />
      <${VersionChoice} label="to" value=${to} versions=${versions} onChange=${setTo} />
    </div>
    <${Fault} error=${error} />
    <p role="status" aria-busy=${busy}>${busy ? 'Asking both versions…' : data && html`
      <strong>${plural(data.flips.length, 'answer differs', 'answers differ')}</strong> of ${plural(data.probes, 'situation')} asked,
      the newest of the ledger.`}</p>
    ${!busy && data?.flips.length > 0 && html`<${Flips} flips=${data.flips} before=${name(from)} after=${name(to)} />`}
  <//>`;
}

/** Preview, then the bank's name, then back; and the way back from there. */
function RollBack({ to, onClose }) {
  const { bank, changed, say } = useFrame();
  const [reason, setReason] = useState('');
  const [done, setDone] = useState(null);
  const moving = useDeed();
  const preview = useLoad(async () => {
    const [found, told] = await Promise.all([api.bank(bank), api.rollBack(bank, to.id, { dryRun: true })]);
    return { ...found, ...told };
  }, [to.id]);
  const { data } = preview;
  const move = async (target, etag) => {
    const moved = await moving.run(() => api.rollBack(bank, target, { etag, reason }));
    if (moved) changed();
    return moved;
  };
  const undo = async () => {
    if (!(await move(done.pre_rollback))) return;
    say('The rollback is undone.');
    onClose();
  };
  if (done) {
    return html`<${Dialog} title="Rolled back" kind="large" onClose=${onClose}>
      <p role="status">The bank answers as at <strong>${named(to)}</strong> again, in every process.
        ${' '}${plural(done.flips.length, 'answer')} changed.</p>
      <p class="soft">What it answered before is saved as <${Code} value=${done.pre_rollback} keep=${40} />, which undoes this, bit for bit.</p>
      <${Fault} error=${moving.error} />
      <div class="actions">
        <button type="button" onClick=${undo} disabled=${moving.busy}>Undo</button>
        <button type="button" class="main" autofocus onClick=${onClose}>Done</button>
      </div><//>`;
  }
  return html`<${Dialog} title=${`Roll back to ${named(to)}`} kind="large" onClose=${onClose}>
    <${Fault} error=${preview.error} />
    ${!data && !preview.error && html`<p class="soft" role="status">Asking which answers would change…</p>`}
    ${data && html`
      <p role="status"><strong>${data.flips.length ? plural(data.flips.length, 'answer') : 'No answer'} would change</strong> of
        ${' '}${plural(data.probes, 'correction')} asked. What was taught since stays in the ledger and stops speaking. The present state is
        saved first.</p>
      ${data.flips.length > 0 && html`<${Flips} flips=${data.flips} before="Now" after="Then" />`}
      <${Line} label="Reason (optional)" hint="Kept in the audit." maxlength="1000"
        value=${reason} onInput=${(event) => setReason(event.target.value)} />
      <${Fault} error=${moving.error} />
      <${Confirm} word=${data.name} action="Roll back" busy=${moving.busy} onCancel=${onClose}
        onConfirm=${async () => setDone(await move(to.id, data.etag))} />`}
  <//>`;
}
