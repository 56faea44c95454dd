// Small things that all pages show: marks of state, bars, faults, fields, answers.
import { html, useId } from '../h.js';
import { Sheet } from './table.js';
import { percent, words } from './words.js';

const TONE = {
  active: 'good',
  succeeded: 'good',
  delivered: 'good',
  superseded: 'soft',
  rolled_back: 'soft',
  quarantined: 'busy',
  canceled: 'soft',
  forgotten: 'bad',
  failed: 'bad',
  running: 'busy',
  queued: 'busy',
  pending: 'busy',
};
export const Chip = ({ name, tone }) => html`<span class=${`chip ${tone || TONE[name] || 'soft'}`}>${words(name)}</span>`;

/** A share of one as a bar with its figure. */
export const Bar = ({ share, label, figure = percent(share), tone = '' }) => html`
  <span class="bar" role="meter" aria-label=${label} aria-valuemin="0" aria-valuemax="1" aria-valuenow=${Math.min(1, share).toFixed(2)}
    aria-valuetext=${figure}>
    <span class="track"><span class=${`fill ${tone}`} style=${{ width: `${100 * Math.min(1, share)}%` }}></span></span>
    <span class="figure" aria-hidden="true">${figure}</span>
  </span>`;

/** Where nothing is yet: what could be, and what it would be for. `children` may hold the button that begins it. */
export const Empty = ({ children }) => html`<div class="empty">${children}</div>`;

const ADVICE = { // what to do, where the service's own words do not say it
  unreachable: 'Look whether it runs, then try again.',
  internal: 'Tell whoever runs the service the number of the request.',
};

/** What went wrong, in the service's own words, and what to do about it. */
export const Fault = ({ error, children }) =>
  error &&
  html`<div class="fault" role="alert"><strong>${words(error.code || 'error').replaceAll('-', ' ')}.</strong> ${error.message} ${ADVICE[error.code]}
  ${children}${error.requestId && html` <span class="soft">Request ${error.requestId}</span>`}</div>`;

/** Said while something is asked for. */
export const Busy = ({ children }) => html`<p class="soft" role="status">${children}</p>`;

/** A label above its field; `children` is a function of the field's id. */
export function Field({ label, hint, children }) {
  const id = useId();
  return html`<div class="field"><label for=${id}>${label}</label>${children(id)}${hint && html`<p class="hint">${hint}</p>`}</div>`;
}

/** A field of one line, or of several with `rows`; what else is given goes to the element. */
export const Line = ({ label, hint, rows, ...given }) => html`<${Field} label=${label} hint=${hint}>${(id) =>
  rows ? html`<textarea id=${id} rows=${rows} ...${given}></textarea>` : html`<input id=${id} autocomplete="off" ...${given} />`}<//>`;

/** One of several, each with its word and what it means: `ways` is [[value, word, meaning]]. */
export const Choice = ({ legend, name, ways, value, onChange }) => html`<fieldset><legend>${legend}</legend>${ways.map(([way, word, meaning]) => html`
  <label class="choice"><input type="radio" name=${name} checked=${value === way} onChange=${() => onChange(way)} />
    <span><strong>${word}</strong> ${meaning}</span></label>`)}</fieldset>`;

/** Names and what they are; without what is not there. */
export const Pairs = ({ of }) => html`<dl class="pairs">${of.map(([name, value]) =>
  value != null && value !== false && html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;

/** Places within a page: [[address, title]]; `here` is the address of the one that is shown. */
export const Tabs = ({ label, places, here }) => html`<nav class="tabs" aria-label=${label}><ul>${places.map(([href, title]) => html`<li>
  <a href=${href} aria-current=${href === here ? 'page' : undefined}>${title}</a></li>`)}</ul></nav>`;

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
