// Numbers, times and ids as people say and take them.
import { html } from '../h.js';
import { useFrame } from './frame.js';

export const number = (value, digits) => new Intl.NumberFormat('en', { maximumSignificantDigits: digits }).format(value);
export const percent = (share) => `${Math.round(100 * share)} %`;
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
/** How many corrections were asked, and of how many those are a sample. */
export const asked = ({ probes, probes_of: all }) => `${plural(probes, 'correction')} asked${all > probes ? `, a sample of ${number(all)}` : ''}`;
export const words = (name) => name.replaceAll('_', ' ');

export function size(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let power = 0;
  while (bytes >= 1024 && power < 3) {
    bytes /= 1024;
    power += 1;
  }
  return `${power ? bytes.toFixed(1) : bytes} ${units[power]}`;
}

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

/** Copies a text and says so; a browser may refuse that over plain http. */
export async function copy(text, told, say) {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied: ${told}`);
  } catch {
    say('This browser does not let the console copy; select the text.');
  }
}

/** Lets the browser keep bytes as a file. */
export function keep(name, blob) {
  const href = URL.createObjectURL(blob);
  Object.assign(document.createElement('a'), { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

/** The same of a thing, as JSON. */
export const download = (name, thing) => keep(name, new Blob([JSON.stringify(thing, null, 1)], { type: 'application/json' }));
