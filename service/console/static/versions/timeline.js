// The versions of a bank on a line of time: save one, name it, compare two, go back to one.
import * as api from '../api.js';
import { html, useState } from '../h.js';
import { useFrame, useList } from '../parts/frame.js';
import { Chip, Empty, Fault } from '../parts/marks.js';
import { More } from '../parts/table.js';
import { number, plural, Time } from '../parts/words.js';
import { named } from './choice.js';
import { Compare } from './compare.js';
import { RollBack } from './rollback.js';
import { Change, Take } from './saving.js';
import { Version } from './version.js';

export function Timeline() {
  const { bank, can } = useFrame();
  const list = useList((cursor) => api.snapshots(bank, { cursor }), [bank]);
  const [open, setOpen] = useState({}); // {take} or {go}, or a snapshot: {show}, {change}, {compare} or {back}
  const close = () => setOpen({});
  return html`
    <div class="head">
      <p class="soft">Every version can be asked, compared with any other, and returned to.</p>
      <div class="actions">
        ${can('rollback') && html`<button type="button" onClick=${() => setOpen({ go: true })}>Go back…</button>`}
        ${can('snapshots:write') && html`<button type="button" class="main" onClick=${() => setOpen({ take: true })}>Take a snapshot</button>`}
      </div>
    </div>
    <${Fault} error=${list.error} />
    <ol class="line">${list.items.map((one) => html`<${Moment} key=${one.id} one=${one}
      onShow=${() => setOpen({ show: one })}
      onCompare=${can('memory:inspect') && (() => setOpen({ compare: one }))}
      onChange=${can('snapshots:write') && (() => setOpen({ change: one }))}
      onBack=${can('rollback') && (() => setOpen({ back: one }))} />`)}</ol>
    ${!list.busy && !list.error && !list.items.length && html`<${Empty}>No version was saved yet.<//>`}
    <${More} list=${list} what="versions" />
    ${open.take && html`<${Take} onClose=${close} />`}
    ${open.show && html`<${Version} one=${list.items.find((one) => one.id === open.show.id) || open.show} onClose=${close} />`}
    ${open.change && html`<${Change} one=${open.change} onClose=${close} />`}
    ${open.compare && html`<${Compare} first=${open.compare.id} versions=${list.items} onClose=${close} />`}
    ${(open.back || open.go) && html`<${RollBack} to=${open.back} onClose=${close} />`}`;
}

function Moment({ one, onShow, onCompare, onChange, onBack }) {
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
    <p class="facts small"><span>${plural(one.corrections, 'correction')} in its weights</span><span>ledger up to ${number(one.seq)}</span></p>
    <div class="actions start">
      ${!tainted && onCompare && html`<button type="button" onClick=${onCompare}>Compare…</button>`}
      ${!tainted && onBack && html`<button type="button" onClick=${onBack}>Roll back…</button>`}
      ${onChange && html`<button type="button" onClick=${onChange}>Label or pin…</button>`}
      <button type="button" class="quiet" onClick=${onShow}>Details</button>
    </div>
  </article></li>`;
}
