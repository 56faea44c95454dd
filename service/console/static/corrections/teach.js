// Teach one correction; the receipt shows what the memory said before and says now.
import * as api from '../api.js';
import { html, useState } from '../h.js';
import { Dialog } from '../parts/dialog.js';
import { useDeed, useFrame } from '../parts/frame.js';
import { Bar, Fault, Line } from '../parts/marks.js';
import { number, plural } from '../parts/words.js';

export function TeachButton({ open }) {
  const { can } = useFrame();
  return can('corrections:write') && html`<button type="button" class="main" onClick=${() => open()}>Teach<kbd aria-hidden="true">t</kbd></button>`;
}

/** `given` is what is known of the lesson: {input, wrong}, and `bank` where it is for another one than that which is shown. */
export function Teach({ given, onClose }) {
  const { bank: shown, changed, go } = useFrame();
  const bank = given.bank || shown;
  const [taught, setTaught] = useState(null);
  const teaching = useDeed();
  const close = () => {
    changed(); // not with the reply: what the memory said before is noted a moment after it
    onClose();
  };
  const submit = async (event) => {
    event.preventDefault();
    const lesson = Object.fromEntries([...new FormData(event.target)].filter(([, value]) => value.trim()));
    const reply = await teaching.run(() => api.teach(bank, lesson));
    if (reply) setTaught(reply);
  };
  const where = bank === shown ? '' : ` ${bank}`;
  if (taught) {
    return html`<${Dialog} title=${`Taught${where}`} onClose=${close}>
      <${Receipt} item=${taught.receipt.item} />
      <${Locality} of=${taught.receipt.locality} onOpen=${bank === shown && ((id) => {
        close();
        go('corrections', id);
      })} />
      <div class="actions">
        <button type="button" onClick=${() => setTaught(null)}>Teach another</button>
        <button type="button" class="main" autofocus onClick=${close}>Done</button>
      </div><//>`;
  }
  return html`<${Dialog} title=${`Teach${where}`} onClose=${close}><form onSubmit=${submit}>
    <${Line} label="In this situation" name="input" rows="2" required autofocus maxlength="20000" defaultValue=${given.input} />
    <${Line} label="the right answer is" name="right" rows="2" required maxlength="20000" />
    <${Line} label="and not (optional)" name="wrong" rows="1" maxlength="20000" defaultValue=${given.wrong}
      hint="What the agent said, if it said something wrong. It is kept beside the correction." />
    <${Fault} error=${teaching.error} />
    <div class="actions"><button class="main" disabled=${teaching.busy}>${teaching.busy ? 'Teaching…' : 'Teach'}</button></div>
  </form><//>`;
}

const Receipt = ({ item }) => html`<div class="receipt" role="status">
  <div><p class="soft small">Before</p><p class="said"><del>${item.before.value ?? 'silence'}</del></p>
    <${Bar} share=${item.before.confidence} tone="dim" label="Confidence before" /></div>
  <div><p class="soft small">Now</p><p class="said"><ins>${item.after.value ?? 'silence'}</ins></p>
    <${Bar} share=${item.after.confidence} label="Confidence now" /></div>
</div>`;

/** What became of the corrections nearest to it. */
const Locality = ({ of, onOpen }) => of.n > 0 && html`<p class="soft small">Of the ${plural(of.n, 'correction')} nearest to it
  ${' '}${of.flipped.length ? html`${number(of.flipped.length)} ${of.flipped.length === 1 ? 'is' : 'are'} answered otherwise now:
    ${of.flipped.map((id) => html` <button type="button" class="link" title=${id} disabled=${!onOpen} onClick=${() => onOpen(id)}>
      cor_…${id.slice(-6)}</button>`)}`
  : 'none is answered otherwise now.'}</p>`;
