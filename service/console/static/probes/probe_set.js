// One probe set: which versions it is asked of, and what they answer.
import * as api from '../api.js';
import { html, useState } from '../h.js';
import { Dialog, Sure } from '../parts/dialog.js';
import { useDeed, useFrame, useLoad } from '../parts/frame.js';
import { Busy, Fault } from '../parts/marks.js';
import { plural } from '../parts/words.js';
import { named, useVersions } from '../versions/choice.js';
import { Matrix } from './matrix.js';
import { ProbeForm } from './probe_form.js';

const MOST = 20; // versions at once

export function ProbeSet({ id }) {
  const { can, go } = useFrame();
  const { data: set, error } = useLoad(() => api.probeSet(id), [id]);
  const [open, setOpen] = useState(null); // 'edit' or 'remove'
  const close = () => setOpen(null);
  return html`
    <div class="head"><h1>${set ? set.name : 'Probes'}</h1>
      <div class="actions">
        <button type="button" class="quiet" onClick=${() => go('probes')}>All probe sets</button>
        ${set && can('snapshots:write') && html`<button type="button" onClick=${() => setOpen('edit')}>Edit…</button>
          <button type="button" class="danger" onClick=${() => setOpen('remove')}>Delete…</button>`}
      </div></div>
    <${Fault} error=${error} />
    ${!set && !error && html`<${Busy}>Loading…<//>`}
    ${set && !error && html`<${Run} set=${set} />`}
    ${open === 'edit' && html`<${ProbeForm} given=${set} onClose=${close} onSaved=${(made) => go('probes', made.id)} />`}
    ${open === 'remove' && html`<${Remove} set=${set} onClose=${close} />`}`;
}

/** What is asked at first: the present, and the newest version that somebody has named, else the newest one. */
function begin(versions) {
  const usable = versions.filter((one) => !one.tainted_by.length && !one.is_head);
  const other = usable.find((one) => one.label) || usable[0];
  return ['head', ...(other ? [other.id] : [])];
}

function Run({ set }) {
  const { versions, error } = useVersions();
  const [chosen, setChosen] = useState(null); // ids, once somebody has chosen
  const [ran, setRan] = useState(null);
  const running = useDeed();
  if (!versions) return html`<${Fault} error=${error} />`;
  const asked = chosen || begin(versions);
  const toggle = (id) => setChosen(asked.includes(id) ? asked.filter((one) => one !== id) : [...asked, id]);
  const order = [...[...versions].reverse().map((one) => one.id), 'head'].filter((id) => asked.includes(id)); // oldest first, now last
  const run = async (event) => {
    event.preventDefault();
    const told = await running.run(() => api.runProbeSet(set.id, order));
    if (told) setRan(told);
  };
  const choices = [['head', 'now', false], ...versions.map((one) => [one.id, named(one), one.tainted_by.length > 0])];
  return html`
    <form class="run" onSubmit=${run}>
      <fieldset><legend>Versions to ask, at most ${MOST}</legend><div class="versions">${choices.map(([id, name, tainted]) => html`
        <label key=${id} class="check"><input type="checkbox" checked=${asked.includes(id)} onChange=${() => toggle(id)}
          disabled=${tainted || (!asked.includes(id) && asked.length >= MOST)} />
          <span>${name}${tainted && html` <span class="soft small">holds what was forgotten</span>`}</span></label>`)}</div></fieldset>
      <p><button class="main" disabled=${!asked.length || running.busy}>${running.busy ? 'Asking…'
    : `Ask ${plural(set.size, 'question')} of ${plural(order.length, 'version')}`}</button></p>
    </form>
    <${Fault} error=${running.error} />
    ${ran && html`<${Matrix} set=${set} ran=${ran} nameOf=${(id) => (id === 'head' ? 'now' : named(versions.find((one) => one.id === id)))} />`}`;
}

function Remove({ set, onClose }) {
  const { changed, go, say } = useFrame();
  const removing = useDeed();
  const run = async () => {
    if (!(await removing.run(() => api.deleteProbeSet(set.id)))) return;
    say(`${set.name} is deleted.`);
    onClose();
    go('probes');
    changed();
  };
  return html`<${Dialog} title=${`Delete ${set.name}`} onClose=${onClose}>
    <p>Its ${plural(set.size, 'question')} are gone then. What the memory knows does not change.</p>
    <${Fault} error=${removing.error} />
    <${Sure} action="Delete it" busy=${removing.busy} onConfirm=${run} onCancel=${onClose} /><//>`;
}
