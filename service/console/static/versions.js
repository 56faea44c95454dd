// The versions of a bank on a line of time: save one, compare two, go back to one after a preview.
import * as api from './api.js';
import { html, useState } from './h.js';
import {
  Chip, Code, Confirm, Dialog, Empty, Fault, Field, Flips, Line, More, number, plural, Sheet, Time, useDeed, useFrame, useList, useLoad, words,
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
  const [open, setOpen] = useState({}); // {take}, or a snapshot: {change}, {compare} or {back}
  const close = () => setOpen({});
  return html`
    <div class="head"><h1>Versions</h1>
      ${can('snapshots:write') && html`<button type="button" class="main" onClick=${() => setOpen({ take: true })}>Take a snapshot</button>`}</div>
    <${Fault} error=${list.error} />
    <ol class="line">${list.items.map((one) => html`<${Version} key=${one.id} one=${one}
      onCompare=${can('memory:inspect') && (() => setOpen({ compare: one }))}
      onChange=${can('snapshots:write') && (() => setOpen({ change: one }))}
      onBack=${can('rollback') && (() => setOpen({ back: one }))} />`)}</ol>
    ${!list.busy && !list.error && !list.items.length && html`<${Empty}>No version was saved yet.<//>`}
    <${More} list=${list} what="versions" />
    ${open.take && html`<${Take} onClose=${close} />`}
    ${open.change && html`<${Change} one=${open.change} onClose=${close} />`}
    ${open.compare && html`<${Compare} first=${open.compare.id} versions=${list.items} onClose=${close} />`}
    ${open.back && html`<${RollBack} to=${open.back} onClose=${close} />`}`;
}

function Version({ one, onCompare, onChange, onBack }) {
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
    <div class="actions start">
      ${!tainted && onCompare && html`<button type="button" onClick=${onCompare}>Compare…</button>`}
      ${!tainted && onBack && html`<button type="button" onClick=${onBack}>Roll back…</button>`}
      ${onChange && html`<button type="button" onClick=${onChange}>Label or pin…</button>`}
    </div>
  </article></li>`;
}

function Take({ onClose }) {
  const { bank } = useFrame();
  return html`<${Labels} title="Take a snapshot" action="Take a snapshot" onClose=${onClose} onSubmit=${(said) => api.takeSnapshot(bank, {
    label: said.label || undefined, note: said.note || undefined, pin: said.pinned })}>
    <p>The bank as it is now is kept, and can be asked, compared and returned to.</p><//>`;
}

function Change({ one, onClose }) {
  const { bank } = useFrame();
  return html`<${Labels} title=${`Label or pin ${named(one)}`} action="Save" given=${one} onClose=${onClose}
    onSubmit=${(said) => api.changeSnapshot(bank, one.id, said)} />`;
}

/** What people say about a snapshot: {label, note, pinned}, null for what is empty. */
function Labels({ title, action, given = {}, onSubmit, onClose, children }) {
  const { changed, say } = useFrame();
  const saving = useDeed();
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const said = { label: form.get('label').trim() || null, note: form.get('note').trim() || null, pinned: form.has('pinned') };
    const saved = await saving.run(() => onSubmit(said));
    if (!saved) return;
    say(`Saved: ${named(saved)}`);
    changed();
    onClose();
  };
  return html`<${Dialog} title=${title} onClose=${onClose}><form onSubmit=${submit}>
    ${children}
    <${Line} label="Label" name="label" maxlength="128" autofocus value=${given.label} />
    <${Line} label="Note" name="note" rows="2" maxlength="1000" value=${given.note} />
    <label class="check"><input type="checkbox" name="pinned" checked=${given.pinned} /> Pin it: nobody can delete it before it is unpinned</label>
    <p class="hint">What has a label or is pinned is never cleaned up.</p>
    <${Fault} error=${saving.error} />
    <div class="actions"><button class="main" disabled=${saving.busy}>${saving.busy ? 'Saving…' : action}</button></div>
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
      <strong>${plural(data.flips.length, 'answer differs', 'answers differ')}</strong> of ${plural(data.probes, 'correction')} asked;
      ${' '}${plural(data.gained_total, 'correction')} came and ${number(data.lost_total)} went.`}</p>
    ${!busy && data && html`
      ${data.flips.length > 0 && html`<section><h3>Answers</h3>
        <${Flips} flips=${data.flips} before=${name(from)} after=${name(to)} /></section>`}
      <${Moved} title="Came" rows=${data.gained} total=${data.gained_total} />
      <${Moved} title="Went" rows=${data.lost} total=${data.lost_total} />
      <section><h3>Levels</h3><${Sheet} names=${['Level', 'Norm before', 'Norm after', 'Difference']} rows=${data.levels.map((level) => [
    words(level.name), number(level.before_norm, 3), number(level.after_norm, 3), number(level.drift, 3)])} /></section>`}
  <//>`;
}

const MOVED = 10; // corrections that are shown

const Moved = ({ title, rows, total }) => rows.length > 0 && html`<section><h3>${title}</h3>
  <${Sheet} names=${['No.', 'Situation', 'Right answer']} rows=${rows.slice(0, MOVED).map((one) => [
  number(one.seq), one.input ?? 'not shown any more', one.right ?? ''])} />
  ${total > MOVED && html`<p class="soft small">and ${plural(total - MOVED, 'more correction')}</p>`}</section>`;

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
        ${' '}${plural(data.probes, 'correction')} asked. ${plural(data.removed, 'correction')} would leave the weights and ${number(data.restored)}
        ${' '}come back; all stay in the ledger. The present state is saved first.</p>
      ${data.flips.length > 0 && html`<${Flips} flips=${data.flips} before="Now" after="Then" />`}
      <${Line} label="Reason (optional)" hint="Kept in the audit." maxlength="1000"
        value=${reason} onInput=${(event) => setReason(event.target.value)} />
      <${Fault} error=${moving.error} />
      <${Confirm} word=${data.name} action="Roll back" busy=${moving.busy} onCancel=${onClose}
        onConfirm=${async () => setDone(await move(to.id, data.etag))} />`}
  <//>`;
}
