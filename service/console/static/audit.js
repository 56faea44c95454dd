// Who changed what, newest first, and whether the chain of entries holds. Ids and numbers only: no text that was taught is in the audit.
import * as api from './api.js';
import { Certificate } from './forgetting/certificate.js';
import { html, useState } from './h.js';
import { Dialog } from './parts/dialog.js';
import { useList, useLoad } from './parts/frame.js';
import { Chip, Empty, Fault, Pairs } from './parts/marks.js';
import { More, Table } from './parts/table.js';
import { Code, number, plural, Time, words } from './parts/words.js';

const whole = (value) => html`<${Code} value=${value} keep=${40} />`;
const title = (action) => words(action).replace('.', ': ');

export function Audit() {
  const list = useList((cursor) => api.audit({ cursor }), []);
  const [shown, setShown] = useState(null);
  const [certificate, setCertificate] = useState(null); // id of a forgetting
  return html`
    <div class="head"><h1>Audit</h1></div>
    <${Chain} />
    <${Fault} error=${list.error} />
    ${list.items.length > 0 && html`<${Table} label="Audit, newest first" rows=${list.items} onOpen=${setShown} columns=${[
    { name: 'No.', class: 'num', show: (row) => number(row.seq) },
    { name: 'When', class: 'when', show: (row) => html`<${Time} at=${row.created_at} />` },
    { name: 'Action', class: 'wide', show: (row) => title(row.action) },
    { name: 'Of', show: (row) => html`<${Code} value=${row.target} />` },
    { name: 'By key', show: (row) => html`<${Code} value=${row.actor} />` },
    { name: 'Request', show: (row) => html`<${Code} value=${row.request_id} />` },
  ]} />`}
    ${!list.busy && !list.error && !list.items.length && html`<${Empty}>Nothing was changed yet.<//>`}
    <${More} list=${list} what="entries" />
    ${shown && html`<${Dialog} title=${title(shown.action)} kind="drawer" onClose=${() => setShown(null)}>
      <${Pairs} of=${[
    ['When', new Date(shown.created_at).toLocaleString()],
    ['Of', whole(shown.target)],
    ['By key', whole(shown.actor)],
    ['Request', whole(shown.request_id)],
    ['Entry', whole(shown.id)],
    ['Number', number(shown.seq)],
    ['Hash', html`<${Code} value=${shown.hash} keep=${24} />`],
    ['Before it', shown.prev_hash && html`<${Code} value=${shown.prev_hash} keep=${24} />`],
    ['Detail', html`<pre>${JSON.stringify(shown.detail, null, 1)}</pre>`],
  ]} />
      ${shown.detail.forget && html`<div class="actions">
        <button type="button" onClick=${() => setCertificate(shown.detail.forget)}>Show the certificate</button></div>`}<//>`}
    ${certificate && html`<${Certificate} id=${certificate} onClose=${() => setCertificate(null)} />`}`;
}

/** Every entry is read and its hash made again. */
function Chain() {
  const { data: found, busy, error, reload } = useLoad(api.verifyAudit, []);
  return html`<div class="chain">
    <span role="status">${found ? html`<${Verdict} found=${found} />` : busy && 'Reading every entry…'}</span>
    <button type="button" class="quiet" onClick=${reload} disabled=${busy}>Verify again</button>
  </div>
  <${Fault} error=${error} />`;
}

const Verdict = ({ found }) => (found.ok
  ? html`<${Chip} name="chain holds" tone="good" /> ${plural(found.entries, 'entry', 'entries')}, each with the hash of the one before it, up to
    ${' '}<${Code} value=${found.hash} keep=${16} />`
  : html`<${Chip} name="chain broken" tone="bad" /> <strong>Entry ${number(found.broken.seq)}
    ${found.broken.why === 'missing' ? ' is missing' : ' was changed'}.</strong> Those before it hold.
    ${' '}<${Code} value=${found.broken.id} keep=${40} />`);
