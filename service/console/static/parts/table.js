// Tables that one walks with the keyboard: one stop for Tab, arrows between rows, Enter to open, Space to mark.
import { html, useRef, useState } from '../h.js';

/** Roles are said aloud because on a phone rows become blocks. `columns`: [{name, show, class}]. */
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
      ${columns.map((column) => html`<th role="columnheader" class=${column.class || ''}>
        ${column.name || html`<span class="unseen">To do</span>`}</th>`)}
    </tr></thead>
    <tbody ref=${body} role="rowgroup">${rows.map((row, index) => html`
      <tr key=${row.id} role="row" class=${onOpen ? 'opens' : ''} tabindex=${index === here ? 0 : -1}
        aria-selected=${onMark && String(marked.has(row.id))} onFocus=${() => setPlace(index)} onKeyDown=${(event) => keydown(event, row)}
        onClick=${(event) => click(event, row)}>
        ${onMark && html`<td role="gridcell" class="tick"><input type="checkbox" tabindex="-1" checked=${marked.has(row.id)}
          aria-label=${`Mark ${row.id}`} onChange=${() => onMark(row)} /></td>`}
        ${columns.map((column) => html`<td role="gridcell" class=${column.class || ''} data-name=${column.name}>${column.show(row)}</td>`)}
      </tr>`)}</tbody>
  </table></div>`;
}

export const More = ({ list, what }) => list.cursor && html`<p class="more">
  <button type="button" onClick=${list.next} disabled=${list.busy}>${list.busy ? 'Loading…' : `More ${what}`}</button></p>`;

/** A table to be read: names of columns, rows of cells. On a phone each row is a block. */
export const Sheet = ({ names, rows }) => html`<div class="scroll"><table class="sheet">
  <thead><tr>${names.map((name) => html`<th>${name}</th>`)}</tr></thead>
  <tbody>${rows.map((cells) => html`<tr>${cells.map((cell, place) => html`<td data-name=${names[place]}>${cell}</td>`)}</tr>`)}</tbody>
</table></div>`;
