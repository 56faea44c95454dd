// Probe sets of a bank: questions with known answers, kept to be asked of any version.
import * as api from '../api.js';
import { html, useState } from '../h.js';
import { useFrame, useList } from '../parts/frame.js';
import { Busy, Empty, Fault } from '../parts/marks.js';
import { More, Table } from '../parts/table.js';
import { plural, Time } from '../parts/words.js';
import { ProbeForm } from './probe_form.js';
import { ProbeSet } from './probe_set.js';

export const Probes = ({ id }) => (id ? html`<${ProbeSet} key=${id} id=${id} />` : html`<${Sets} />`);

function Sets() {
  const { bank, can, go } = useFrame();
  const list = useList((cursor) => api.probeSets(bank, { cursor }), [bank]);
  const [making, setMaking] = useState(false);
  const button = can('snapshots:write') && html`<button type="button" class="main" onClick=${() => setMaking(true)}>New probe set…</button>`;
  return html`
    <div class="head"><h1>Probes</h1>${list.items.length > 0 && button}</div>
    <${Fault} error=${list.error} />
    ${list.items.length > 0 && html`<${Table} label="Probe sets" rows=${list.items} onOpen=${(row) => go('probes', row.id)} columns=${[
    { name: 'Name', class: 'wide', show: (row) => html`
      <button type="button" class="link prose" tabindex="-1" onClick=${() => go('probes', row.id)}>${row.name}</button>` },
    { name: 'Questions', class: 'num', show: (row) => plural(row.size, 'question') },
    { name: 'Made', class: 'when', show: (row) => html`<${Time} at=${row.created_at} />` },
  ]} />`}
    ${list.busy && !list.items.length && html`<${Busy}>Loading…<//>`}
    ${!list.busy && !list.error && !list.items.length && html`<${Empty}>
      <p>A probe set is a list of questions with the answers that you expect. Asked of several versions, it shows at a glance where an answer was
        gained or lost: after a rollback, a bulk of corrections, a consolidation.</p>
      ${button && html`<p>${button}</p>`}<//>`}
    <${More} list=${list} what="probe sets" />
    ${making && html`<${ProbeForm} onClose=${() => setMaking(false)} onSaved=${(made) => go('probes', made.id)} />`}`;
}
