// What all pages are made of: loading, tables one walks with the keyboard, dialogs, small marks of state.
import { createContext, html, useCallback, useContext, useEffect, useId, useLayoutEffect, useRef, useState } from './h.js';

// ---- the frame that pages stand in

export const Frame = createContext(null); // {me, bank, banks, can, say, changed, tick, go, openTeach}
export const useFrame = () => useContext(Frame);

/** What `load` gives, again whenever `deps` or the bank's content change; old content stays until new content is there. */
export function useLoad(load, deps) {
  const { tick } = useFrame();
  const [state, setState] = useState({ data: null, error: null, busy: true });
  const [again, setAgain] = useState(0);
  useEffect(() => {
    let gone = false;
    setState((old) => ({ ...old, busy: true }));
    load().then(
      (data) => gone || setState({ data, error: null, busy: false }),
      (error) => gone || setState((old) => ({ ...old, error, busy: false })),
    );
    return () => {
      gone = true;
    };
  }, [...deps, tick, again]);
  return { ...state, reload: useCallback(() => setAgain((n) => n + 1), []) };
}

/** A list by pages: {items, more} and `next()` for the page after. */
export function useList(fetchPage, deps) {
  const { tick } = useFrame();
  const [state, setState] = useState({ items: [], cursor: null, looked: 0, busy: true, error: null });
  const turn = useRef(0);
  const load = async (cursor, kept) => {
    const mine = ++turn.current;
    setState((old) => ({ ...old, busy: true }));
    try {
      const page = await fetchPage(cursor);
      if (mine !== turn.current) return;
      setState((old) => ({
        items: [...kept, ...page.items],
        cursor: page.next_cursor,
        looked: (cursor ? old.looked : 0) + (page.looked || 0),
        busy: false,
        error: null,
      }));
    } catch (error) {
      if (mine === turn.current) setState((old) => ({ ...old, busy: false, error }));
    }
  };
  useEffect(() => {
    load(null, []);
  }, [...deps, tick]);
  return { ...state, next: () => load(state.cursor, state.items) };
}

export function useEvery(ms, active, work) {
  const latest = useRef(work);
  latest.current = work;
  useEffect(() => {
    if (!active) return undefined;
    const timer = setInterval(() => latest.current(), ms);
    return () => clearInterval(timer);
  }, [ms, active]);
}

/** Something that may fail: {busy, error, run}. `run(work)` gives what the work gives, and undefined if it failed. */
export function useDeed() {
  const [state, setState] = useState({ busy: false, error: null });
  const run = async (work) => {
    setState({ busy: true, error: null });
    try {
      const done = await work();
      setState({ busy: false, error: null });
      return done;
    } catch (error) {
      setState({ busy: false, error });
      return undefined;
    }
  };
  return { ...state, run };
}

/** Copies a text and says so; a browser may refuse that over plain http. */
export async function copy(text, told, say) {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied: ${told}`);
  } catch {
    say('This browser does not let the console copy; select the text.');
  }
}

/** Lets the browser keep a thing as a file of JSON. */
export function download(name, thing) {
  const href = URL.createObjectURL(new Blob([JSON.stringify(thing, null, 1)], { type: 'application/json' }));
  Object.assign(document.createElement('a'), { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

// ---- words and numbers

export const number = (value, digits) => new Intl.NumberFormat('en', { maximumSignificantDigits: digits }).format(value);
export const percent = (share) => `${Math.round(100 * share)} %`;
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
export function size(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let power = 0;
  while (bytes >= 1024 && power < 3) {
    bytes /= 1024;
    power += 1;
  }
  return `${power ? bytes.toFixed(1) : bytes} ${units[power]}`;
}
export const words = (name) => name.replaceAll('_', ' ');

const RELATIVE = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
const UNITS = [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]];

/** A time as people say it; the whole of it when pointed at. */
export function Time({ at }) {
  if (!at) return null;
  const seconds = (Date.parse(at) - Date.now()) / 1000;
  const [unit, length] = UNITS.find(([, one]) => Math.abs(seconds) >= one) || UNITS[3];
  let said = RELATIVE.format(Math.round(seconds / length), unit);
  if (Math.abs(seconds) < 5) said = 'just now';
  if (Math.abs(seconds) > 30 * 86400) said = new Date(at).toLocaleDateString('en', { dateStyle: 'medium' });
  return html`<time datetime=${at} title=${new Date(at).toLocaleString()}>${said}</time>`;
}

/** An id or digest, short, to be copied whole. */
export function Code({ value, keep = 12 }) {
  const { say } = useFrame();
  if (!value) return html`<span class="soft">none</span>`;
  let short = value;
  if (value.length > keep) short = /^[a-z]+_/.test(value) ? `${value.split('_')[0]}_…${value.slice(-6)}` : `${value.slice(0, keep)}…`;
  return html`<button type="button" class="code" title=${`Copy ${value}`} onClick=${() => copy(value, short, say)}>${short}</button>`;
}

const TONE = {
  active: 'good',
  succeeded: 'good',
  superseded: 'soft',
  rolled_back: 'soft',
  quarantined: 'busy',
  canceled: 'soft',
  forgotten: 'bad',
  failed: 'bad',
  running: 'busy',
  queued: 'busy',
};
export const Chip = ({ name, tone }) => html`<span class=${`chip ${tone || TONE[name] || 'soft'}`}>${words(name)}</span>`;

/** A share of one as a bar with its figure. */
export const Bar = ({ share, label, figure = percent(share), tone = '' }) => html`
  <span class="bar" role="meter" aria-label=${label} aria-valuemin="0" aria-valuemax="1" aria-valuenow=${Math.min(1, share).toFixed(2)}
    aria-valuetext=${figure}>
    <span class="track"><span class=${`fill ${tone}`} style=${{ width: `${100 * Math.min(1, share)}%` }}></span></span>
    <span class="figure" aria-hidden="true">${figure}</span>
  </span>`;

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;
export const Fault = ({ error }) =>
  error &&
  html`<p class="fault" role="alert"><strong>${words(error.code || 'error')}.</strong> ${error.message}
  ${error.requestId && html` <span class="soft">Request ${error.requestId}</span>`}</p>`;

/** A label above its field; `children` is a function of the field's id. */
export function Field({ label, hint, children }) {
  const id = useId();
  return html`<div class="field"><label for=${id}>${label}</label>${children(id)}${hint && html`<p class="hint">${hint}</p>`}</div>`;
}

/** A field of one line, or of several with `rows`; what else is given goes to the element. */
export const Line = ({ label, hint, rows, ...given }) => html`<${Field} label=${label} hint=${hint}>${(id) =>
  rows ? html`<textarea id=${id} rows=${rows} ...${given}></textarea>` : html`<input id=${id} autocomplete="off" ...${given} />`}<//>`;

/** Names and what they are; without what is not there. */
export const Pairs = ({ of }) => html`<dl class="pairs">${of.map(([name, value]) =>
  value != null && value !== false && html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;

// ---- dialogs: the browser keeps the focus inside and gives it back

export function Dialog({ title, onClose, kind = '', children }) {
  const ref = useRef();
  const id = useId();
  useLayoutEffect(() => {
    const dialog = ref.current;
    const before = document.activeElement;
    dialog.showModal();
    (dialog.querySelector('[autofocus]') || dialog.querySelector('h2')).focus();
    return () => {
      dialog.close();
      if (before?.isConnected) before.focus();
    };
  }, []);
  return html`
    <dialog ref=${ref} class=${kind} aria-labelledby=${id} onCancel=${(event) => {
      event.preventDefault();
      onClose();
    }}
      onClick=${(event) => event.target === ref.current && onClose()}>
      <div class="inside">
        <header><h2 id=${id} tabindex="-1">${title}</h2>
          <button type="button" class="quiet" onClick=${onClose} aria-label="Close">✕</button></header>
        ${children}
      </div>
    </dialog>`;
}

/** The given word has to be typed before something that must not be done by accident. */
export function Confirm({ word, action, busy, onConfirm, onCancel }) {
  const [typed, setTyped] = useState('');
  const ready = typed.trim() === word && !busy;
  const submit = (event) => {
    event.preventDefault();
    if (ready) onConfirm();
  };
  return html`<form class="confirm" onSubmit=${submit}>
    <${Line} label=${html`Type <strong>${word}</strong> to confirm`} spellcheck=${false} value=${typed}
      onInput=${(event) => setTyped(event.target.value)} />
    <div class="actions">
      <button type="button" class="quiet" onClick=${onCancel}>Cancel</button>
      <button class="danger" disabled=${!ready}>${busy ? 'Working…' : action}</button>
    </div>
  </form>`;
}

// ---- tables: one stop for Tab, arrows between rows, Enter to open, Space to mark. Roles are said aloud because on a phone rows become blocks.

export function Table({ label, columns, rows, onOpen, marked, onMark }) {
  const [place, setPlace] = useState(0);
  const body = useRef();
  const here = Math.min(place, rows.length - 1);
  const move = (to) => {
    const next = Math.max(0, Math.min(rows.length - 1, to));
    setPlace(next);
    body.current.children[next]?.focus();
  };
  const keydown = (event, row) => {
    if (event.target.tagName !== 'TR') return;
    const steps = { ArrowDown: here + 1, j: here + 1, ArrowUp: here - 1, k: here - 1, Home: 0, End: rows.length - 1 };
    if (event.key in steps) move(steps[event.key]);
    else if (event.key === 'Enter' && onOpen) onOpen(row);
    else if ((event.key === ' ' || event.key === 'x') && onMark) onMark(row);
    else return;
    event.preventDefault();
  };
  const click = (event, row) => onOpen && !event.target.closest('button, input, a') && onOpen(row);
  return html`<div class="scroll"><table role="grid" aria-label=${label} aria-multiselectable=${onMark ? 'true' : undefined}>
    <thead role="rowgroup"><tr role="row">
      ${onMark && html`<th role="columnheader" class="tick"><span class="unseen">Marked</span></th>`}
      ${columns.map((column) => html`<th role="columnheader" class=${column.class || ''}>${column.name || html`<span class="unseen">To do</span>`}</th>`)}
    </tr></thead>
    <tbody ref=${body} role="rowgroup">${rows.map((row, index) => html`
      <tr key=${row.id} role="row" class=${onOpen ? 'opens' : ''} tabindex=${index === here ? 0 : -1}
        aria-selected=${onMark && String(marked.has(row.id))} onFocus=${() => setPlace(index)} onKeyDown=${(event) => keydown(event, row)} onClick=${(event) => click(event, row)}>
        ${onMark && html`<td role="gridcell" class="tick"><input type="checkbox" tabindex="-1" checked=${marked.has(row.id)} aria-label=${`Mark ${row.id}`}
          onChange=${() => onMark(row)} /></td>`}
        ${columns.map((column) => html`<td role="gridcell" class=${column.class || ''} data-name=${column.name}>${column.show(row)}</td>`)}
      </tr>`)}</tbody>
  </table></div>`;
}

export const More = ({ list, what }) => list.cursor && html`<p class="more">
  <button type="button" onClick=${list.next} disabled=${list.busy}>${list.busy ? 'Loading…' : `More ${what}`}</button></p>`;

/** A table to be read: names of columns, rows of cells. */
export const Sheet = ({ names, rows }) => html`<div class="scroll"><table class="sheet">
  <thead><tr>${names.map((name) => html`<th>${name}</th>`)}</tr></thead>
  <tbody>${rows.map((cells) => html`<tr>${cells.map((cell, place) => html`<td data-name=${names[place]}>${cell}</td>`)}</tr>`)}</tbody>
</table></div>`;

/** Situations whose answer differs: struck through what it was, then what it is. */
export const Flips = ({ flips, before, after }) => html`<${Sheet} names=${['Situation', before, after]} rows=${flips.map((flip) => [
  flip.input, html`<del>${flip.before?.value ?? 'silence'}</del>`, html`<ins>${flip.after?.value ?? 'silence'}</ins>`])} />`;

/** What a version says to a situation. */
export const Said = ({ cell }) => html`
  ${cell.abstained && html`<p class="silence">It would stay silent${cell.value == null ? '.' : '; its best guess:'}</p>`}
  ${cell.value != null && html`<div class=${cell.abstained ? 'answer lesser' : 'answer'}><p class="said">${cell.value}</p>
    <${Bar} share=${cell.confidence} tone=${cell.abstained ? 'dim' : ''} label=${`Confidence in ${cell.value}`} /></div>`}`;

/** How far a job is. */
export const Progress = ({ job }) => (job ? html`<span class="progress">
  <progress max="1" value=${job.progress} aria-label=${`Progress of the ${job.kind}`}></progress><${Chip} name=${job.status} /></span>` : '…');
