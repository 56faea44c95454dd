// Find what changed an answer: a question and a version that had it right; a job halves its way to the correction.
import * as api from '../api.js';
import { Forget } from '../forgetting/forget.js';
import { Hold } from '../forgetting/hold.js';
import { html, useState } from '../h.js';
import { useDeed, useFrame, useJob, useLoad, useSettled } from '../parts/frame.js';
import { Busy, Empty, Fault, Field, Progress, Said } from '../parts/marks.js';
import { plural, Time } from '../parts/words.js';
import { named, useVersions, VersionChoice } from './choice.js';
import { RollBack } from './rollback.js';

/** `id` is that of a search that was begun, also before the page was opened. */
export function Bisect({ id }) {
  const { bank, go } = useFrame();
  const { versions, error, nameOf } = useVersions();
  const [typed, setTyped] = useState('');
  const [chosen, setChosen] = useState(null);
  const starting = useDeed();
  const question = useSettled(typed.trim(), 500);
  const usable = (versions || []).filter((one) => !one.is_head && !one.tainted_by.length);
  const since = chosen || usable[0]?.id;
  const asked = question && since ? [since, 'head'] : null;
  const both = useLoad(async () => asked && (await api.probe(bank, [question], asked)).rows[0], [bank, question, since]);
  const [then, now] = both.data || [];
  const alike = both.data && saying(then) === saying(now);
  const ready = Boolean(both.data) && !both.busy && !alike && question === typed.trim();
  const submit = async (event) => {
    event.preventDefault();
    const started = ready && (await starting.run(() => api.bisect(bank, question, since)));
    if (started) go('versions', 'find', started.job_id);
  };
  const keydown = (event) => event.key === 'Enter' && !event.shiftKey && submit(event);
  return html`
    <p class="soft">An answer has become wrong, and nobody knows why? Name the question and a version that still had it right. The search halves what
      lies between that version and now, until one correction is left.</p>
    <form class="ask" onSubmit=${submit}>
      <${Field} label="Question">${(field) => html`
        <textarea id=${field} data-search rows="2" maxlength="20000" placeholder="The question whose answer changed" value=${typed}
          onInput=${(event) => setTyped(event.target.value)} onKeyDown=${keydown}></textarea>`}<//>
      <div class="bench">
        <${VersionChoice} label="It was right in" saved value=${since} versions=${usable} onChange=${setChosen} />
        <button class="main" disabled=${!ready || starting.busy}>${starting.busy ? 'Starting…' : 'Find the change'}</button>
      </div>
    </form>
    <${Fault} error=${error || both.error || starting.error} />
    ${versions && !usable.length && html`<${Empty}>There is no version to compare with yet. Take a snapshot while the answers are right; then a
      change can be found later.<//>`}
    ${both.data && question && !both.error && html`
      <p class="compared" role="status">${alike && html`<strong>Both answer alike.</strong> Choose an older version, in which the answer was
        another one.`}</p>
      <div class="sides">${[[nameOf(since), then], ['Now', now]].map(([title, cell]) => html`<section class="side"><h2>${title}</h2>
        <${Said} cell=${cell} /></section>`)}</div>`}
    ${id && html`<${Search} key=${id} id=${id} nameOf=${nameOf} versions=${versions || []} />`}`;
}

const saying = (cell) => (cell.abstained ? null : cell.value);

function Search({ id, nameOf, versions }) {
  const { job, ended, error } = useJob(id);
  const found = job?.status === 'succeeded' && job.result;
  return html`<section aria-labelledby="search"><h2 id="search">The search</h2>
    <${Fault} error=${error} />
    ${!ended && !error && html`<p role="status"><${Progress} job=${job} /> Asking the states between them…</p>`}
    ${job?.status === 'canceled' && html`<p role="status">The search was canceled.</p>`}
    ${found && (found.changed ? html`<${Found} found=${found} nameOf=${nameOf} versions=${versions} />`
    : html`<p role="status">Nothing changed it: the version answered as the bank does now. Choose an older one.</p>`)}
  </section>`;
}

function Found({ found, nameOf, versions }) {
  const { bank, can, go } = useFrame();
  const [open, setOpen] = useState({}); // {forget}, {hold} or {back}
  const { data, error } = useLoad(() => api.correction(bank, found.correction), [bank, found.correction]);
  const before = versions.find((one) => one.id === found.last_snapshot_before);
  const one = { what: { corrections: [found.correction] }, named: '1 correction' };
  const close = () => setOpen({});
  return html`<div class="found" role="status">
    <p>Still right in <strong>${nameOf(found.last_snapshot_before)}</strong>${found.first_snapshot_after
  && html`, no more in <strong>${nameOf(found.first_snapshot_after)}</strong>`}. This correction changed it:</p>
    <${Fault} error=${error} />
    ${data ? html`<article class="culprit">
      <p class="lead">${data.input ?? 'Its text was erased.'}</p>
      <p class="verdict">${data.wrong && html`<del>${data.wrong}</del>`}<ins>${data.right}</ins></p>
      <p class="facts small"><span>taught <${Time} at=${data.created_at} /></span>
        ${data.session_id && html`<span>in session ${data.session_id}</span>`}<span>at place ${data.seq} of the ledger</span></p>
      <div class="actions start">
        <button type="button" onClick=${() => go('corrections', data.id)}>Look at it</button>
        ${can('rollback') && before && html`
          <button type="button" onClick=${() => setOpen({ back: true })}>Roll back to ${named(before)}…</button>`}
        ${can('forget') && html`<button type="button" onClick=${() => setOpen({ hold: true })}>Hold…</button>
          <button type="button" class="danger" onClick=${() => setOpen({ forget: true })}>Forget…</button>`}
      </div></article>` : !error && html`<${Busy}>Looking it up…<//>`}
    <p class="soft small">${plural(found.probes, 'state')} asked among ${plural(found.events, 'correction')}.</p>
    ${open.forget && html`<${Forget} ...${one} onClose=${close} />`}
    ${open.hold && html`<${Hold} ...${one} onClose=${close} />`}
    ${open.back && html`<${RollBack} to=${before} onClose=${close} />`}
  </div>`;
}
