// Who changed what, newest first. Ids and numbers only: no text that was taught is in the audit.
import * as api from './api.js';
import { html, useState } from './h.js';
import { Code, Dialog, Empty, Fault, More, Pairs, Table, Time, useList, words } from './ui.js';

const whole = (value) => html`<${Code} value=${value} keep=${40} />`;

export function Audit() {
  const list = useList((cursor) => api.audit({ cursor }), []);
  const [shown, setShown] = useState(null);
  return html`
    <div class="head"><h1>Audit</h1></div>
    <${Fault} error=${list.error} />
    ${list.items.length > 0 && html`<${Table} label="Audit, newest first" rows=${list.items} onOpen=${setShown} columns=${[
    { name: 'When', class: 'when', show: (row) => html`<${Time} at=${row.created_at} />` },
    { name: 'Action', class: 'wide', show: (row) => words(row.action).replace('.', ': ') },
    { name: 'Of', show: (row) => html`<${Code} value=${row.target} />` },
    { name: 'By key', show: (row) => html`<${Code} value=${row.actor} />` },
    { name: 'Request', show: (row) => html`<${Code} value=${row.request_id} />` },
  ]} />`}
    ${!list.busy && !list.error && !list.items.length && html`<${Empty}>Nothing was changed yet.<//>`}
    <${More} list=${list} what="entries" />
    ${shown && html`<${Dialog} title=${words(shown.action).replace('.', ': ')} kind="drawer" onClose=${() => setShown(null)}>
      <${Pairs} of=${[
    ['When', new Date(shown.created_at).toLocaleString()],
    ['Of', whole(shown.target)],
    ['By key', whole(shown.actor)],
    ['Request', whole(shown.request_id)],
    ['Entry', whole(shown.id)],
    ['Detail', html`<pre>${JSON.stringify(shown.detail, null, 1)}</pre>`],
  ]} /><//>`}`;
}
