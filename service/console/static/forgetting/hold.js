// Hold what may be wrong out of the memory while somebody looks.
import * as api from '../api.js';
import { html, useState } from '../h.js';
import { Dialog } from '../parts/dialog.js';
import { useDeed, useFrame } from '../parts/frame.js';
import { Fault, Line } from '../parts/marks.js';
import { plural } from '../parts/words.js';
import { NO_SOURCE, SourceFields } from './source.js';

/** Hold what was given, as for `Forget`, or a source that is asked for. */
export function Hold({ what, named, onClose }) {
  const { bank, changed, say } = useFrame();
  const [source, setSource] = useState(NO_SOURCE);
  const holding = useDeed();
  const submit = async (event) => {
    event.preventDefault();
    const reason = new FormData(event.target).get('reason');
    const reply = await holding.run(() => api.quarantine(bank, what || { source }, reason));
    if (!reply) return;
    say(`${plural(reply.corrections, 'correction')} held.`);
    changed();
    onClose();
  };
  return html`<${Dialog} title=${named ? `Hold ${named}` : 'Hold a source'} onClose=${onClose}><form onSubmit=${submit}>
    <p>From this moment on nothing is answered with ${what ? 'what is held' : 'what it taught, and it teaches nothing'}, at any version, until
      ${' '}you lift it. The weights follow by a job.</p>
    ${!what && html`<${SourceFields} value=${source} onChange=${setSource} />`}
    <${Line} label="Reason (optional)" hint="Kept with the quarantine." name="reason" maxlength="1000" autofocus=${Boolean(what)} />
    <${Fault} error=${holding.error} />
    <div class="actions">
      <button type="button" class="quiet" onClick=${onClose}>Cancel</button>
      <button class="danger" disabled=${holding.busy}>${holding.busy ? 'Holding…' : 'Hold'}</button>
    </div>
  </form><//>`;
}
