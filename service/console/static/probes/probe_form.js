// A probe set as it is written: a name, and questions each with the answer that is expected, or silence.
import * as api from '../api.js';
import { html, useRef, useState } from '../h.js';
import { Dialog } from '../parts/dialog.js';
import { useDeed, useFrame } from '../parts/frame.js';
import { Fault, Line } from '../parts/marks.js';
import { plural } from '../parts/words.js';

const MOST = 200; // questions of a set
const TAKEN = 20; // corrections that are taken at once

let last = 0;
const row = (input = '', expected = '') => ({ key: ++last, input, expected: expected ?? '' });

/** `given`: the set that is changed. */
export function ProbeForm({ given, onClose, onSaved }) {
  const { bank, changed, say } = useFrame();
  const [name, setName] = useState(given?.name || '');
  const [rows, setRows] = useState(given ? given.probes.map((one) => row(one.input, one.expected)) : [row()]);
  const list = useRef();
  const taking = useDeed();
  const saving = useDeed();
  const change = (key, part) => setRows((old) => old.map((one) => (one.key === key ? { ...one, ...part } : one)));
  const add = () => {
    setRows((old) => [...old, row()]);
    requestAnimationFrame(() => list.current?.lastElementChild?.querySelector('textarea').focus());
  };
  const take = async () => {
    const page = await taking.run(() => api.find(bank, { fits: (one) => one.status === 'active', wanted: TAKEN }));
    if (!page) return;
    setRows((old) => {
      const kept = old.filter((one) => one.input.trim());
      const asked = new Set(kept.map((one) => one.input.trim()));
      const fresh = page.items.filter((one) => one.input != null && !asked.has(one.input)).slice(0, TAKEN);
      return [...kept, ...fresh.map((one) => row(one.input, one.right))].slice(0, MOST);
    });
  };
  const probes = rows.filter((one) => one.input.trim()).map((one) => ({ input: one.input.trim(), expected: one.expected.trim() || null }));
  const submit = async (event) => {
    event.preventDefault();
    const set = { name: name.trim(), probes };
    const made = await saving.run(() => (given ? api.replaceProbeSet(bank, given, set) : api.saveProbeSet(bank, set)));
    if (!made) return;
    say(`Saved: ${made.name}`);
    changed();
    onClose();
    onSaved(made);
  };
  return html`<${Dialog} title=${given ? `Edit ${given.name}` : 'New probe set'} kind="large" onClose=${onClose}><form onSubmit=${submit}>
    <${Line} label="Name" required maxlength="128" autofocus value=${name} onInput=${(event) => setName(event.target.value)} />
    <ol class="probes" ref=${list}>${rows.map((one, place) => html`<li key=${one.key}>
      <${Line} label=${`Question ${place + 1}`} rows="1" maxlength="20000" value=${one.input}
        onInput=${(event) => change(one.key, { input: event.target.value })} />
      <${Line} label=${`Answer ${place + 1}`} rows="1" maxlength="20000" placeholder="silence" value=${one.expected}
        onInput=${(event) => change(one.key, { expected: event.target.value })} />
      <button type="button" class="quiet" aria-label=${`Take question ${place + 1} away`}
        onClick=${() => setRows((old) => old.filter((each) => each !== one))}>✕</button>
    </li>`)}</ol>
    <p class="hint">Without an answer, silence is expected: the memory should know nothing about it.</p>
    <div class="actions start">
      <button type="button" onClick=${add} disabled=${rows.length >= MOST}>Add a question</button>
      <button type="button" onClick=${take} disabled=${taking.busy || rows.length >= MOST}>Take the newest ${TAKEN} corrections</button>
    </div>
    <${Fault} error=${taking.error || saving.error} />
    <div class="actions">
      <span class="soft small">${plural(probes.length, 'question')}</span>
      <button class="main" disabled=${saving.busy || !probes.length}>${saving.busy ? 'Saving…' : 'Save'}</button></div>
  </form><//>`;
}
