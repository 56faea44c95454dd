// Quarantine: what is held out of the memory until somebody lifts it.
import * as api from './api.js';
import { Forget } from './forget.js';
import { html, useState } from './h.js';
import { Chip, Code, Dialog, Empty, Fault, Field, Line, More, number, plural, Table, Time, useDeed, useFrame, useList, useLoad } from './ui.js';

/** A source as people call it. */
export function called(source) {
  if (source.session_id) return `session ${source.session_id}`;
  return source.key_id ? `key ${source.key_id}` : plural(source.corrections.length, 'correction');
}

export function Quarantine() {
  const { bank, changed, say } = useFrame();
  const list = useList((cursor) => api.quarantines(bank, { cursor }), [bank]);
  const [open, setOpen] = useState({}); // {hold} or {forget: source}
  const lifting = useDeed();
  const lift = async (row) => {
    if (!(await lifting.run(() => api.lift(row.id)))) return;
    say('Lifted: what was held answers again.');
    changed();
  };
  const close = () => setOpen({});
  return html`
    <div class="head"><h1>Quarantine</h1>
      <button type="button" class="main" onClick=${() => setOpen({ hold: true })}>Hold a source</button></div>
    <p class="soft">What is held is answered with nowhere, and a held session or key teaches this bank nothing. Lifted, it is as if it had never
      been held.</p>
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
      <button type="button" class="danger" aria-label=${`Forget ${called(row.source)}`} onClick=${() => setOpen({ forget: row.source })}>
        Forget…</button></span>` },
  ]} />`}
    ${!list.busy && !list.error && !list.items.length && html`<${Empty}>Nothing is held. When a source may have taught wrong things, hold it here
      while you look.<//>`}
    <${More} list=${list} what="quarantines" />
    ${open.hold && html`<${Hold} onClose=${close} />`}
    ${open.forget && html`<${Forget} what=${open.forget.corrections ? open.forget : { source: open.forget }}
      named=${open.forget.corrections ? called(open.forget) : `all from ${called(open.forget)}`} onClose=${close} />`}`;
}

/** Hold what was given, as for `Forget`, or a source that is asked for. */
export function Hold({ what, named, onClose }) {
  const { bank, can, me, changed, say } = useFrame();
  const [kind, setKind] = useState('session_id');
  const keys = useLoad(async () => (!what && can('admin') && !me.banks ? (await api.keys({ limit: 200 })).items : null), []);
  const holding = useDeed();
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const held = what || { source: { [kind]: form.get('source').trim() } };
    const reply = await holding.run(() => api.quarantine(bank, held, form.get('reason')));
    if (!reply) return;
    say(`${plural(reply.corrections, 'correction')} held.`);
    changed();
    onClose();
  };
  return html`<${Dialog} title=${named ? `Hold ${named}` : 'Hold a source'} onClose=${onClose}><form onSubmit=${submit}>
    <p>From this moment on nothing is answered with ${what ? 'what is held' : 'what it taught, and it teaches nothing'}, at any version, until
      ${' '}you lift it. The weights follow by a job.</p>
    ${!what && html`
      <${Field} label="All that was taught by">${(id) => html`
        <select id=${id} value=${kind} onChange=${(event) => setKind(event.target.value)} autofocus>
          <option value="session_id">a session</option><option value="key_id">a key</option></select>`}<//>
      ${kind === 'key_id' && keys.data ? html`<${Field} key="chosen" label="Key">${(id) => html`
        <select id=${id} name="source">${keys.data.map((one) => html`<option value=${one.id}>${one.name} (${one.prefix}…)</option>`)}</select>`}<//>`
    : html`<${Line} key="typed" label=${kind === 'key_id' ? 'Id of the key' : 'Name of the session'} name="source" required maxlength="128"
        spellcheck=${false} />`}`}
    <${Line} label="Reason (optional)" hint="Kept with the quarantine." name="reason" maxlength="1000" autofocus=${Boolean(what)} />
    <${Fault} error=${holding.error} />
    <div class="actions">
      <button type="button" class="quiet" onClick=${onClose}>Cancel</button>
      <button class="danger" disabled=${holding.busy}>${holding.busy ? 'Holding…' : 'Hold'}</button>
    </div>
  </form><//>`;
}
