// What became of each message to a webhook, and one more try.
import * as api from '../api.js';
import { html } from '../h.js';
import { Dialog } from '../parts/dialog.js';
import { useDeed, useEvery, useFrame, useLoad } from '../parts/frame.js';
import { Busy, Chip, Empty, Fault } from '../parts/marks.js';
import { Sheet } from '../parts/table.js';
import { number, Time, words } from '../parts/words.js';

const SHOWN = 50;

/** `of` is a webhook. Looked at again while something is on its way, or nothing has been yet. */
export function Deliveries({ of, onClose }) {
  const { say } = useFrame();
  const { data, error, reload } = useLoad(() => api.deliveries(of.id, { limit: SHOWN }), [of.id]);
  const trying = useDeed();
  useEvery(2000, Boolean(data && (!data.items.length || data.items.some((one) => one.status === 'pending'))), reload);
  const again = async (one) => {
    if (!(await trying.run(() => api.redeliver(of.id, one.id)))) return;
    say('It is sent once more.');
    reload();
  };
  return html`<${Dialog} title="Deliveries" kind="large" onClose=${onClose}>
    <p class="situation">${of.url}</p>
    <${Fault} error=${error || trying.error} />
    ${!data && !error && html`<${Busy}>Loading…<//>`}
    ${data?.items.length > 0 && html`<${Sheet} names=${['When', 'What', 'State', 'Tries', 'Answer', 'To do']} rows=${data.items.map((one) => [
    html`<${Time} at=${one.created_at} />`, words(one.event).replace('.', ' '), html`<${Chip} name=${one.status} />`, number(one.attempts),
    html`<${Answer} one=${one} />`,
    one.status !== 'pending' && html`<button type="button" onClick=${() => again(one)} disabled=${trying.busy}>Deliver again</button>`])} />
      <p class="soft small">${data.next_cursor ? `The newest ${SHOWN}. ` : ''}What became of a delivery is known for a week.</p>`}
    ${data && !data.items.length && html`<${Empty}>Nothing has happened yet that it is told of.<//>`}
  <//>`;
}

const Answer = ({ one }) => html`${one.answered ?? one.error ?? 'none yet'}
  ${one.status === 'pending' && Date.parse(one.due_at) > Date.now() && html` <span class="soft small">next try <${Time} at=${one.due_at} /></span>`}`;
