// Jobs as they run.
import * as api from './api.js';
import { Progress } from './forget.js';
import { html, useRef, useState } from './h.js';
import { Code, Dialog, Empty, Fault, More, Table, Time, useEvery, useFrame, useList } from './ui.js';

const OPEN = ['queued', 'running'];

export function Jobs() {
  const { bank, can, changed, say } = useFrame();
  const list = useList((cursor) => api.jobs(bank, { cursor }), [bank]);
  const [live, setLive] = useState(new Map()); // what was heard of open jobs since the list was loaded
  const [shown, setShown] = useState(null);
  const [error, setError] = useState(null);
  const told = useRef(new Set());
  const rows = list.items.map((one) => live.get(one.id) || one);
  const open = rows.filter((one) => OPEN.includes(one.status));
  useEvery(1000, open.length > 0, async () => {
    const heard = await Promise.all(open.map((one) => api.job(one.id).catch(() => one)));
    setLive((old) => new Map([...old, ...heard.map((one) => [one.id, one])]));
    for (const one of heard)
      if (!OPEN.includes(one.status) && !told.current.has(one.id)) {
        told.current.add(one.id);
        say(`The ${one.kind} has ${one.status}.`);
      }
  });
  const act = async (work, done) => {
    setError(null);
    try {
      await work();
      say(done);
      changed();
    } catch (problem) {
      setError(problem);
    }
  };
  return html`
    <div class="head"><h1>Jobs</h1>${can('snapshots:write') && html`<button type="button" class="main" onClick=${() => act(() => api.consolidate(bank), 'A consolidation is queued.')}>Consolidate</button>`}</div>
    <${Fault} error=${list.error || error} />
    ${
      rows.length > 0 &&
      html`<${Table} label="Jobs, newest first" rows=${rows} onOpen=${setShown} columns=${[
        { name: 'Kind', show: (row) => row.kind },
        { name: 'State', class: 'wide', show: (row) => html`<${Progress} job=${row} />` },
        { name: 'Queued', class: 'when', show: (row) => html`<${Time} at=${row.created_at} />` },
        { name: 'Ended', class: 'when', show: (row) => html`<${Time} at=${row.finished_at} />` },
        { name: 'Tries', class: 'num', show: (row) => row.attempts },
        {
          name: '',
          show: (row) =>
            can('admin') &&
            row.status === 'queued' &&
            row.kind === 'consolidation' &&
            html`<button type="button" onClick=${() => act(() => api.cancelJob(row.id), 'The job is canceled.')}>Cancel</button>`,
        },
      ]} />`
    }
    ${!list.busy && !list.error && !rows.length && html`<${Empty}>No job yet. Consolidations, rebuilds and erasures show up here.<//>`}
    <${More} list=${list} what="jobs" />
    ${
      shown &&
      html`<${Dialog} title=${`Job: ${shown.kind}`} kind="drawer" onClose=${() => setShown(null)}>
      <${Progress} job=${live.get(shown.id) || shown} />
      <dl class="pairs"><dt>Id</dt><dd><${Code} value=${shown.id} keep=${40} /></dd><dt>Queued</dt><dd>${new Date(shown.created_at).toLocaleString()}</dd>
        ${shown.finished_at && html`<dt>Ended</dt><dd>${new Date(shown.finished_at).toLocaleString()}</dd>`}</dl>
      <${Outcome} job=${live.get(shown.id) || shown} /><//>`
    }`;
}

const Outcome = ({ job }) =>
  html`${job.result && html`<h3>Result</h3><pre>${JSON.stringify(job.result, null, 1)}</pre>`}${job.error && html`<h3>Error</h3><pre>${JSON.stringify(job.error, null, 1)}</pre>`}`;
