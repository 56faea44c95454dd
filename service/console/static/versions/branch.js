// What is done with one branch: compared with its bank, promoted into it, deleted.
import * as api from '../api.js';
import { html, useState } from '../h.js';
import { Confirm, Dialog } from '../parts/dialog.js';
import { useDeed, useFrame, useLoad } from '../parts/frame.js';
import { Fault } from '../parts/marks.js';
import { Code, plural } from '../parts/words.js';
import { Difference } from './compare.js';

export function CompareBranch({ one, onClose }) {
  const { bank } = useFrame();
  const diff = useLoad(() => api.diffBranch(one.id), [one.id]);
  return html`<${Dialog} title=${`${bank} and its branch ${one.name}`} kind="large" onClose=${onClose}>
    <${Difference} diff=${diff} before=${bank} after=${one.name} /><//>`;
}

/** What the bank would answer otherwise, the bank's name, and then the branch is part of it. */
export function Promote({ one, onClose }) {
  const { bank, changed, refresh } = useFrame();
  const diff = useLoad(() => api.diffBranch(one.id), [one.id]);
  const [refold, setRefold] = useState(false);
  const [done, setDone] = useState(null);
  const promoting = useDeed();
  const run = async () => {
    const promoted = await promoting.run(() => api.promote(one.id, refold));
    if (!promoted) return;
    setDone(promoted);
    await refresh();
  };
  const close = () => {
    if (done) changed(); // not before: the difference cannot be asked for any more
    onClose();
  };
  if (done) {
    return html`<${Dialog} title="Promoted" onClose=${close}>
      <p role="status"><strong>${bank}</strong> has learned ${plural(done.corrections.length, 'correction')} from ${one.name}; the branch is gone.</p>
      <p class="soft">The bank before that is saved as <${Code} value=${done.before} keep=${40} />. Roll back to it to undo this.</p>
      <div class="actions"><button type="button" class="main" autofocus onClick=${close}>Done</button></div><//>`;
  }
  const moved = promoting.error?.code === 'head-moved';
  return html`<${Dialog} title=${`Promote ${one.name}`} kind="large" onClose=${close}>
    <p>What was taught in <strong>${one.name}</strong> is added to the ledger of <strong>${bank}</strong>, and the branch ends. ${bank} is saved
      first.</p>
    <${Difference} diff=${diff} before=${bank} after=${one.name} />
    <${Fault} error=${promoting.error}>${moved && 'Tick the box below to do that.'}<//>
    ${(moved || refold) && html`<label class="check"><input type="checkbox" checked=${refold} onChange=${() => setRefold(!refold)} />
      ${bank} has changed since; add what the branch was taught to what it holds now</label>`}
    ${diff.data && !diff.error && html`<${Confirm} word=${bank} action="Promote" busy=${promoting.busy} onConfirm=${run} onCancel=${close} />`}
  <//>`;
}

export function DeleteBranch({ one, onClose }) {
  const { changed, refresh, say } = useFrame();
  const deleting = useDeed();
  const run = async () => {
    if (!(await deleting.run(() => api.deleteBranch(one.id)))) return;
    say(`${one.name} is deleted.`);
    await refresh();
    changed();
    onClose();
  };
  return html`<${Dialog} title=${`Delete ${one.name}`} onClose=${onClose}>
    <p>Its ledger and its versions go for good, with everything that was taught in it alone. The bank that it was made from stays as it is.</p>
    <${Fault} error=${deleting.error} />
    <${Confirm} word=${one.name} action="Delete the branch" busy=${deleting.busy} onConfirm=${run} onCancel=${onClose} />
  <//>`;
}
