// Jobs as they run.
import * as api from './api.js';
import { html, useRef, useState } from './h.js';
import { Dialog } from './parts/dialog.js';
import { useDeed, useEvery, useFrame, useList } from './parts/frame.js';
import { Empty, Fault, Pairs, Progress } from './parts/marks.js';
import { More, Table } from './parts/table.js';
import { Code, Time } from './parts/words.js';

const OPEN = ['queued', 'running'];
const CANCELLABLE = ['consolidation', 'export', 'bisection'];

export function Jobs() {
  const { bank, can, changed, go, say } = useFrame();
  const list = useList((cursor) => api.jobs(bank, { cursor }), [bank]);
  const [live, setLive] = useState(new Map()); // what was heard of open jobs since the list was loaded
  const [shown, setShown] = useState(null);
  const told = useRef(new Set());
  const acting = useDeed();
  const rows = list.items.map((one) => live.get(one.id) || one);
  const open = rows.filter((one) => OPEN.includes(one.status));
  useEvery(1000, open.length > 0, async () => {
    const heard = await Promise.all(open.map((one) => api.job(one.id).catch(() => one)));
    setLive((old) => new Map([...old, ...heard.map((one) => [one.id, one])]));
    for (const one of heard.filter((job) => !OPEN.includes(job.status) && !told.current.has(job.id))) {
      told.current.add(one.id);
      say(`The ${one.kind} has ${one.status}.`);
    }
  });
  const act = async (work, done) => {
    if (!(await acting.run(work))) return;
    say(done);
    changed();
  };
  const cancellable = (row) => can('admin') && row.status === 'queued' && CANCELLABLE.includes(row.kind);
  return html`
    <div class="head"><h1>Jobs</h1>${can('snapshots:write') && html`
      <button type="button" class="main" onClick=${() => act(() => api.consolidate(bank), 'A consolidation is queued.')}>Consolidate</button>`}</div>
    <${Fault} error=${list.error || acting.error} />
    ${rows.length > 0 && html`<${Table} label="Jobs, newest first" rows=${rows} onOpen=${(row) => setShown(row.id)} columns=${[
    { name: 'Kind', show: (row) => row.kind },
    { name: 'State', class: 'wide', show: (row) => html`<${Progress} job=${row} />` },
    { name: 'Queued', class: 'when', show: (row) => html`<${Time} at=${row.created_at} />` },
    { name: 'Ended', class: 'when', show: (row) => html`<${Time} at=${row.finished_at} />` },
    { name: 'Tries', class: 'num', show: (row) => row.attempts },
    { name: '', show: (row) => cancellable(row) && html`
      <button type="button" onClick=${() => act(() => api.cancelJob(row.id), 'The job is canceled.')}>Cancel</button>` },
  ]} />`}
    ${!list.busy && !list.error && !rows.length && html`
      <${Empty}>No job yet. What takes longer runs as a job: consolidations, what follows a forgetting, bundles, the search for a change.<//>`}
    <${More} list=${list} what="jobs" />
    ${shown && html`<${Detail} job=${rows.find((one) => one.id === shown)} go=${go} onClose=${() => setShown(null)} />`}`;
}

const SHOWN_AT = { bisection: (job) => ['find', job.id], export: () => ['bundles'] }; // where Versions shows what came of a kind

const Detail = ({ job, go, onClose }) => html`<${Dialog} title=${`Job: ${job.kind}`} kind="drawer" onClose=${onClose}>
  <${Progress} job=${job} />
  <${Pairs} of=${[
    ['Id', html`<${Code} value=${job.id} keep=${40} />`],
    ['Queued', new Date(job.created_at).toLocaleString()],
    ['Ended', job.finished_at && new Date(job.finished_at).toLocaleString()],
    ['Result', job.result && html`<pre>${JSON.stringify(job.result, null, 1)}</pre>`],
    ['Error', job.error && html`<pre>${JSON.stringify(job.error, null, 1)}</pre>`],
  ]} />
  ${job.kind in SHOWN_AT && html`<div class="actions"><button type="button" onClick=${() => go('versions', ...SHOWN_AT[job.kind](job))}>
    Show what came of it</button></div>`}<//>`;
