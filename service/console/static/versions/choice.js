// How versions are called, and the field that chooses one.
import * as api from '../api.js';
import { html } from '../h.js';
import { useFrame, useLoad } from '../parts/frame.js';
import { Field } from '../parts/marks.js';
import { number, words } from '../parts/words.js';

/** What people call a snapshot. */
export const named = (snapshot) => (snapshot ? snapshot.label || `${words(snapshot.kind)} at ${number(snapshot.seq)}` : 'unknown');

/** The newest versions, to choose from; none for a key that may not see them. */
export function useVersions() {
  const { bank, can } = useFrame();
  const { data, error } = useLoad(async () => (can('snapshots:read') ? (await api.snapshots(bank, { limit: 100 })).items : []), [bank]);
  return { versions: data, error, nameOf: (id) => (id === 'head' ? 'Now' : named(data?.find((one) => one.id === id))) };
}

/** A choice among the present (unless `saved` ones alone are meant) and what was saved; what holds forgotten corrections cannot be chosen. */
export const VersionChoice = ({ label, hint, value, versions, onChange, saved = false, children }) => html`
  <${Field} label=${label} hint=${hint}>${(id) => html`<select id=${id} value=${value} onChange=${(event) => onChange(event.target.value)}>
    ${!saved && html`<option value="head">now</option>`}
    ${versions.map((one) => html`<option value=${one.id} disabled=${one.tainted_by.length > 0}>${named(one)}</option>`)}
    ${children}
  </select>`}<//>`;
