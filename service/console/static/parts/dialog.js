// Dialogs: the browser keeps the focus inside and gives it back. And the two ways to ask whether somebody means it.
import { html, useId, useLayoutEffect, useRef, useState } from '../h.js';
import { Line } from './marks.js';

export function Dialog({ title, onClose, kind = '', children }) {
  const ref = useRef();
  const id = useId();
  const begin = () => (ref.current.querySelector('[autofocus]') || ref.current.querySelector('h2')).focus();
  useLayoutEffect(() => {
    const dialog = ref.current;
    const before = document.activeElement;
    dialog.showModal();
    begin();
    return () => {
      dialog.close();
      if (before?.isConnected) before.focus();
    };
  }, []);
  useLayoutEffect(() => {
    if (!ref.current.contains(document.activeElement)) begin(); // what had the focus left with the content before
  }, [title]);
  return html`
    <dialog ref=${ref} class=${kind} aria-labelledby=${id} onCancel=${(event) => {
      if (event.target !== ref.current) return; // a file field's own dialog was left
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

/** A second click for what is gone then, but can be made again. It takes the focus from the first, which has left. */
export function Sure({ action, busy, onConfirm, onCancel }) {
  const cancel = useRef();
  useLayoutEffect(() => cancel.current.focus(), []);
  return html`<div class="actions">
    <button type="button" class="quiet" ref=${cancel} onClick=${onCancel}>Cancel</button>
    <button type="button" class="danger" disabled=${busy} onClick=${onConfirm}>${busy ? 'Working…' : action}</button>
  </div>`;
}
