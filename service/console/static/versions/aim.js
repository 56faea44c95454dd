// Where a rollback leads, and what it keeps: the fields that ask for it, and what is sent of them.
import * as api from '../api.js';
import { called, NO_SOURCE, SourceFields } from '../forgetting/source.js';
import { html, useState } from '../h.js';
import { useFrame, useList, useSettled } from '../parts/frame.js';
import { Choice, Fault, Line } from '../parts/marks.js';
import { More } from '../parts/table.js';
import { plural, Time } from '../parts/words.js';
import { named, VersionChoice } from './choice.js';

const WAYS = [
  ['time', 'To a moment.', 'The memory is as it was then.'],
  ['source', 'Without a source.', 'As it is now, but as if a session or a key had never taught it.'],
  ['to', 'To a version.', 'The memory is as it was saved.'],
];
const KEPT = [
  ['none', 'Keep nothing else.', 'Just that state.'],
  ['after', 'Keep what came after.', 'And what was taught later, on top of it.'],
  ['chosen', 'Keep chosen corrections.', 'And those that you choose, on top of it.'],
];
const GONE = ['forgotten', 'quarantined'];

/** What nobody has answered yet; `to`: the version that was chosen already. */
export const unaimed = (to) => ({ way: to ? 'to' : 'time', to: to || null, time: '', source: NO_SOURCE, keep: 'none', chosen: new Map() });

/** What the service is asked for, or null while something is missing. */
export function requested({ way, to, time, source, keep, chosen }) {
  let where = null;
  if (way === 'to') where = to && { to: to.id };
  else if (way === 'time') where = time && { to_time: new Date(time).toISOString() };
  else if (source.session_id || source.key_id) where = { source };
  if (!where) return null;
  if (keep === 'after') return { ...where, keep: 'corrections_after' };
  return keep === 'chosen' && chosen.size ? { ...where, keep: [...chosen.keys()] } : where;
}

/** The same, as people say it. */
export function told({ way, to, time, source }) {
  if (way === 'source') return `without ${called(source)}`;
  return way === 'time' ? new Date(time).toLocaleString() : named(to);
}

/** `given`: the version was chosen before, so only what is kept is asked. */
export function AimFields({ aim, onAim, versions, given }) {
  const change = (part) => onAim((old) => ({ ...old, ...part }));
  const turn = (way) => change({ way, chosen: new Map(), ...(way === 'source' && aim.keep === 'after' ? { keep: 'none' } : {}) });
  const target = {
    time: html`<${Line} label="Moment" hint="In the time of this computer." type="datetime-local" step="1" value=${aim.time}
      onInput=${(event) => change({ time: event.target.value })} />`,
    source: html`<${SourceFields} value=${aim.source} onChange=${(source) => change({ source })} />`,
    to: html`<${VersionChoice} label="Version" saved value=${aim.to?.id ?? ''} versions=${versions}
      onChange=${(id) => change({ to: versions.find((one) => one.id === id), chosen: new Map() })}>
      ${!aim.to && html`<option value="">choose one</option>`}<//>`,
  };
  const kept = html`<${Choice} legend="And then" name="keep" ways=${KEPT.filter(([each]) => each !== 'after' || aim.way !== 'source')}
      value=${aim.keep} onChange=${(keep) => change({ keep })} />
    ${aim.keep === 'chosen' && html`<${Chooser} key=${aim.way} aim=${aim} onChoose=${(chosen) => change({ chosen })} />`}`;
  if (given) return html`<details class="choices"><summary>Keep something that came after</summary>${kept}</details>`;
  return html`
    <${Choice} legend="Where to" name="where" ways=${WAYS} value=${aim.way} onChange=${turn} />
    <div class="bench">${target[aim.way]}</div>
    ${requested(aim) && kept}`;
}

/** Whether a correction would leave, as far as a list tells. */
const leaves = ({ way, to, time, source }) => (one) => {
  if (GONE.includes(one.status)) return false;
  if (way === 'to') return one.seq > to.seq;
  if (way === 'time') return Date.parse(one.created_at) > Date.parse(time);
  return !source.session_id || one.session_id === source.session_id; // a list does not tell by which key
};

function Chooser({ aim, onChoose }) {
  const { bank } = useFrame();
  const [typed, setTyped] = useState('');
  const text = useSettled(typed);
  const where = JSON.stringify(requested({ ...aim, keep: 'none' }));
  const list = useList((cursor) => api.find(bank, { text, cursor, fits: leaves(aim), wanted: 20 }), [bank, text, where]);
  const toggle = (one) => {
    const next = new Map(aim.chosen);
    if (!next.delete(one.id)) next.set(one.id, one);
    onChoose(next);
  };
  return html`<section class="chooser" aria-label="Corrections to keep">
    <${Line} label="Find corrections that would leave" type="search" maxlength="256" value=${typed}
      onInput=${(event) => setTyped(event.target.value)} />
    <${Fault} error=${list.error} />
    <ul>${list.items.map((one) => html`<li key=${one.id}><label class="check">
      <input type="checkbox" checked=${aim.chosen.has(one.id)} onChange=${() => toggle(one)} />
      <span><span class="situation">${one.input}</span> <strong>${one.right}</strong>
        ${' '}<span class="soft small"><${Time} at=${one.created_at} /></span></span>
    </label></li>`)}</ul>
    ${!list.busy && !list.error && !list.items.length && html`<p class="soft">${text ? 'None that would leave fits.' : 'None would leave.'}</p>`}
    <${More} list=${list} what="corrections" />
    <p class="small" role="status">${aim.chosen.size ? `${plural(aim.chosen.size, 'correction')} kept.` : 'Nothing is chosen yet.'}</p>
  </section>`;
}
