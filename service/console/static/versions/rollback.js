// Go back: where to, which answers that would change, the bank's name, and the way back from there.
import * as api from '../api.js';
import { html, useState } from '../h.js';
import { Confirm, Dialog } from '../parts/dialog.js';
import { ENDED, useDeed, useFrame, useLoad, useSettled } from '../parts/frame.js';
import { Busy, Fault, Flips, Line, Progress } from '../parts/marks.js';
import { asked, Code, number, plural } from '../parts/words.js';
import { AimFields, requested, told, unaimed } from './aim.js';
import { named, useVersions } from './choice.js';

/** `to` is the version that was chosen; without it the dialog asks where to. */
export function RollBack({ to, onClose }) {
  const { bank, changed, say } = useFrame();
  const [aim, setAim] = useState(unaimed(to));
  const [reason, setReason] = useState('');
  const [done, setDone] = useState(null);
  const [folding, setFolding] = useState(null); // the job that prepares a state which takes long to fold
  const moving = useDeed();
  const { versions, error } = useVersions();
  const now = JSON.stringify(requested(aim));
  const settled = useSettled(now, 400);
  const preview = useLoad(async () => {
    const where = JSON.parse(settled);
    if (!where || done) return null;
    const [found, flips] = await Promise.all([api.bank(bank), api.rollBack(bank, where, { dryRun: true, onJob: setFolding })]);
    return { ...found, ...flips, asked: settled };
  }, [settled]);
  const sure = preview.data?.asked === now && !preview.busy && !preview.error;
  const move = (where, etag) => moving.run(() => api.rollBack(bank, where, { etag, reason, onJob: setFolding }));
  const run = async () => {
    const moved = await move(requested(aim), preview.data.etag);
    if (!moved) {
      preview.reload(); // whatever was refused: what would happen is looked at again before the next try
      return;
    }
    setDone(moved);
    changed();
  };
  const undo = async () => {
    if (!(await move({ to: done.pre_rollback }))) return;
    say('The rollback is undone.');
    changed();
    onClose();
  };
  if (done) {
    return html`<${Dialog} title="Rolled back" kind="large" onClose=${onClose}>
      <p role="status">In every process the bank answers ${aim.way !== 'source' && 'as at '}<strong>${told(aim)}</strong>${
        (aim.keep === 'after' || aim.chosen.size > 0) && ', with what you kept'}. ${plural(done.flips.length, 'answer')} changed.</p>
      <p class="soft">What it answered before is saved as <${Code} value=${done.pre_rollback} keep=${40} />, which undoes this, bit for bit.</p>
      <${Fault} error=${moving.error} />
      <div class="actions">
        <button type="button" onClick=${undo} disabled=${moving.busy}>Undo</button>
        <button type="button" class="main" autofocus onClick=${onClose}>Done</button>
      </div><//>`;
  }
  return html`<${Dialog} title=${to ? `Roll back to ${named(to)}` : 'Go back'} kind="large" onClose=${onClose}>
    <${AimFields} aim=${aim} onAim=${setAim} versions=${versions || []} given=${Boolean(to)} />
    <${Fault} error=${preview.error || error} />
    ${now === 'null' ? html`<p class="soft">You see which answers would change before anything does.</p>`
    : !sure && !preview.error && html`<${Busy}>Asking which answers would change…
      ${folding && !ENDED.includes(folding.status) && html` This takes a while: <${Progress} job=${folding} />`}<//>`}
    ${sure && html`<${Preview} data=${preview.data} />
      <${Line} label="Reason (optional)" hint="Kept in the audit." maxlength="1000"
        value=${reason} onInput=${(event) => setReason(event.target.value)} />
      <${Fault} error=${moving.error} />
      <${Confirm} word=${preview.data.name} action="Roll back" busy=${moving.busy} onCancel=${onClose} onConfirm=${run} />`}
  <//>`;
}

const Preview = ({ data }) => html`
  <p role="status"><strong>${data.flips.length ? plural(data.flips.length, 'answer') : 'No answer'} would change</strong> of
    ${' '}${asked(data)}. ${plural(data.removed, 'correction')} would leave the weights and ${number(data.restored)}
    ${' '}come back; all stay in the ledger. All levels go together. The present state is saved first.</p>
  ${data.flips.length > 0 && html`<${Flips} flips=${data.flips} before="Now" after="Then" />`}`;
