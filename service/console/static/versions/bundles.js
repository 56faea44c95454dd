// Bundles: a version as one signed file that leaves the service, and comes back as a candidate.
import * as api from '../api.js';
import { html, useState } from '../h.js';
import { useDeed, useFrame, useJob, useList } from '../parts/frame.js';
import { Chip, Fault, Field, Progress } from '../parts/marks.js';
import { More, Table } from '../parts/table.js';
import { keep, plural, size, Time } from '../parts/words.js';
import { named, useVersions, VersionChoice } from './choice.js';
import { Compare } from './compare.js';
import { RollBack } from './rollback.js';

const MOST = 64 * 1024 * 1024; // bytes of a bundle that the service takes
const KEPT_MS = 86_400_000; // for which the service keeps one that it made

export function Bundles() {
  const found = useVersions();
  return html`
    <p class="soft">A bundle is a version as one file, signed by this service: its weights, what it answers, and if you like the corrections behind
      it. It can be kept elsewhere, and brought back to this bank.</p>
    <${Fault} error=${found.error} />
    ${found.versions && html`<${Export} versions=${found.versions} /><${Import} versions=${found.versions} />`}`;
}

function Export({ versions }) {
  const { bank, changed } = useFrame();
  const usable = versions.filter((one) => !one.tainted_by.length && one.kind !== 'genesis');
  const [chosen, setChosen] = useState(null);
  const [ledger, setLedger] = useState(false);
  const [begun, setBegun] = useState(null);
  const starting = useDeed();
  const id = chosen || usable[0]?.id;
  const submit = async (event) => {
    event.preventDefault();
    const started = await starting.run(() => api.exportSnapshot(bank, id, ledger));
    if (!started) return;
    setBegun(started.job_id);
    changed();
  };
  return html`<section aria-labelledby="out"><h2 id="out">Take one out</h2>
    ${usable.length ? html`<form class="bench" onSubmit=${submit}>
      <${VersionChoice} label="Version" saved value=${id} versions=${usable} onChange=${setChosen} />
      <label class="check"><input type="checkbox" checked=${ledger} onChange=${() => setLedger(!ledger)} /> with the corrections up to it</label>
      <button class="main" disabled=${starting.busy}>Make a bundle</button>
    </form>` : html`<p class="soft">There is no version to take out yet: take a snapshot on the timeline first.</p>`}
    <${Fault} error=${starting.error} />
    ${begun && html`<${Making} key=${begun} id=${begun} />`}
    <${Made} begun=${begun} versions=${versions} />
  </section>`;
}

/** The one that was asked for just now. */
function Making({ id }) {
  const { job, ended, error } = useJob(id);
  const made = job?.status === 'succeeded';
  return html`<${Fault} error=${error} />
    ${!ended && !error && html`<p role="status">Making the bundle… <${Progress} job=${job} /></p>`}
    ${made && html`<div class="marked" role="status"><span><strong>It is ready</strong>, ${size(job.result.bytes)}.</span>
      <${Download} job=${job} /></div>`}
    ${job?.status === 'canceled' && html`<p role="status">Somebody has canceled it.</p>`}`;
}

/** Those that were made before, as far as the newest jobs tell. */
function Made({ begun, versions }) {
  const { bank } = useFrame();
  const list = useList(async (cursor) => {
    const page = await api.jobs(bank, { cursor, limit: 200 });
    return { ...page, items: page.items.filter((job) => job.kind === 'export' && job.status === 'succeeded' && job.id !== begun) };
  }, [bank, begun]);
  return html`<${Fault} error=${list.error} />
    ${list.items.length > 0 && html`<${Table} label="Bundles that were made, newest first" rows=${list.items} columns=${[
    { name: 'Version', class: 'wide', show: (job) => named(versions.find((one) => one.id === job.result.snapshot)) },
    { name: 'Size', class: 'num', show: (job) => size(job.result.bytes) },
    { name: 'Made', class: 'when', show: (job) => html`<${Time} at=${job.finished_at} />` },
    { name: '', show: (job) => (Date.now() - Date.parse(job.finished_at) < KEPT_MS ? html`<${Download} job=${job} />`
      : html`<span class="soft small">not kept any more</span>`) },
  ]} /><p class="soft small">A bundle is kept for a day, or until something in it is erased.</p>`}
    <${More} list=${list} what="bundles" />`;
}

/** The browser cannot be sent there: it would ask without what makes its cookie count. So the page asks, and hands the bytes over. */
function Download({ job }) {
  const fetching = useDeed();
  const fetchIt = async () => {
    const bytes = await fetching.run(() => api.bundle(job.result.export));
    if (bytes) keep(`${job.result.export}.tar`, bytes);
  };
  return html`<button type="button" onClick=${fetchIt} disabled=${fetching.busy}>${fetching.busy ? 'Fetching…' : 'Download'}</button>
    <${Fault} error=${fetching.error} />`;
}

function Import({ versions }) {
  const { bank, can, changed, go } = useFrame();
  const [taken, setTaken] = useState(null);
  const [open, setOpen] = useState(null); // 'compare' or 'back'
  const importing = useDeed();
  const submit = async (event) => {
    event.preventDefault();
    const [file] = event.target.elements.bundle.files;
    setTaken(null);
    const reply = await importing.run(async () => {
      refuse(file);
      return api.importBundle(bank, file);
    });
    if (!reply) return;
    setTaken(reply);
    changed();
  };
  const close = () => setOpen(null);
  const one = taken?.snapshot;
  return html`<section aria-labelledby="in"><h2 id="in">Bring one back</h2>
    <p class="soft">It becomes a candidate beside the other versions; what the bank answers stays as it is until you roll back to it.</p>
    <form class="bench" onSubmit=${submit}>
      <${Field} label="Bundle">${(field) => html`<input id=${field} name="bundle" type="file" accept=".tar" required />`}<//>
      <button class="main" disabled=${importing.busy}>${importing.busy ? 'Checking it…' : 'Import'}</button>
    </form>
    <${Fault} error=${importing.error}>Nothing was changed.<//>
    ${one && html`<div class="found" role="status">
      <p><strong>It is here as “${named(one)}”.</strong> ${taken.probes > 0 && html`Asked what the bundle says it answers, it agrees in
        ${' '}${taken.agreeing} of ${plural(taken.probes, 'question')}. ${taken.agreeing < taken.probes ? html`
          <${Chip} name="differs" tone="bad" /> Compare it before you go back to it.` : html`<${Chip} name="as it left" tone="good" />`}`}</p>
      <div class="actions start">
        <button type="button" onClick=${() => setOpen('compare')}>Compare…</button>
        ${can('rollback') && html`<button type="button" onClick=${() => setOpen('back')}>Roll back to it…</button>`}
        <button type="button" class="quiet" onClick=${() => go('versions')}>Show it on the timeline</button>
      </div></div>`}
    ${open === 'compare' && html`<${Compare} first=${one.id} versions=${[one, ...versions.filter((each) => each.id !== one.id)]} onClose=${close} />`}
    ${open === 'back' && html`<${RollBack} to=${one} onClose=${close} />`}
  </section>`;
}

/** What need not be sent to be refused. */
function refuse(file) {
  if (!file.size) throw new api.Problem({ code: 'bundle-refused', detail: 'The file is empty. Take the one that an export gave.' });
  if (file.size <= MOST) return;
  throw new api.Problem({ code: 'bundle-refused', detail: `The file has ${size(file.size)}; a bundle has ${size(MOST)} at most.` });
}
