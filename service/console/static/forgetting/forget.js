// Forget corrections, or all from a source: what each way means, what would be lost, the bank's name, and then the certificate.
import * as api from '../api.js';
import { html, useState } from '../h.js';
import { Confirm, Dialog } from '../parts/dialog.js';
import { useDeed, useFrame, useLoad } from '../parts/frame.js';
import { Choice, Fault, Flips, Line } from '../parts/marks.js';
import { Sheet } from '../parts/table.js';
import { asked, plural } from '../parts/words.js';
import { Certificate } from './certificate.js';

const WAYS = [ // how, what it is called, what it does, the scope it needs
  ['suppress', 'Suppress', 'It is not answered from this moment on. The weights lose it at the next consolidation.', 'forget'],
  ['rebuild', 'Rebuild', 'And the weights are folded again without it: those of a memory that never saw it.', 'forget'],
  ['erase', 'Erase', 'And its texts leave the ledger, and every snapshot that held it is destroyed. Nothing brings it back.', 'erase'],
];
const SHOWN = 10; // corrections whose texts are shown

/** `what` is {corrections: ids} or {source}, and `named` how people call it. */
export function Forget({ what, named, onClose }) {
  const { bank, can } = useFrame();
  const ways = WAYS.filter(([, , , scope]) => can(scope));
  const [way, setWay] = useState(ways[Math.min(1, ways.length - 1)]);
  const [reason, setReason] = useState('');
  const [done, setDone] = useState(null);
  const forgetting = useDeed();
  const { data, busy, error, reload } = useLoad(() => api.previewForget(bank, what, way[0]), [way]);
  const texts = useLoad(async () => data && Promise.all(data.corrections.slice(0, SHOWN).map((id) => api.correction(bank, id))), [Boolean(data)]);
  const run = async () => {
    const reply = await forgetting.run(() => api.forget(bank, what, way[0], data.confirm_token, reason));
    if (reply) setDone(reply.id);
    else reload(); // whatever was refused: what would happen is looked at again before the next try
  };
  if (done) return html`<${Certificate} id=${done} onClose=${onClose} />`;
  return html`<${Dialog} title=${`Forget ${named}`} kind="large" onClose=${onClose}>
    <${Choice} legend="How" name="way" ways=${ways} value=${way[0]} onChange=${(chosen) => setWay(ways.find(([one]) => one === chosen))} />
    <${Fault} error=${error} />
    <p role="status" aria-busy=${busy}>${busy ? 'Asking what would change…' : data && html`
      <strong>${plural(data.corrections.length, 'correction')}</strong> would be forgotten;
      ${' '}<strong>${data.flips.length ? plural(data.flips.length, 'answer') : 'no answer'}</strong> would change
      at once of ${asked(data)}.`}</p>
    ${texts.data && html`<section><h3>What would be forgotten</h3>
      <${Sheet} names=${['Situation', 'Taught answer']} rows=${texts.data.map((one) => [
    one.input ?? 'erased', html`<del>${one.right ?? 'erased'}</del>`])} />
      ${data.corrections.length > SHOWN && html`
        <p class="soft small">and ${plural(data.corrections.length - SHOWN, 'more correction')}</p>`}</section>`}
    ${data?.flips.length > 0 && html`<section><h3>What would be answered otherwise</h3>
      <${Flips} flips=${data.flips} before="Now" after="Then" />
      ${way[0] !== 'suppress' && html`<p class="soft small">At once. When the weights have followed, others may differ as well: they are then those
        of a memory that never saw it.</p>`}</section>`}
    <${Line} label="Reason (optional)" hint="Kept with the forgetting." maxlength="1000"
      value=${reason} onInput=${(event) => setReason(event.target.value)} />
    <${Fault} error=${forgetting.error} />
    ${data && html`<${Confirm} word=${bank} action=${way[1]} busy=${busy || forgetting.busy} onConfirm=${run} onCancel=${onClose} />`}
  <//>`;
}
