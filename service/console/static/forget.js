// Forget corrections: what each way means, what would be lost, the bank's name, and then what was done, for the record.
import * as api from './api.js';
import { html, useState } from './h.js';
import { Chip, Code, Confirm, copy, Dialog, Fault, Line, Pairs, plural, Sheet, useDeed, useEvery, useFrame, useLoad } from './ui.js';

const WAYS = [ // how, what it is called, what it does, the scope it needs
  ['suppress', 'Suppress', 'It is not answered from this moment on. The weights lose it at the next consolidation.', 'forget'],
  ['rebuild', 'Rebuild', 'And the weights are folded again without it: those of a memory that never saw it.', 'forget'],
  ['erase', 'Erase', 'And its texts leave the ledger, and every snapshot that held it is destroyed. Nothing brings it back.', 'erase'],
];
const SHOWN = 20; // situations that are asked before and after
const ENDED = ['succeeded', 'failed', 'canceled'];

/** The memory's digest, and what it says to these situations. */
async function witness(bank, asked) {
  const said = asked.length ? await api.recallMany(bank, asked.map((one) => one.input)) : { results: [] };
  const { digest } = await api.memory(bank);
  return { digest, said: said.results.map((one) => (one.abstained || !one.answers.length ? 'silence' : one.answers[0].value)) };
}

export function Forget({ corrections, onClose }) {
  const { bank, can, changed } = useFrame();
  const ways = WAYS.filter(([, , , scope]) => can(scope));
  const [way, setWay] = useState(ways[Math.min(1, ways.length - 1)]);
  const [reason, setReason] = useState('');
  const [done, setDone] = useState(null); // with what was so before
  const forgetting = useDeed();
  const asked = corrections.filter((one) => one.input).slice(0, SHOWN);
  const before = useLoad(() => witness(bank, asked), []);
  const run = async () => {
    const reply = await forgetting.run(() => api.forget(bank, corrections.map((one) => one.id), way[0], reason));
    if (!reply) return;
    setDone({ ...reply, before: before.data });
    changed();
  };
  if (done) return html`<${Certificate} done=${done} asked=${asked} onClose=${onClose} />`;
  return html`<${Dialog} title=${`Forget ${plural(corrections.length, 'correction')}`} kind="large" onClose=${onClose}>
    <fieldset><legend>How</legend>${ways.map((one) => html`<label class="choice">
      <input type="radio" name="way" checked=${way === one} onChange=${() => setWay(one)} /><span><strong>${one[1]}</strong> ${one[2]}</span>
    </label>`)}</fieldset>
    <h3>What would be forgotten</h3>
    <${Sheet} names=${['Situation', 'Taught answer', 'The memory says now']} rows=${asked.map((one, place) => [
    one.input, html`<del>${one.right}</del>`, before.data ? before.data.said[place] : '…'])} />
    ${corrections.length > asked.length && html`<p class="soft small">and ${plural(corrections.length - asked.length, 'more correction')}</p>`}
    <${Line} label="Reason (optional)" hint="Kept with the forgetting." maxlength="1000"
      value=${reason} onInput=${(event) => setReason(event.target.value)} />
    <${Fault} error=${before.error || forgetting.error} />
    ${before.data && html`<${Confirm} word=${bank} action=${way[1]} busy=${forgetting.busy} onConfirm=${run} onCancel=${onClose} />`}
  <//>`;
}

/** What was done and what can be seen of it: the job, the digests, and the same questions again. */
function Certificate({ done, asked, onClose }) {
  const { bank, say, changed } = useFrame();
  const job = useLoad(async () => (done.job_id ? api.job(done.job_id) : null), [done.job_id]);
  const open = Boolean(done.job_id) && !ENDED.includes(job.data?.status);
  const after = useLoad(async () => (open ? null : witness(bank, asked)), [open]);
  useEvery(700, open, job.reload);
  const close = () => {
    changed();
    onClose();
  };
  const record = () => JSON.stringify({ ...done, bank, job: job.data, after: after.data }, null, 1);
  return html`<${Dialog} title="Forgotten" kind="large" onClose=${close}>
    <p role="status">Nothing is answered with ${done.corrections.length === 1 ? 'it' : 'them'} any more.
      ${done.job_id && (open ? ' The job that makes the weights exact is at work.' : html` The job has <strong>${job.data.status}</strong>.`)}</p>
    <${Pairs} of=${[
    ['Forgetting', html`<${Code} value=${done.id} keep=${40} />`],
    ['Way', done.mode],
    ['Corrections', done.corrections.map((id) => html`<${Code} value=${id} keep=${40} /> `)],
    ['Job', done.job_id && html`<${Progress} job=${job.data} />`],
    ['Digest before', html`<${Code} value=${done.before.digest} keep=${24} />`],
    ['Digest after', after.data ? html`<${Code} value=${after.data.digest} keep=${24} />` : '…'],
  ]} />
    ${after.data && asked.length > 0 && html`<${Sheet} names=${['Situation', 'It said before', 'It says now']} rows=${asked.map((one, place) => [
    one.input, html`<del>${done.before.said[place]}</del>`, html`<ins>${after.data.said[place]}</ins>`])} />`}
    <${Fault} error=${job.error || after.error} />
    <div class="actions">
      <button type="button" onClick=${() => copy(record(), 'the record', say)} disabled=${!after.data}>Copy the record</button>
      <button type="button" class="main" autofocus onClick=${close}>Done</button>
    </div>
  <//>`;
}

export const Progress = ({ job }) => (job ? html`<span class="progress">
  <progress max="1" value=${job.progress} aria-label=${`Progress of the ${job.kind}`}></progress><${Chip} name=${job.status} /></span>` : '…');
