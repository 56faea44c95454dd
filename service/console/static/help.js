// Keys and what they do; the theme.
import { html, useState } from './h.js';
import { Dialog } from './parts/dialog.js';

const OFF = 'palimpsest-no-letters';
const isOff = () => localStorage.getItem(OFF) === '1';

/** Single letters as commands, where nobody is typing and no dialog is open. `commands.g` are those after a g. The function ends it. */
export function letters(commands) {
  let after = 0; // until when a letter belongs to the g before it
  const press = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isOff()) return;
    if (event.target.closest('input, textarea, select') || document.querySelector('dialog[open]')) return;
    const command = Date.now() < after ? commands.g[event.key] : commands[event.key];
    after = event.key === 'g' && Date.now() >= after ? Date.now() + 1200 : 0;
    if (typeof command !== 'function') return;
    event.preventDefault();
    event.stopPropagation();
    command();
  };
  document.addEventListener('keydown', press, true); // before a table takes j or k for itself
  return () => document.removeEventListener('keydown', press, true);
}

/** From what the system says to light, to dark, and round; tells which it is now. */
export function nextTheme() {
  const root = document.documentElement;
  const next = { undefined: 'light', light: 'dark', dark: undefined }[root.dataset.theme];
  if (next) {
    root.dataset.theme = next;
    localStorage.setItem('palimpsest-theme', next);
  } else {
    delete root.dataset.theme;
    localStorage.removeItem('palimpsest-theme');
  }
  window.dispatchEvent(new Event('themechange'));
  return next || 'as the system';
}

export function Help({ pages, onClose }) {
  const [off, setOff] = useState(isOff());
  const turn = () => {
    if (off) localStorage.removeItem(OFF);
    else localStorage.setItem(OFF, '1');
    setOff(!off);
  };
  const rows = [
    ...pages.map(([, title, letter]) => [['g', letter], title]),
    [['t'], 'Teach a correction'],
    [['/'], 'Search, or ask'],
    [['?'], 'This help'],
    [['↑', '↓'], 'Through a table, as do j and k'],
    [['Enter'], 'Open the row'],
    [['Space'], 'Mark the row, as does x'],
    [['Esc'], 'Close'],
  ];
  return html`<${Dialog} title="Keys" onClose=${onClose}>
    <dl class="shortcuts">${rows.map(([keys, told]) => html`<dt>${keys.map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${told}</dd>`)}</dl>
    <label class="check"><input type="checkbox" checked=${!off} onChange=${turn} /> Single letters are commands</label>
    <p class="soft small">All that the console does is in the <a href="/docs">API</a> as well.</p>
  <//>`;
}
