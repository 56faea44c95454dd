// Out of the memory, from the gentlest way on: hold a source while somebody looks, forget it, forget single corrections.
import * as api from '../api.js';
import { html, useState } from '../h.js';
import { Dialog } from '../parts/dialog.js';
import { useDeed, useFrame, useList } from '../parts/frame.js';
import { Chip, Empty, Fault } from '../parts/marks.js';
import { More, Table } from '../parts/table.js';
import { Code, number, Time } from '../parts/words.js';
import { Forget } from './forget.js';
import { Hold } from './hold.js';
import { called, NO_SOURCE, SourceFields } from './source.js';

export function Forgetting() {
  const { can, go } = useFrame();
  const [open, setOpen] = useState({}); // {hold}, {choose} a source, or {forget: source}
  const close = () => setOpen({});
  return html`
    <div class="head"><h1>Forget</h1></div>
    <div class="ways">
      <section><h2>Not sure yet?</h2>
        <p>Hold a session or a key: nothing is answered with what it taught, and it teaches this bank nothing. Lifted, it is as if it had never
          been held.</p>
        <p><button type="button" class="main" onClick=${() => setOpen({ hold: true })}>Hold a source</button></p></section>
      <section><h2>A source was wrong</h2>
        <p>Forget everything from it: you see first which answers would change, and get a certificate of what was removed.</p>
        <p><button type="button" class="danger" onClick=${() => setOpen({ choose: true })}>Forget a source…</button></p></section>
      <section><h2>Single corrections</h2>
        <p>Find them in the list, mark them with <kbd>x</kbd>, and press Forget there.</p>
        <p><button type="button" onClick=${() => go('corrections')}>Find them</button></p></section>
    </div>
    <${Quarantines} onForget=${(forget) => setOpen({ forget })} />
    ${can('admin') && html`<p class="soft small">Certificates of what was forgotten before stand in the audit.</p>`}
    ${open.hold && html`<${Hold} onClose=${close} />`}
    ${open.choose && html`<${ChooseSource} onChosen=${(forget) => setOpen({ forget })} onClose=${close} />`}
    ${open.forget && html`<${Forget} what=${open.forget.corrections ? open.forget : { source: open.forget }}
      named=${open.forget.corrections ? called(open.forget) : `all from ${called(open.forget)}`} onClose=${close} />`}`;
}

function Quarantines({ onForget }) {
  const { bank, changed, say } = useFrame();
  const list = useList((cursor) => api.quarantines(bank, { cursor }), [bank]);
  const lifting = useDeed();
  const lift = async (row) => {
    if (!(await lifting.run(() => api.lift(row.id)))) return;
    say('Lifted: what was held answers again.');
    changed();
  };
  return html`<section aria-labelledby="held"><h2 id="held">Quarantine</h2>
    <${Fault} error=${list.error || lifting.error} />
    ${list.items.length > 0 && html`<${Table} label="Quarantines, oldest first" rows=${list.items} columns=${[
    { name: 'What', class: 'wide', show: (row) => called(row.source) },
    { name: 'Corrections', class: 'num', show: (row) => number(row.corrections) },
    { name: 'Reason', class: 'wide', show: (row) => row.reason },
    { name: 'State', show: (row) => (row.lifted_at ? html`<${Chip} name="lifted" />` : html`<${Chip} name="held" tone="busy" />`) },
    { name: 'Set', class: 'when', show: (row) => html`<${Time} at=${row.created_at} />` },
    { name: 'By key', show: (row) => html`<${Code} value=${row.created_by} />` },
    { name: '', show: (row) => !row.lifted_at && html`<span class="actions">
      <button type="button" aria-label=${`Lift ${called(row.source)}`} disabled=${lifting.busy} onClick=${() => lift(row)}>Lift</button>
      <button type="button" class="danger" aria-label=${`Forget ${called(row.source)}`} onClick=${() => onForget(row.source)}>
        Forget…</button></span>` },
  ]} />`}
    ${!list.busy && !list.error && !list.items.length && html`<${Empty}>Nothing is held.<//>`}
    <${More} list=${list} what="quarantines" />
  </section>`;
}

function ChooseSource({ onChosen, onClose }) {
  const [source, setSource] = useState(NO_SOURCE);
  const submit = (event) => {
    event.preventDefault();
    onChosen(source);
  };
  return html`<${Dialog} title="Forget a source" onClose=${onClose}><form onSubmit=${submit}>
    <${SourceFields} value=${source} onChange=${setSource} />
    <div class="actions">
      <button type="button" class="quiet" onClick=${onClose}>Cancel</button>
      <button class="main">Show what that means</button>
    </div></form><//>`;
}
