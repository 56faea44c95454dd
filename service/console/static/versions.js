// The versions of a bank on a line of time: save one, compare two, go back to one after a preview.
import * as api from './api.js';
import { html, useState } from './h.js';
import {
  Chip,
  Code,
  Confirm,
  Dialog,
  Empty,
  Fault,
  Field,
  Flips,
  More,
  number,
  plural,
  Time,
  useFrame,
  useList,
  useLoad,
  words,
} from './ui.js';

/** What people call a snapshot. */
export const named = (snapshot) => (snapshot ? snapshot.label || `${words(snapshot.kind)} at ${number(snapshot.seq)}` : 'unknown');

export function Versions() {
  const { bank, can } = useFrame();
  const list = useList((cursor) => api.snapshots(bank, { cursor }), [bank]);
  const [open, setOpen] = useState(null); // {what: 'take' | 'compare' | 'back', …}
  const close = () => setOpen(null);
  return html`
    <div class="head"><h1>Versions</h1>${
      can('snapshots:write') &&
      html`
      <button type="button" class="main" onClick=${() => setOpen({ what: 'take' })}>Take a snapshot</button>`
    }</div>
    <${Fault} error=${list.error} />
    <ol class="line">${list.items.map(
      (one) => html`<li key=${one.id} class=${one.is_head ? 'head-of' : ''}>
      <article aria-label=${named(one)}>
        <header><h2>${named(one)}</h2>
          ${one.is_head && html`<${Chip} name="head" tone="good" />`}<${Chip} name=${one.kind} />${one.pinned && html`<${Chip} name="pinned" />`}
          ${one.tainted_by.length > 0 && html`<${Chip} name=${`holds ${plural(one.tainted_by.length, 'forgotten correction')}`} tone="bad" />`}
          <${Time} at=${one.created_at} /></header>
        ${one.note && html`<p>${one.note}</p>`}
        <p class="facts small"><span>${plural(one.corrections, 'correction')} in its weights</span><span>ledger up to ${number(one.seq)}</span>
          <span>digest <${Code} value=${one.digest} keep=${10} /></span><span><${Code} value=${one.id} /></span></p>
        <div class="actions start">
          ${can('recall:read') && can('memory:inspect') && !one.tainted_by.length && html`<button type="button" onClick=${() => setOpen({ what: 'compare', a: one.id })}>Compare…</button>`}
          ${can('rollback') && !one.tainted_by.length && html`<button type="button" onClick=${() => setOpen({ what: 'back', to: one })}>Roll back…</button>`}
        </div>
      </article></li>`,
    )}</ol>
    ${!list.busy && !list.error && !list.items.length && html`<${Empty}>No version was saved yet.<//>`}
    <${More} list=${list} what="versions" />
    ${open?.what === 'take' && html`<${Take} onClose=${close} />`}
    ${open?.what === 'compare' && html`<${Compare} first=${open.a} versions=${list.items} onClose=${close} />`}
    ${open?.what === 'back' && html`<${RollBack} to=${open.to} onClose=${close} />`}`;
}

function Take({ onClose }) {
  const { bank, changed, say } = useFrame();
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const given = { pin: form.has('pin') };
    for (const name of ['label', 'note']) if (form.get(name).trim()) given[name] = form.get(name).trim();
    setBusy(true);
    try {
      const taken = await api.takeSnapshot(bank, given);
      say(`Saved: ${named(taken)}`);
      changed();
      onClose();
    } catch (problem) {
      setError(problem);
      setBusy(false);
    }
  };
  return html`<${Dialog} title="Take a snapshot" onClose=${onClose}><form onSubmit=${submit}>
    <p>The bank as it is now is kept, and can be asked, compared and returned to.</p>
    <${Field} label="Label">${(id) => html`<input id=${id} name="label" maxlength="128" autofocus autocomplete="off" />`}<//>
    <${Field} label="Note">${(id) => html`<textarea id=${id} name="note" rows="2" maxlength="1000"></textarea>`}<//>
    <label class="check"><input type="checkbox" name="pin" /> Pin it: no cleaning up removes it</label>
    <${Fault} error=${error} /><div class="actions"><button class="main" disabled=${busy}>${busy ? 'Saving…' : 'Take a snapshot'}</button></div>
  </form><//>`;
}

function Compare({ first, versions, onClose }) {
  const { bank } = useFrame();
  const [a, setA] = useState(first);
  const [b, setB] = useState('head');
  const found = useLoad(() => api.diff(bank, a, b), [bank, a, b]);
  const of = (id) => versions.find((one) => (id === 'head' ? one.is_head : one.id === id));
  const name = (id) => (id === 'head' ? 'now' : named(of(id)));
  const choice = (label, value, set) =>
    html`<${Field} label=${label}>${(id) => html`<select id=${id} value=${value} onChange=${(event) => set(event.target.value)}>
    <option value="head">now</option>${versions.map((one) => html`<option value=${one.id} disabled=${one.tainted_by.length > 0}>${named(one)}</option>`)}</select>`}<//>`;
  return html`<${Dialog} title="Compare versions" kind="large" onClose=${onClose}>
    <div class="bench">${choice('From', a, setA)}${choice('to', b, setB)}</div>
    <${Fault} error=${found.error} />
    <div role="status" aria-busy=${found.busy}>${
      found.busy
        ? html`<p class="soft">Asking both versions…</p>`
        : found.data &&
          html`
      <p><strong>${plural(found.data.flips.length, 'answer differs', 'answers differ')}</strong> of ${plural(found.data.probes, 'situation')} asked (the newest of the ledger).</p>`
    }</div>
    ${!found.busy && found.data?.flips.length > 0 && html`<${Flips} flips=${found.data.flips} before=${name(a)} after=${name(b)} />`}
  <//>`;
}

/** Preview, then the bank's name, then back; and the way back from there. */
function RollBack({ to, onClose }) {
  const { bank, changed, say } = useFrame();
  const preview = useLoad(async () => {
    const [found, dry] = await Promise.all([api.bank(bank), api.rollBack(bank, to.id, { dryRun: true })]);
    return { ...found, ...dry };
  }, [to.id]);
  const [reason, setReason] = useState('');
  const [done, setDone] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const move = async (target, etag) => {
    setBusy(true);
    setError(null);
    try {
      const moved = await api.rollBack(bank, target, { etag, reason });
      changed();
      setBusy(false);
      return moved;
    } catch (problem) {
      setError(problem);
      setBusy(false);
      return null;
    }
  };
  const { data } = preview;
  if (done) {
    const undo = async () => {
      if (await move(done.pre_rollback)) {
        say('The rollback is undone.');
        onClose();
      }
    };
    return html`<${Dialog} title="Rolled back" kind="large" onClose=${onClose}>
      <p role="status">The bank answers as at <strong>${named(to)}</strong> again, in every process. ${plural(done.flips.length, 'answer')} changed.</p>
      <p class="soft">What it answered before is saved as <${Code} value=${done.pre_rollback} keep=${40} />: that undoes this, bit for bit.</p>
      <${Fault} error=${error} />
      <div class="actions"><button type="button" onClick=${undo} disabled=${busy}>Undo</button><button type="button" class="main" autofocus onClick=${onClose}>Done</button></div><//>`;
  }
  return html`<${Dialog} title=${`Roll back to ${named(to)}`} kind="large" onClose=${onClose}>
    <${Fault} error=${preview.error} />
    ${!data && !preview.error && html`<p class="soft" role="status">Asking which answers would change…</p>`}
    ${
      data &&
      !preview.error &&
      html`
      <p role="status">${
        data.flips.length
          ? html`<strong>${plural(data.flips.length, 'answer')} would change</strong> of ${plural(data.probes, 'correction')} asked.`
          : html`<strong>No answer would change</strong> of ${plural(data.probes, 'correction')} asked.`
      }
        What was taught since stays in the ledger and stops speaking. The present state is saved first.</p>
      ${data.flips.length > 0 && html`<${Flips} flips=${data.flips} before="Now" after="Then" />`}
      <${Field} label="Reason (optional)" hint="Kept in the audit.">${(id) => html`<input id=${id} maxlength="1000" value=${reason} onInput=${(event) => setReason(event.target.value)} />`}<//>
      <${Fault} error=${error} />
      <${Confirm} word=${data.name} action="Roll back" busy=${busy} onConfirm=${async () => setDone(await move(to.id, data.etag))}>
        <button type="button" class="quiet" onClick=${onClose}>Cancel</button><//>`
    }
  <//>`;
}
