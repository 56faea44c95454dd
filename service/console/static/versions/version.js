// One version in a drawer: what it is, whether its bytes hold, and giving it up.
import * as api from '../api.js';
import { html, useState } from '../h.js';
import { Dialog, Sure } from '../parts/dialog.js';
import { useDeed, useFrame } from '../parts/frame.js';
import { Chip, Fault, Pairs } from '../parts/marks.js';
import { Sheet } from '../parts/table.js';
import { Code, number, plural, size, Time, words } from '../parts/words.js';
import { named } from './choice.js';

const DIGEST = /^[0-9a-f]{64}$/;

export function Version({ one, onClose }) {
  const { bank, can, changed, say } = useFrame();
  const [verified, setVerified] = useState(null);
  const [leaving, setLeaving] = useState(false);
  const verifying = useDeed();
  const deleting = useDeed();
  const verify = async () => setVerified((await verifying.run(() => api.verifySnapshot(bank, one.id))) || null);
  const remove = async () => {
    if (!(await deleting.run(() => api.deleteSnapshot(bank, one.id)))) return;
    say(`${named(one)} is deleted.`);
    changed();
    onClose();
  };
  const deletable = can('snapshots:write') && !one.is_head && !one.pinned && one.kind !== 'genesis';
  return html`<${Dialog} title=${named(one)} kind="drawer" onClose=${onClose}>
    ${one.note && html`<p>${one.note}</p>`}
    <${Pairs} of=${[
    ['Kind', words(one.kind)],
    ['Saved', html`<${Time} at=${one.created_at} />, ${new Date(one.created_at).toLocaleString()}`],
    ['By', html`<${Code} value=${one.created_by} />`],
    ['In its weights', plural(one.corrections, 'correction')],
    ['Ledger up to', number(one.seq)],
    ['Grew from', one.parent && html`<${Code} value=${one.parent} keep=${40} />`],
    ['Id', html`<${Code} value=${one.id} keep=${40} />`],
    ['Digest', html`<${Code} value=${one.digest} keep=${24} />`],
    ['Holds what was forgotten', one.tainted_by.length > 0 && html`${one.tainted_by.slice(0, 10).map((id) => html`<${Code} value=${id} /> `)}
      so nobody can go back to it, or ask it`],
  ]} />
    ${one.levels.length > 0 && html`<section><h3>Levels</h3><${Sheet} names=${['Level', 'Size', 'Digest']} rows=${one.levels.map((level) => [
    words(level.name), size(level.bytes), html`<${Code} value=${level.sha256} keep=${16} />`])} /></section>`}
    <section><h3>Does it hold?</h3>
      ${verified ? html`<p role="status"><${Chip} name=${verified.ok ? 'holds' : 'broken'} tone=${verified.ok ? 'good' : 'bad'} />
        ${verified.ok ? ' Its bytes, its part of the ledger and a load of it are as they should be.'
    : html` <strong>Do not go back to it.</strong> Nothing that was learned is lost: the ledger has it.`}</p>
        <${Sheet} names=${['Looked at', 'Found']} rows=${verified.checks.map((check) => [words(check.name),
    html`<${Chip} name=${check.ok ? 'good' : 'bad'} tone=${check.ok ? 'good' : 'bad'} /> ${DIGEST.test(check.detail)
    ? html`<${Code} value=${check.detail} keep=${16} />` : check.detail}`])} />`
    : html`<p class="soft small">Reads its bytes and every row of the ledger that it covers, and loads it.</p>`}
      <${Fault} error=${verifying.error} />
      <p><button type="button" onClick=${verify} disabled=${verifying.busy}>${verifying.busy ? 'Reading…' : 'Verify'}</button></p></section>
    ${deletable && html`<section><h3>Give it up</h3>
      <${Fault} error=${deleting.error} />
      ${leaving ? html`<p>Its weights go for good. Nothing that was learned is lost: the ledger has it.</p>
        <${Sure} action="Delete it" busy=${deleting.busy} onConfirm=${remove} onCancel=${() => setLeaving(false)} />`
    : html`<p><button type="button" class="danger" onClick=${() => setLeaving(true)}>Delete…</button></p>`}</section>`}
    ${one.pinned && can('snapshots:write') && html`<p class="soft small">It is pinned. Unpin it to delete it.</p>`}
  <//>`;
}
