// The console's frame: who is signed in, which bank and page is shown, and the keys that lead there.
import * as api from './api.js';
import { Ask } from './ask.js';
import { Audit } from './audit.js';
import { Corrections } from './corrections/corrections.js';
import { Teach } from './corrections/teach.js';
import { Forgetting } from './forgetting/forgetting.js';
import { html, render, useCallback, useEffect, useRef, useState } from './h.js';
import { Help, letters, nextTheme } from './help.js';
import { Jobs } from './jobs.js';
import { Overview } from './overview.js';
import { Frame } from './parts/frame.js';
import { Fault } from './parts/marks.js';
import { Probes } from './probes/probes.js';
import { Settings } from './settings/settings.js';
import { SignIn } from './signin.js';
import { Versions } from './versions/versions.js';

const PAGES = [
  // name, title, the letter after g, the scope that it needs, what it shows
  ['overview', 'Overview', 'o', 'memory:inspect', Overview],
  ['corrections', 'Corrections', 'c', 'memory:inspect', Corrections],
  ['ask', 'Ask', 'a', 'memory:inspect', Ask],
  ['probes', 'Probes', 'p', 'memory:inspect', Probes],
  ['versions', 'Versions', 'v', 'snapshots:read', Versions],
  ['forget', 'Forget', 'f', 'forget', Forgetting],
  ['jobs', 'Jobs', 'j', null, Jobs],
  ['audit', 'Audit', 'u', 'admin', Audit],
  ['settings', 'Settings', 's', 'admin', Settings],
];
const OF_TENANT = ['audit', 'settings']; // for keys of the whole tenant

/** `#/bank/page/thing/more`: no server sees what stands behind the sign. */
function readAddress() {
  const [bank, page, thing, more] = location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);
  return { bank: bank || null, page: page || null, thing: thing || null, more: more || null };
}
const address = (...parts) => `#/${parts.filter(Boolean).map(encodeURIComponent).join('/')}`;

function Console() {
  const [me, setMe] = useState(undefined); // undefined: not asked yet, null: nobody
  const [banks, setBanks] = useState([]);
  const [error, setError] = useState(null);
  const enter = useCallback(async () => {
    try {
      const who = await api.whoami();
      if (who) setBanks(await api.banks());
      setMe(who);
      setError(null);
    } catch (problem) {
      setError(problem);
    }
  }, []);
  useEffect(() => {
    enter();
    return api.onSignedOut(() => setMe(null));
  }, []);
  if (error) return html`<main class="alone"><${Fault} error=${error} /><button type="button" onClick=${enter}>Try again</button></main>`;
  if (me === undefined) return html`<main class="alone" aria-busy="true"></main>`;
  if (me === null) return html`<${SignIn} onSignedIn=${enter} />`;
  const refresh = async () => setBanks(await api.banks().catch(() => banks));
  return html`<${Signed} me=${me} banks=${banks} onRefresh=${refresh} onSignedOut=${() => setMe(null)} />`;
}

function Signed({ me, banks, onRefresh, onSignedOut }) {
  const can = (scope) => !scope || me.scopes.includes('admin') || me.scopes.includes(scope);
  const pages = PAGES.filter(([name, , , scope]) => can(scope) && !(me.banks && OF_TENANT.includes(name)));
  const [where, setWhere] = useState(readAddress());
  const [tick, setTick] = useState(0);
  const [said, setSaid] = useState(null);
  const [dialog, setDialog] = useState(null); // 'help', or {teach: what is known of the lesson}
  const [question, setQuestion] = useState('');
  const main = useRef();
  const bank = banks.find((one) => [one.name, one.id].includes(where.bank)) || banks.find((one) => one.name === 'default') || banks[0];
  const page = pages.find(([name]) => name === where.page) || pages[0];
  const open = (...parts) => {
    location.hash = address(...parts);
  };
  const go = (...parts) => open(bank.name, ...parts);
  useEffect(() => {
    const moved = () => setWhere(readAddress());
    window.addEventListener('hashchange', moved);
    return () => window.removeEventListener('hashchange', moved);
  }, []);
  useEffect(() => {
    document.title = `${page[1]} · ${bank?.name || 'no bank'} · Palimpsest`;
    const link = document.querySelector('.pages [aria-current]');
    link.closest('nav').scrollLeft = link.offsetLeft - 80; // on a phone the pages do not fit; scrollIntoView would have Tab begin here
  }, [page, bank]);
  useEffect(() => {
    if (!said) return undefined;
    const timer = setTimeout(() => setSaid(null), 6000);
    return () => clearTimeout(timer);
  }, [said]);
  const frame = {
    me,
    banks,
    bank: bank?.name,
    can,
    tick,
    go,
    open, // another bank: its name, a page
    href: (...parts) => address(bank.name, ...parts),
    refresh: onRefresh, // the list of banks
    say: (text) => setSaid({ text }),
    changed: () => setTick((n) => n + 1),
    openTeach: (given = {}) => setDialog({ teach: given }),
    ask: (text) => {
      setQuestion(text);
      go('ask');
    },
  };
  useEffect(() => letters({
    g: Object.fromEntries(pages.map(([name, , letter]) => [letter, () => bank && go(name)])),
    t: () => bank && can('corrections:write') && frame.openTeach(),
    '?': () => setDialog('help'),
    '/': () => {
      const field = document.querySelector('[data-search]');
      if (field) field.focus();
      else if (bank && can('memory:inspect')) go('ask');
    },
  }), [bank]);
  const leave = async () => {
    await api.signOut().catch(() => {});
    onSignedOut();
  };
  const Page = page[4];
  const skip = (event) => {
    event.preventDefault();
    main.current.focus();
  };
  return html`<${Frame.Provider} value=${frame}>
    <a class="skip" href="#main" onClick=${skip}>Skip to the page</a>
    <header class="top">
      <a class="brand" href=${address(bank?.name, page[0])}>Palimpsest</a>
      <label class="bank"><span>Bank</span><select value=${bank?.name} onChange=${(event) => open(event.target.value, page[0])}>
        ${banks.map((one) => html`<option value=${one.name}>${one.name}</option>`)}</select></label>
      <div class="right-side">
        <button type="button" class="quiet" onClick=${() => frame.say(`Theme: ${nextTheme()}`)}>Theme</button>
        <button type="button" class="quiet" onClick=${() => setDialog('help')} aria-label="Keys and help">?</button>
        <button type="button" class="quiet" onClick=${leave}>Sign out</button>
      </div>
    </header>
    <nav class="pages" aria-label="Pages"><ul>${pages.map(([name, title, letter]) => html`<li>
      <a href=${address(bank?.name, name)} aria-current=${name === page[0] ? 'page' : undefined}>${title}<kbd aria-hidden="true">g ${letter}</kbd></a>
    </li>`)}</ul></nav>
    <main id="main" ref=${main} tabindex="-1">${bank ? html`
      <${Page} key=${`${bank.id} ${page[0]}`} id=${where.thing} more=${where.more} question=${question} />`
    : html`<p class="empty">There is no bank that this key may use.</p>`}</main>
    <div class="toast" role="status">${said && html`<p>${said.text}</p>`}</div>
    ${dialog === 'help' && html`<${Help} pages=${pages} onClose=${() => setDialog(null)} />`}
    ${dialog?.teach && html`<${Teach} given=${dialog.teach} onClose=${() => setDialog(null)} />`}
  <//>`;
}

render(html`<${Console} />`, document.getElementById('app'));
