// Forget corrections: what each way means, what would be lost, the bank's name, and then what was done, for the record.
import * as api from './api.js';
import { html, useState } from './h.js';
import { Chip, Code, Confirm, Dialog, Fault, Field, plural, useEvery, useFrame, useLoad } from './ui.js';

const MODES = [
  ['suppress', 'Suppress', 'It is not answered from this moment on. The weights lose it at the next consolidation.', 'forget'],
  ['rebuild', 'Rebuild', 'And the weights are folded again without it: those of a memory that never saw it.', 'forget'],
  ['erase', 'Erase', 'And its texts leave the ledger, and every snapshot that held it is destroyed. Nothing brings it back.', 'erase'],
];
const SHOWN = 20; // situations that are asked before and after

const says = (result) => (result.abstained || !result.answers.length ? 'silence' : result.answers[0].value);

export function Forget({ corrections, onClose }) {
  const { bank, can, changed } = useFrame();
  const modes = MODES.filter(([, , , scope]) => can(scope));
  const [mode, setMode] = useState(modes[Math.min(1, modes.length - 1)][0]);
  const [reason, setReason] = useState('');
  const [done, setDone] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const asked = corrections.filter((one) => one.input).slice(0, SHOWN);
  const before = useLoad(async () => {
    const [found, memory, said] = await Promise.all([
      api.bank(bank),
      api.memory(bank),
      asked.length
        ? api.recallMany(
            bank,
            asked.map((one) => one.input),
          )
        : { results: [] },
    ]);
    return { name: found.name, digest: memory.digest, said: said.results.map(says) };
  }, [done === null]);
  const [kept, setKept] = useState(null); // what was so before, for the certificate
  const run = async () => {
    setBusy(true);
    setError(null);
    setKept(before.data);
    try {
      setDone(
        await api.forget(
          bank,
          corrections.map((one) => one.id),
          mode,
          reason,
        ),
      );
      changed();
    } catch (problem) {
      setError(problem);
    }
    setBusy(false);
  };
  if (done) return html`<${Certificate} done=${done} before=${kept} asked=${asked} onClose=${onClose} />`;
  return html`<${Dialog} title=${`Forget ${plural(corrections.length, 'correction')}`} kind="large" onClose=${onClose}>
    <fieldset><legend>How</legend>${modes.map(
      ([
        value,
        title,
        told,
      ]) => html`<label class="choice"><input type="radio" name="mode" value=${value} checked=${mode === value} onChange=${() => setMode(value)} />
      <span><strong>${title}</strong> ${told}</span></label>`,
    )}</fieldset>
    <h3>What would be forgotten</h3>
    <div class="scroll"><table class="flips"><thead><tr><th>Situation</th><th>Taught answer</th><th>The memory says now</th></tr></thead><tbody>
      ${asked.map((one, place) => html`<tr><td data-name="Situation">${one.input}</td><td data-name="Taught answer"><del>${one.right}</del></td><td data-name="The memory says now">${before.data ? before.data.said[place] : '…'}</td></tr>`)}
    </tbody></table></div>
    ${corrections.length > asked.length && html`<p class="soft small">and ${plural(corrections.length - asked.length, 'more correction')}</p>`}
    <${Fault} error=${before.error} />
    <${Field} label="Reason (optional)" hint="Kept with the forgetting.">${(id) => html`<input id=${id} maxlength="1000" value=${reason} onInput=${(event) => setReason(event.target.value)} />`}<//>
    <${Fault} error=${error} />
    ${
      before.data &&
      html`<${Confirm} word=${before.data.name} action=${MODES.find(([value]) => value === mode)[1]} busy=${busy} onConfirm=${run}>
      <button type="button" class="quiet" onClick=${onClose}>Cancel</button><//>`
    }
  <//>`;
}

/** What was done and what can be seen of it: the job, the digests, and the same questions again. */
function Certificate({ done, before, asked, onClose }) {
  const { bank, say, changed } = useFrame();
  const job = useLoad(() => (done.job_id ? api.job(done.job_id) : Promise.resolve(null)), [done.job_id]);
  const open = Boolean(done.job_id) && !['succeeded', 'failed', 'canceled'].includes(job.data?.status);
  useEvery(700, open, job.reload);
  const after = useLoad(async () => {
    if (open) return null;
    const [memory, said] = await Promise.all([
      api.memory(bank),
      asked.length
        ? api.recallMany(
            bank,
            asked.map((one) => one.input),
          )
        : { results: [] },
    ]);
    return { digest: memory.digest, said: said.results.map(says) };
  }, [open]);
  const record = () => JSON.stringify({ ...done, bank, job: job.data, before, after: after.data }, null, 1);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(record());
      say('The record is copied.');
    } catch {
      say('This browser does not let the console copy.');
    }
  };
  return html`<${Dialog} title="Forgotten" kind="large" onClose=${() => {
    changed();
    onClose();
  }}>
    <p role="status">From the answer on, nothing is answered with ${done.corrections.length === 1 ? 'it' : 'them'}. ${!done.job_id ? '' : open ? 'The job that makes the weights exact is at work.' : html`The job has <strong>${job.data.status}</strong>.`}</p>
    <dl class="pairs">
      <dt>Forgetting</dt><dd><${Code} value=${done.id} keep=${40} /></dd>
      <dt>Way</dt><dd>${done.mode}</dd>
      <dt>Corrections</dt><dd>${done.corrections.map((id) => html`<${Code} value=${id} keep=${40} /> `)}</dd>
      ${done.job_id && html`<dt>Job</dt><dd><${Progress} job=${job.data} /></dd>`}
      <dt>Digest before</dt><dd><${Code} value=${before.digest} keep=${24} /></dd>
      <dt>Digest after</dt><dd>${after.data ? html`<${Code} value=${after.data.digest} keep=${24} />` : '…'}</dd>
    </dl>
    ${
      after.data &&
      asked.length > 0 &&
      html`<div class="scroll"><table class="flips"><thead><tr><th>Situation</th><th>It said before</th><th>It says now</th></tr></thead><tbody>
      ${asked.map((one, place) => html`<tr><td data-name="Situation">${one.input}</td><td data-name="It said before"><del>${before.said[place]}</del></td><td data-name="It says now"><ins>${after.data.said[place]}</ins></td></tr>`)}</tbody></table></div>`
    }
    <${Fault} error=${job.error || after.error} />
    <div class="actions"><button type="button" onClick=${copy} disabled=${!after.data}>Copy the record</button><button type="button" class="main" autofocus onClick=${() => {
      changed();
      onClose();
    }}>Done</button></div>
  <//>`;
}

export const Progress = ({ job }) =>
  job
    ? html`<span class="progress"><progress max="1" value=${job.progress} aria-label=${`Progress of the ${job.kind}`}></progress><${Chip} name=${job.status} /></span>`
    : '…';
