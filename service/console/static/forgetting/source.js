// A source of corrections, a session or a key: how it is called, and the fields that ask for one.
import * as api from '../api.js';
import { html } from '../h.js';
import { useFrame, useLoad } from '../parts/frame.js';
import { Field, Line } from '../parts/marks.js';
import { plural } from '../parts/words.js';

/** What a quarantine holds, or what is forgotten, as people call it. */
export function called(source) {
  if (source.session_id) return `session ${source.session_id}`;
  return source.key_id ? `key ${source.key_id}` : plural(source.corrections.length, 'correction');
}

export const NO_SOURCE = { session_id: '' };

/** `value` is {session_id} or {key_id}, a blank one while nothing is chosen. Keys by name where the key may see them. */
export function SourceFields({ value, onChange }) {
  const { bank, can, me } = useFrame();
  const kind = 'key_id' in value ? 'key_id' : 'session_id';
  const keys = useLoad(async () => (can('admin') && !me.banks ? (await api.keys({ limit: 200 })).items : null), []);
  const open = useLoad(async () => (can('memory:inspect') ? (await api.sessions(bank)).items : []), [bank]);
  const choose = (id) => onChange({ [kind]: id });
  return html`
    <${Field} label="All that was taught by">${(id) => html`
      <select id=${id} value=${kind} onChange=${(event) => onChange({ [event.target.value]: '' })}>
        <option value="session_id">a session</option><option value="key_id">a key</option></select>`}<//>
    ${kind === 'key_id' && keys.data ? html`<${Field} key="chosen" label="Key">${(id) => html`
      <select id=${id} value=${value.key_id} required onChange=${(event) => choose(event.target.value)}>
        <option value="">choose one</option>
        ${keys.data.map((one) => html`<option value=${one.id}>${one.name} (${one.prefix}…)</option>`)}</select>`}<//>`
    : html`<${Line} key=${kind} label=${kind === 'key_id' ? 'Id of the key' : 'Name of the session'} required maxlength="128" spellcheck=${false}
      list=${kind === 'session_id' ? 'open-sessions' : undefined} value=${value[kind]} onInput=${(event) => choose(event.target.value.trim())} />`}
    <datalist id="open-sessions">${(open.data || []).map((one) => html`<option value=${one.id}></option>`)}</datalist>`;
}
