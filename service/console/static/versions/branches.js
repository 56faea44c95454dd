// Branches: teach a copy, see what it would change, and bring that back, or drop it.
import * as api from '../api.js';
import { html, useState } from '../h.js';
import { Dialog } from '../parts/dialog.js';
import { useDeed, useFrame, useList } from '../parts/frame.js';
import { Busy, Empty, Fault, Line } from '../parts/marks.js';
import { More } from '../parts/table.js';
import { Code, plural, Time } from '../parts/words.js';
import { CompareBranch, DeleteBranch, Promote } from './branch.js';
import { useVersions, VersionChoice } from './choice.js';

export function Branches() {
  const { bank, can, me, open: openBank, openTeach } = useFrame();
  const list = useList((cursor) => api.branches(bank, { cursor }), [bank]);
  const [open, setOpen] = useState({}); // {make}, or a branch: {compare}, {promote} or {remove}
  const close = () => setOpen({});
  const owner = can('admin') && !me.banks;
  const button = owner && html`<button type="button" class="main" onClick=${() => setOpen({ make: true })}>New branch…</button>`;
  return html`
    <div class="head"><p class="soft">A branch begins with what this bank holds, and is taught and asked like any bank, while this one goes on
      answering as before.</p>${list.items.length > 0 && button}</div>
    <${Fault} error=${list.error} />
    <ul class="cards">${list.items.map((one) => html`<li key=${one.id}><article aria-label=${one.name}>
      <header><h2>${one.name}</h2><${Time} at=${one.created_at} /></header>
      <p class="facts small"><span>began with ${plural(one.corrections, 'correction')}</span><span><${Code} value=${one.id} /></span></p>
      <div class="actions start">
        ${can('corrections:write') && html`<button type="button" onClick=${() => openTeach({ bank: one.name })}>Teach it…</button>`}
        <button type="button" onClick=${() => openBank(one.name, 'overview')}>Open it</button>
        ${can('memory:inspect') && html`<button type="button" onClick=${() => setOpen({ compare: one })}>Compare…</button>`}
        ${can('admin') && html`<button type="button" onClick=${() => setOpen({ promote: one })}>Promote…</button>
          <button type="button" class="danger" onClick=${() => setOpen({ remove: one })}>Delete…</button>`}
      </div></article></li>`)}</ul>
    ${list.busy && !list.items.length && html`<${Busy}>Loading…<//>`}
    ${!list.busy && !list.error && !list.items.length && html`<${Empty}>
      <p>No branch yet. Make one to try lessons out: teach the branch, compare it with the bank, and promote it when you like what it says.</p>
      ${button && html`<p>${button}</p>`}<//>`}
    <${More} list=${list} what="branches" />
    ${open.make && html`<${Make} onClose=${close} />`}
    ${open.compare && html`<${CompareBranch} one=${open.compare} onClose=${close} />`}
    ${open.promote && html`<${Promote} one=${open.promote} onClose=${close} />`}
    ${open.remove && html`<${DeleteBranch} one=${open.remove} onClose=${close} />`}`;
}

function Make({ onClose }) {
  const { bank, changed, refresh, say } = useFrame();
  const { versions } = useVersions();
  const [from, setFrom] = useState('head');
  const making = useDeed();
  const submit = async (event) => {
    event.preventDefault();
    const name = new FormData(event.target).get('name').trim();
    const made = await making.run(() => api.fork(bank, name, from === 'head' ? undefined : from));
    if (!made) return;
    say(`${made.name} begins with ${plural(made.corrections, 'correction')}.`);
    await refresh();
    changed();
    onClose();
  };
  return html`<${Dialog} title=${`New branch of ${bank}`} onClose=${onClose}><form onSubmit=${submit}>
    <${Line} label="Name" name="name" required maxlength="128" autofocus spellcheck=${false} defaultValue=${`${bank}-try`}
      hint="It is a bank of this name; agents may be pointed at it." />
    <${VersionChoice} label="It begins with the bank as of" hint="What was forgotten, or is in quarantine, is not taken along." value=${from}
      versions=${versions || []} onChange=${setFrom} />
    <${Fault} error=${making.error} />
    <div class="actions"><button class="main" disabled=${making.busy}>${making.busy ? 'Copying…' : 'Make the branch'}</button></div>
  </form><//>`;
}
