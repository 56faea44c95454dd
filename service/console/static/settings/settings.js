// Settings of the tenant: who may (keys), and who is told (webhooks).
import { html } from '../h.js';
import { useFrame } from '../parts/frame.js';
import { Tabs } from '../parts/marks.js';
import { Keys } from './keys.js';
import { Webhooks } from './webhooks.js';

const PLACES = [['', 'Keys', Keys], ['webhooks', 'Webhooks', Webhooks]]; // its part of the address, its title, what it shows

export function Settings({ id }) {
  const { href } = useFrame();
  const [name, , Place] = PLACES.find(([each]) => each === (id || '')) || PLACES[0];
  return html`
    <div class="head"><h1>Settings</h1></div>
    <${Tabs} label="Parts of Settings" places=${PLACES.map(([each, title]) => [href('settings', each), title])} here=${href('settings', name)} />
    <${Place} key=${name} />`;
}
