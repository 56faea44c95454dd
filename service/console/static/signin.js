// The key is sent once, in a header; what stays is a cookie that no script can read.
import * as api from './api.js';
import { html, useEffect, useRef, useState } from './h.js';
import { Fault } from './parts/marks.js';

export function SignIn({ onSignedIn }) {
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const box = useRef();
  useEffect(() => box.current.focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    const field = event.target.elements.key;
    const key = field.value.trim();
    field.value = '';
    if (!/^[\x21-\x7e]+$/.test(key)) {
      setError({ code: 'not a key', message: 'A key has no spaces and no letters outside ASCII.' });
      return;
    }
    setBusy(true);
    try {
      await api.signIn(key);
      await onSignedIn();
    } catch (problem) {
      const refused = { code: 'refused', message: 'Nobody has this key, or it was revoked, or it has expired.' };
      setError(problem.status === 401 ? refused : problem);
      setBusy(false);
      field.focus();
    }
  };
  return html`<main class="alone">
    <form class="sign-in" onSubmit=${submit}>
      <p class="brand" aria-hidden="true">Palimpsest</p>
      <h1>Sign in to the console</h1>
      <label for="key">API key</label>
      <input id="key" name="key" type="password" required autocomplete="off" spellcheck=${false} placeholder="pal_…" ref=${box}
        aria-describedby="key-hint" />
      <${Fault} error=${error} />
      <button class="main" disabled=${busy}>${busy ? 'Signing in…' : 'Sign in'}</button>
      <p id="key-hint" class="hint">What the key may do, you may do here. It is sent once; this browser keeps a cookie that no script can read, for
        twelve hours or until you sign out.</p>
    </form></main>`;
}
