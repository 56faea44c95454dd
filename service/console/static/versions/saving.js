// Save the bank as it is now, and say what a saved version is: label, note, pin.
import * as api from '../api.js';
import { html } from '../h.js';
import { Dialog } from '../parts/dialog.js';
import { useDeed, useFrame } from '../parts/frame.js';
import { Fault, Line } from '../parts/marks.js';
import { named } from './choice.js';

export function Take({ onClose }) {
  const { bank } = useFrame();
  return html`<${Labels} title="Take a snapshot" action="Take a snapshot" onClose=${onClose} onSubmit=${(said) => api.takeSnapshot(bank, {
    label: said.label || undefined, note: said.note || undefined, pin: said.pinned })}>
    <p>The bank as it is now is kept, and can be asked, compared and returned to.</p><//>`;
}

export function Change({ one, onClose }) {
  const { bank } = useFrame();
  return html`<${Labels} title=${`Label or pin ${named(one)}`} action="Save" given=${one} onClose=${onClose}
    onSubmit=${(said) => api.changeSnapshot(bank, one.id, said)} />`;
}

/** What people say about a snapshot: {label, note, pinned}, null for what is empty. */
function Labels({ title, action, given = {}, onSubmit, onClose, children }) {
  const { changed, say } = useFrame();
  const saving = useDeed();
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const said = { label: form.get('label').trim() || null, note: form.get('note').trim() || null, pinned: form.has('pinned') };
    const saved = await saving.run(() => onSubmit(said));
    if (!saved) return;
    say(`Saved: ${named(saved)}`);
    changed();
    onClose();
  };
  return html`<${Dialog} title=${title} onClose=${onClose}><form onSubmit=${submit}>
    ${children}
    <${Line} label="Label" name="label" maxlength="128" autofocus defaultValue=${given.label} />
    <${Line} label="Note" name="note" rows="2" maxlength="1000" defaultValue=${given.note} />
    <label class="check"><input type="checkbox" name="pinned" defaultChecked=${given.pinned} />
      ${' '}Pin it: nobody can delete it before it is unpinned</label>
    <p class="hint">What has a label or is pinned is never cleaned up.</p>
    <${Fault} error=${saving.error} />
    <div class="actions"><button class="main" disabled=${saving.busy}>${saving.busy ? 'Saving…' : action}</button></div>
  </form><//>`;
}
