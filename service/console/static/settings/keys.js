// API keys: mint one, see it once, revoke it.
import * as api from '../api.js';
import { html, useState } from '../h.js';
import { Confirm, Dialog } from '../parts/dialog.js';
import { useDeed, useFrame, useList } from '../parts/frame.js';
import { Chip, Fault, Line } from '../parts/marks.js';
import { More, Table } from '../parts/table.js';
import { copy, Time } from '../parts/words.js';

const SCOPES = ['recall:read', 'corrections:write', 'memory:inspect', 'snapshots:read', 'snapshots:write', 'rollback', 'forget', 'erase', 'admin'];

function state(key) {
  if (key.revoked_at) return 'revoked';
  return key.expires_at && Date.parse(key.expires_at) <= Date.now() ? 'expired' : 'active';
}

export function Keys() {
  const { me, banks } = useFrame();
  const list = useList((cursor) => api.keys({ cursor }), []);
  const [minting, setMinting] = useState(false);
  const [revoking, setRevoking] = useState(null);
  const within = (ids) => ` in ${ids.map((id) => banks.find((bank) => bank.id === id)?.name || id).join(', ')}`;
  return html`
    <div class="head"><p class="soft">Give every agent and every person a key of their own, with no more rights than they need.</p>
      <button type="button" class="main" onClick=${() => setMinting(true)}>Mint a key</button></div>
    <${Fault} error=${list.error} />
    ${list.items.length > 0 && html`<${Table} label="Keys" rows=${list.items} columns=${[
    { name: 'Name', class: 'wide', show: (row) => html`
      <span>${row.name}${row.id === me.key_id && html` <span class="soft small">(yours)</span>`}</span>` },
    { name: 'Begins with', show: (row) => html`<code>${row.prefix}</code>` },
    { name: 'May', class: 'wide', show: (row) => html`<span class="small">${row.scopes.join(', ')}${row.banks && within(row.banks)}</span>` },
    { name: 'State', show: (row) => html`<${Chip} name=${state(row)} tone=${state(row) === 'active' ? 'good' : 'bad'} />` },
    { name: 'Last used', class: 'when', show: (row) => html`<${Time} at=${row.last_used_at} />` },
    { name: '', show: (row) => state(row) === 'active' && html`
      <button type="button" onClick=${() => setRevoking(row)} aria-label=${`Revoke ${row.name}`}>Revoke…</button>` },
  ]} />`}
    <${More} list=${list} what="keys" />
    ${minting && html`<${Mint} onClose=${() => setMinting(false)} />`}
    ${revoking && html`<${Revoke} one=${revoking} mine=${revoking.id === me.key_id} onClose=${() => setRevoking(null)} />`}`;
}

function Mint({ onClose }) {
  const { changed, say } = useFrame();
  const [minted, setMinted] = useState(null);
  const minting = useDeed();
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const made = await minting.run(() => api.mintKey({ name: form.get('name'), scopes: form.getAll('scope') }));
    if (!made) return;
    setMinted(made);
    changed();
  };
  if (minted) {
    return html`<${Dialog} title="Your new key" onClose=${onClose}>
      <p>It is shown this once and kept nowhere.</p><pre class="secret">${minted.key}</pre>
      <div class="actions">
        <button type="button" onClick=${() => copy(minted.key, 'the key', say)}>Copy</button>
        <button type="button" class="main" autofocus onClick=${onClose}>Done</button>
      </div><//>`;
  }
  return html`<${Dialog} title="Mint a key" onClose=${onClose}><form onSubmit=${submit}>
    <${Line} label="Name" name="name" required maxlength="128" autofocus />
    <fieldset><legend>It may</legend><div class="scopes">${SCOPES.map((scope) => html`
      <label class="check"><input type="checkbox" name="scope" value=${scope} /> <code>${scope}</code></label>`)}</div></fieldset>
    <${Fault} error=${minting.error} />
    <div class="actions"><button class="main" disabled=${minting.busy}>Mint a key</button></div>
  </form><//>`;
}

function Revoke({ one, mine, onClose }) {
  const { changed, say } = useFrame();
  const revoking = useDeed();
  const run = async () => {
    if (!(await revoking.run(() => api.revokeKey(one.id)))) return;
    say(`${one.name} is revoked.`);
    changed();
    onClose();
  };
  return html`<${Dialog} title=${`Revoke ${one.name}`} onClose=${onClose}>
    <p>Whoever uses this key is refused from now on, and a console that was signed in with it is signed out.
      ${mine && html` <strong>It is the key that you are signed in with.</strong>`}</p>
    <${Fault} error=${revoking.error} />
    <${Confirm} word=${one.name} action="Revoke" busy=${revoking.busy} onConfirm=${run} onCancel=${onClose} />
  <//>`;
}
