// The certificate of a forgetting: what was removed and from where, what its corrections still say, and what could not be reached.
import * as api from '../api.js';
import { html } from '../h.js';
import { Dialog } from '../parts/dialog.js';
import { useEvery, useFrame, useLoad } from '../parts/frame.js';
import { Chip, Fault, Pairs, Progress } from '../parts/marks.js';
import { Sheet } from '../parts/table.js';
import { Code, copy, download, number, plural } from '../parts/words.js';

const SHOWN = 20; // ids of a kind; the record has all
const whole = (value) => value && html`<${Code} value=${value} keep=${40} />`;
const many = (ids) => ids.length > 0 && html`${number(ids.length)}: ${ids.slice(0, SHOWN).map((id) => html`<${Code} value=${id} keep=${24} /> `)}
  ${ids.length > SHOWN && '…'}`;
const yes = (is) => (is ? 'yes' : 'no');

/** As it is now, and again until its job has ended. */
export function Certificate({ id, onClose }) {
  const { say, changed } = useFrame();
  const { data, error, reload } = useLoad(async () => {
    const told = await api.certificate(id);
    return { told, job: told.job_id && !told.complete ? await api.job(told.job_id).catch(() => null) : null };
  }, [id]);
  const { told, job } = data || {};
  useEvery(700, Boolean(told) && !told.complete && !['failed', 'canceled'].includes(job?.status), reload);
  const close = () => {
    changed();
    onClose();
  };
  return html`<${Dialog} title="Certificate of forgetting" kind="large" onClose=${close}>
    <${Fault} error=${error} />
    ${told && html`
      <p role="status">${told.complete ? html`<${Outcome} passed=${told.passed} />`
    : html`Nothing is answered with ${told.corrections.length === 1 ? 'it' : 'them'} any more. The weights follow: <${Progress} job=${job} />`}</p>
      <${Pairs} of=${[
    ['Certificate', whole(told.id)],
    ['Way', told.mode],
    ['Corrections', many(told.corrections)],
    ['Asked for', `${new Date(told.requested_at).toLocaleString()}`],
    ['By key', whole(told.requested_by)],
    ['Done', told.complete ? new Date(told.completed_at).toLocaleString() : 'not yet'],
  ]} />
      ${told.weights && html`<section><h3>Weights</h3><${Pairs} of=${[
    ['Digest with', whole(told.weights.digest_before)],
    ['Digest without', whole(told.weights.digest_after) || '…'],
    ['At ledger place', number(told.weights.seq)],
    ['New head', whole(told.weights.snapshot)],
    ...(told.weights.language ? [
      ['Language model with', whole(told.weights.language.digest_before) || told.weights.language.unavailable],
      ['Language model without', whole(told.weights.language.digest_after) || told.weights.language.unavailable || '…'],
    ] : []),
  ]} /></section>`}
      <${Removed} of=${told.removed} />
      ${told.membership.length > 0 && html`<${Membership} rows=${told.membership} />`}
      <section><h3>What could not be reached</h3>
        <${Sheet} names=${['Place', 'What to do']} rows=${told.unreached.map((one) => [one.place, one.advice])} /></section>`}
    <div class="actions">
      <button type="button" onClick=${() => copy(JSON.stringify(told, null, 1), 'the certificate', say)} disabled=${!told}>Copy</button>
      <button type="button" onClick=${() => download(`${id}.json`, told)} disabled=${!told}>Download as JSON</button>
      <button type="button" class="main" autofocus onClick=${close}>Done</button>
    </div>
  <//>`;
}

const Outcome = ({ passed }) => (passed === null
  ? html`<${Chip} name="complete" tone="good" /> A turn of a conversation has no question to ask again: compare the digests.`
  : passed
  ? html`<${Chip} name="complete" tone="good" /> Asked again, the memory answers with none of them.`
  : html`<${Chip} name="complete" tone="bad" /> <strong>Asked again, the memory still answers with one of them.</strong>`);

const Removed = ({ of }) => html`<section><h3>What was removed</h3><${Pairs} of=${[
  ['Marked as forgotten', plural(of.tombstones, 'correction')],
  ['Texts in the ledger', of.redacted_events > 0 && `of ${plural(of.redacted_events, 'correction')}`],
  ['Answers', of.responses > 0 && `${number(of.responses)} that nothing else says`],
  ['Stored replies', of.stored_replies > 0 && number(of.stored_replies)],
  ['Snapshots', many(of.snapshots)],
  ['Files of weights', many(of.blobs)],
  ['Exports', many(of.exports)],
]} /></section>`;

const Membership = ({ rows }) => html`<section><h3>Each asked at its own situation</h3>
  <${Sheet} names=${['Correction', 'In the weights', 'Still the answer', 'Because of', 'Passed']} rows=${rows.slice(0, SHOWN).map((one) => [
  html`<${Code} value=${one.correction} />`, yes(one.in_weights), yes(one.answered),
  one.support.slice(0, 3).map((id) => html`<${Code} value=${id} /> `),
  html`<${Chip} name=${one.passed ? 'passed' : 'failed'} tone=${one.passed ? 'good' : 'bad'} />`])} />
  ${rows.length > SHOWN && html`<p class="soft small">and ${plural(rows.length - SHOWN, 'more correction')}; the record has all.</p>`}
</section>`;
