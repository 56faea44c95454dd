// Versions of a bank, and what is done with them: a line of time, the search for a change, branches, bundles.
import { html } from '../h.js';
import { useFrame } from '../parts/frame.js';
import { Tabs } from '../parts/marks.js';
import { Bisect } from './bisect.js';
import { Branches } from './branches.js';
import { Bundles } from './bundles.js';
import { Timeline } from './timeline.js';

const PLACES = [ // its part of the address, its title, the scope that it needs, what it shows
  ['', 'Timeline', 'snapshots:read', Timeline],
  ['find', 'Find a change', 'memory:inspect', Bisect],
  ['branches', 'Branches', 'snapshots:read', Branches],
  ['bundles', 'Bundles', 'admin', Bundles],
];

export function Versions({ id, more }) {
  const { can, href } = useFrame();
  const places = PLACES.filter(([, , scope]) => can(scope));
  const [name, , , Place] = places.find(([each]) => each === (id || '')) || places[0];
  return html`
    <div class="head"><h1>Versions</h1></div>
    <${Tabs} label="Parts of Versions" places=${places.map(([each, title]) => [href('versions', each), title])} here=${href('versions', name)} />
    <${Place} key=${name} id=${more} />`;
}
