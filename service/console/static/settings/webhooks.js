// Webhooks: which addresses are told of changes, with a secret that is shown once.
import * as api from '../api.js';
import { html, useState } from '../h.js';
import { Dialog, Sure } from '../parts/dialog.js';
import { useDeed, useFrame, useList } from '../parts/frame.js';
import { Empty, Fault, Line } from '../parts/marks.js';
import { More, Table } from '../parts/table.js';
import { copy, Time } from '../parts/words.js';
import { Deliveries } from './deliveries.js';

const EVENTS = [ // what an address is told of, and when that is
  ['correction.created', 'a correction was taught'],
  ['snapshot.created', 'a version was saved'],
  ['consolidation.promoted', 'a consolidation became the head'],
  ['consolidation.gate_failed', 'a consolidation was refused: it would have lost something'],
  ['rollback.done', 'the bank was rolled back'],
  ['forget.completed', 'something was forgotten, also in the weights'],
];
const meant = (event) => EVENTS.find(([name]) => name === event)?.[1] || event;
const host = (one) => new URL(one.url).host;

export function Webhooks() {
  const list = useList((cursor) => api.webhooks({ cursor }), []);
  const [open, setOpen] = useState({}); // {make}, or a webhook: {deliveries} or {remove}
  const close = () => setOpen({});
  const button = html`<button type="button" class="main" onClick=${() => setOpen({ make: true })}>New webhook…</button>`;
  return html`
    <div class="head"><p class="soft">Other programs are told what happens in all banks: ids and states only, no text that was taught.</p>
      ${list.items.length > 0 && button}</div>
    <${Fault} error=${list.error} />
    ${list.items.length > 0 && html`<${Table} label="Webhooks" rows=${list.items} onOpen=${(row) => setOpen({ deliveries: row })} columns=${[
    { name: 'Address', class: 'wide', show: (row) => html`<span class="situation">${row.url}</span>` },
    { name: 'Is told when', class: 'wide', show: (row) => html`<span class="small">${row.events.map(meant).join('; ')}</span>` },
    { name: 'Made', class: 'when', show: (row) => html`<${Time} at=${row.created_at} />` },
    { name: '', show: (row) => html`<span class="actions">
      <button type="button" aria-label=${`Deliveries to ${host(row)}`} onClick=${() => setOpen({ deliveries: row })}>Deliveries</button>
      <button type="button" class="danger" aria-label=${`Delete ${host(row)}`} onClick=${() => setOpen({ remove: row })}>Delete…</button></span>` },
  ]} />`}
    ${!list.busy && !list.error && !list.items.length && html`<${Empty}>
      <p>Nobody is told yet. Give an https address, and it gets a signed message whenever something happens, again until it answers.</p>
      <p>${button}</p><//>`}
    <${More} list=${list} what="webhooks" />
    ${open.make && html`<${Make} onClose=${close} />`}
    ${open.deliveries && html`<${Deliveries} of=${open.deliveries} onClose=${close} />`}
    ${open.remove && html`<${Remove} one=${open.remove} onClose=${close} />`}`;
}

function Make({ onClose }) {
  const { changed, say } = useFrame();
  const [made, setMade] = useState(null);
  const making = useDeed();
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const reply = await making.run(async () => {
      if (!form.has('event')) throw new api.Problem({ code: 'nothing to tell', detail: 'Choose at least one thing that the address is told of.' });
      return api.addWebhook({ url: form.get('url').trim(), events: form.getAll('event') });
    });
    if (!reply) return;
    setMade(reply);
    changed();
  };
  if (made) {
    return html`<${Dialog} title="The webhook's secret" onClose=${onClose}>
      <p>It is shown this once. Whoever receives the messages checks with it that they come from here: their header
        <code>Palimpsest-Signature</code> is made with it. <a href="/docs">How to check it</a>.</p><pre class="secret">${made.secret}</pre>
      <div class="actions">
        <button type="button" onClick=${() => copy(made.secret, 'the secret', say)}>Copy</button>
        <button type="button" class="main" autofocus onClick=${onClose}>Done</button>
      </div><//>`;
  }
  return html`<${Dialog} title="New webhook" onClose=${onClose}><form onSubmit=${submit}>
    <${Line} label="Address" name="url" type="url" required maxlength="2048" autofocus placeholder="https://" spellcheck=${false}
      hint="It has to begin with https:// and to lead to a public address." />
    <fieldset><legend>It is told when</legend>${EVENTS.map(([name, meaning]) => html`
      <label class="check"><input type="checkbox" name="event" value=${name} /> <span>${meaning}</span></label>`)}</fieldset>
    <${Fault} error=${making.error} />
    <div class="actions"><button class="main" disabled=${making.busy}>${making.busy ? 'Looking it up…' : 'Make the webhook'}</button></div>
  </form><//>`;
}

function Remove({ one, onClose }) {
  const { changed, say } = useFrame();
  const removing = useDeed();
  const run = async () => {
    if (!(await removing.run(() => api.deleteWebhook(one.id)))) return;
    say(`${host(one)} is told nothing more.`);
    changed();
    onClose();
  };
  return html`<${Dialog} title=${`Delete ${host(one)}`} onClose=${onClose}>
    <p><strong class="situation">${one.url}</strong> is told nothing more, and what is known of its deliveries goes. A new webhook has
      another secret.</p>
    <${Fault} error=${removing.error} />
    <${Sure} action="Delete it" busy=${removing.busy} onConfirm=${run} onCancel=${onClose} /><//>`;
}
