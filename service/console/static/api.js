// Everything the console asks the service. Pages call these functions and no address; the browser adds the cookie, which no script can read.

export class Problem extends Error {
  constructor(body, status) {
    super(body.detail || `The service answered ${status}.`);
    this.status = status;
    this.code = body.code || 'internal';
    this.requestId = body.request_id || '';
  }
}

const listeners = new Set();
export const onSignedOut = (listener) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

/** `body` is sent as JSON, `file` as it is; `bytes`: the reply is a file, too. */
async function call(method, path, { query = {}, body, file, headers = {}, bytes = false } = {}) {
  const given = Object.entries(query).filter(([, value]) => value != null && value !== '');
  const search = given.length ? `?${new URLSearchParams(given)}` : '';
  let response;
  try {
    response = await fetch(path + search, {
      method,
      credentials: 'same-origin',
      headers: { 'Palimpsest-Console': '1', ...(body ? { 'Content-Type': 'application/json' } : {}), ...headers },
      body: file || (body && JSON.stringify(body)),
    });
  } catch {
    throw new Problem({ detail: 'The service cannot be reached. What you see may be old.', code: 'unreachable' }, 0);
  }
  if (response.ok && bytes) return { reply: await response.blob() };
  const text = await response.text();
  const reply = text ? read(text, response.status) : null;
  if (response.ok) return { reply, headers: response.headers };
  if (response.status === 401 && path !== '/console/sign-in') listeners.forEach((listener) => listener());
  throw new Problem(reply || {}, response.status);
}

function read(text, status) {
  try {
    return JSON.parse(text);
  } catch { // a proxy's own page
    throw new Problem({ detail: `Something between the console and the service answered ${status}.`, code: 'unreachable' }, status);
  }
}

const get = async (path, query) => (await call('GET', path, { query })).reply;
const post = async (path, body, more) => (await call('POST', path, { body, ...more })).reply;
const at = (name) => encodeURIComponent(name);

// who
export const whoami = () => get('/console/sign-in'); // null: nobody is signed in
export const signIn = (key) => call('POST', '/console/sign-in', { headers: { Authorization: `Bearer ${key}` } });
export const signOut = () => call('DELETE', '/console/sign-in');

// banks and what they hold
export const bank = (name) => get(`/v1/banks/${at(name)}`);
export const memory = (name) => get('/v1/memory', { bank: name });
export const levels = (name) => get('/v1/memory/levels', { bank: name });
export const stats = (name, bucket) => get('/v1/stats', { bank: name, bucket });
export const corrections = (name, { cursor, limit = 50 } = {}) => get('/v1/corrections', { bank: name, order: 'newest', cursor, limit });
export const search = (name, q, { cursor, limit = 50 } = {}) => get('/v1/memory/search', { bank: name, q, cursor, limit });
export const correction = (name, id) => get(`/v1/corrections/${at(id)}`, { bank: name });
export const sessions = (name) => get('/v1/sessions', { bank: name, limit: 200 }); // the open ones
export const trace = (name, id) => get(`/v1/memory/corrections/${at(id)}/trace`, { bank: name });
export async function banks() {
  const found = [];
  for (let page = {}; page;) {
    page = await get('/v1/banks', { limit: 200, cursor: page.next_cursor });
    found.push(...page.items);
    if (!page.next_cursor || found.length >= 2000) page = null;
  }
  return found;
}

// ask and teach
export const probe = (name, inputs, versions) => post('/v1/memory/probe', { bank: name, inputs, at: versions });
export const explain = (name, input, version) => post('/v1/memory/explain', { bank: name, input, at: version });
export const bisect = (name, input, since) => post('/v1/memory/bisect', { bank: name, input, since });
export const teach = (name, lesson) => post('/v1/corrections', { bank: name, ...lesson });

// versions
export const snapshots = (name, { cursor, limit = 50 } = {}) => get('/v1/snapshots', { bank: name, cursor, limit });
export const takeSnapshot = (name, given) => post('/v1/snapshots', { bank: name, ...given });
export const changeSnapshot = async (name, id, body) => (await call('PATCH', `/v1/snapshots/${at(id)}`, { query: { bank: name }, body })).reply;
export const deleteSnapshot = (name, id) => call('DELETE', `/v1/snapshots/${at(id)}`, { query: { bank: name } });
export const verifySnapshot = (name, id) => post(`/v1/snapshots/${at(id)}/verify`, undefined, { query: { bank: name } });
export const diff = async (name, a, b) => distinct(await get(`/v1/snapshots/${at(a)}/diff/${at(b)}`, { bank: name }));
/**
 * `where` is {to}, {to_time} or {source}, and {keep}. Where the state has to be folded by a job first, that is waited for and `onJob` told of it;
 * then the same is asked again.
 */
export async function rollBack(name, where, { dryRun = false, etag, reason, onJob } = {}) {
  const headers = etag ? { 'If-Match': etag } : {};
  const ask = () => post('/v1/rollback', { bank: name, ...where, dry_run: dryRun, ...said(reason) }, { headers });
  let reply = await ask();
  while (reply.job_id) {
    await ended(reply.job_id, onJob);
    reply = await ask();
  }
  return distinct(reply);
}

// branches: a branch is a bank as well
export const branches = (name, { cursor, limit = 50 } = {}) => get('/v1/branches', { bank: name, cursor, limit });
export const fork = (name, branch, version) => post('/v1/branches', { bank: name, name: branch, at: version });
export const diffBranch = async (id) => distinct(await get(`/v1/branches/${at(id)}/diff`));
export const promote = (id, refold) => post(`/v1/branches/${at(id)}/promote`, { refold });
export const deleteBranch = (id) => call('DELETE', `/v1/branches/${at(id)}`);

// bundles
export const exportSnapshot = (name, id, ledger) => post(`/v1/snapshots/${at(id)}/export`, { bank: name, ledger });
export const bundle = async (id) => (await call('GET', `/v1/exports/${at(id)}`, { bytes: true })).reply;
export const importBundle = (name, file) =>
  post('/v1/imports', undefined, { query: { bank: name }, file, headers: { 'Content-Type': 'application/x-tar' } });

// probe sets
export const probeSets = (name, { cursor, limit = 50 } = {}) => get('/v1/probe-sets', { bank: name, cursor, limit });
export const probeSet = (id) => get(`/v1/probe-sets/${at(id)}`);
export const runProbeSet = (id, versions) => post(`/v1/probe-sets/${at(id)}/run`, { at: versions });
export const saveProbeSet = (name, set) => post('/v1/probe-sets', { bank: name, ...set });
export const deleteProbeSet = (id) => call('DELETE', `/v1/probe-sets/${at(id)}`);

// forget, and hold out of the memory; `what` is {corrections: ids} or {source: {session_id or key_id}}
export const previewForget = async (name, what, mode) => distinct(await post('/v1/forget', { bank: name, ...what, mode, dry_run: true }));
export const forget = (name, what, mode, token, reason) =>
  post('/v1/forget', { bank: name, ...what, mode, confirm_token: token, ...said(reason) });
export const certificate = (id) => get(`/v1/forget/${at(id)}`);
export const quarantines = (name, { cursor, limit = 50 } = {}) => get('/v1/quarantine', { bank: name, cursor, limit });
export const quarantine = (name, what, reason) => post('/v1/quarantine', { bank: name, ...what, ...said(reason) });
export const lift = async (id) => (await call('DELETE', `/v1/quarantine/${at(id)}`)).reply;

// jobs, audit, keys, webhooks
export const jobs = (name, { cursor, limit = 50 } = {}) => get('/v1/jobs', { bank: name, order: 'newest', cursor, limit });
export const job = (id) => get(`/v1/jobs/${at(id)}`);
export const cancelJob = (id) => post(`/v1/jobs/${at(id)}/cancel`);
export const consolidate = (name) => post('/v1/consolidations', { bank: name });
export const audit = ({ cursor, limit = 50 } = {}) => get('/v1/audit', { cursor, limit });
export const verifyAudit = () => get('/v1/audit/verify');
export const keys = ({ cursor, limit = 50 } = {}) => get('/v1/keys', { cursor, limit });
export const mintKey = (given) => post('/v1/keys', given);
export const revokeKey = async (id) => (await call('DELETE', `/v1/keys/${at(id)}`)).reply;

export const webhooks = ({ cursor, limit = 50 } = {}) => get('/v1/webhooks', { cursor, limit });
export const addWebhook = (given) => post('/v1/webhooks', given);
export const deleteWebhook = (id) => call('DELETE', `/v1/webhooks/${at(id)}`);
export const deliveries = (id, { cursor, limit = 50 } = {}) => get(`/v1/webhooks/${at(id)}/deliveries`, { cursor, limit });
export const redeliver = (id, delivery) => post(`/v1/webhooks/${at(id)}/deliveries/${at(delivery)}/redeliver`);

/** Waits until a job has ended well. */
async function ended(id, onJob) {
  for (;;) {
    const now = await job(id);
    onJob?.(now);
    if (now.status === 'succeeded') return;
    if (now.status === 'failed') throw new Problem(now.error || {}, 409);
    if (now.status === 'canceled') throw new Problem({ code: 'conflict', detail: 'Somebody has canceled the job that prepares it; try again.' }, 409);
    await new Promise((go) => setTimeout(go, 700));
  }
}

const said = (reason) => (reason?.trim() ? { reason: reason.trim() } : {});

/** A situation that was corrected twice is one: its flips are told once. */
function distinct(reply) {
  return { ...reply, flips: [...new Map(reply.flips.map((flip) => [flip.input, flip])).values()] };
}

/** A changed set is saved anew, which is the only way: first beside the old one, so that what is refused changes nothing. */
export async function replaceProbeSet(name, old, set) {
  if (set.name !== old.name) {
    const made = await saveProbeSet(name, set);
    await deleteProbeSet(old.id);
    return made;
  }
  const beside = await saveProbeSet(name, { ...set, name: `${set.name.slice(0, 110)} (changed)` }); // two of one name are refused
  await deleteProbeSet(old.id);
  const made = await saveProbeSet(name, set);
  await deleteProbeSet(beside.id);
  return made;
}

/** Corrections, newest first, that say all the words and that `fits` likes; looks at `most` of them a call, and tells where to go on. */
export async function find(name, { text = '', fits, cursor, wanted = 50, most = 2000 } = {}) {
  const page = { limit: fits ? 200 : wanted };
  const found = [];
  let looked = 0;
  do {
    const { items, next_cursor: next } = await (text.trim() ? search(name, text, { ...page, cursor }) : corrections(name, { ...page, cursor }));
    found.push(...items.filter((item) => !fits || fits(item)));
    looked += items.length;
    cursor = next;
  } while (cursor && found.length < wanted && looked < most);
  return { items: found, next_cursor: cursor, looked };
}
