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

async function call(method, path, { query = {}, body, headers = {} } = {}) {
  const given = Object.entries(query).filter(([, value]) => value != null && value !== '');
  const search = given.length ? `?${new URLSearchParams(given)}` : '';
  let response;
  try {
    response = await fetch(path + search, {
      method,
      credentials: 'same-origin',
      headers: { 'Palimpsest-Console': '1', ...(body ? { 'Content-Type': 'application/json' } : {}), ...headers },
      body: body && JSON.stringify(body),
    });
  } catch {
    throw new Problem({ detail: 'The service cannot be reached. What you see may be old.', code: 'unreachable' }, 0);
  }
  const text = await response.text();
  const reply = text ? JSON.parse(text) : null;
  if (response.ok) return { reply, headers: response.headers };
  if (response.status === 401 && path !== '/console/sign-in') listeners.forEach((listener) => listener());
  throw new Problem(reply || {}, response.status);
}

const get = async (path, query) => (await call('GET', path, { query })).reply;
const post = async (path, body, headers) => (await call('POST', path, { body, headers })).reply;
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
export const teach = (name, lesson) => post('/v1/corrections', { bank: name, ...lesson });

// versions
export const snapshots = (name, { cursor, limit = 50 } = {}) => get('/v1/snapshots', { bank: name, cursor, limit });
export const takeSnapshot = (name, given) => post('/v1/snapshots', { bank: name, ...given });
export const changeSnapshot = async (name, id, body) => (await call('PATCH', `/v1/snapshots/${at(id)}`, { query: { bank: name }, body })).reply;
export const diff = async (name, a, b) => distinct(await get(`/v1/snapshots/${at(a)}/diff/${at(b)}`, { bank: name }));
export const rollBack = async (name, to, { dryRun = false, etag, reason } = {}) =>
  distinct(await post('/v1/rollback', { bank: name, to, dry_run: dryRun, ...said(reason) }, etag ? { 'If-Match': etag } : {}));

// forget, and hold out of the memory; `what` is {corrections: ids} or {source: {session_id or key_id}}
export const previewForget = async (name, what, mode) => distinct(await post('/v1/forget', { bank: name, ...what, mode, dry_run: true }));
export const forget = (name, what, mode, token, reason) =>
  post('/v1/forget', { bank: name, ...what, mode, confirm_token: token, ...said(reason) });
export const certificate = (id) => get(`/v1/forget/${at(id)}`);
export const quarantines = (name, { cursor, limit = 50 } = {}) => get('/v1/quarantine', { bank: name, cursor, limit });
export const quarantine = (name, what, reason) => post('/v1/quarantine', { bank: name, ...what, ...said(reason) });
export const lift = async (id) => (await call('DELETE', `/v1/quarantine/${at(id)}`)).reply;

// jobs, audit, keys
export const jobs = (name, { cursor, limit = 50 } = {}) => get('/v1/jobs', { bank: name, order: 'newest', cursor, limit });
export const job = (id) => get(`/v1/jobs/${at(id)}`);
export const cancelJob = (id) => post(`/v1/jobs/${at(id)}/cancel`);
export const consolidate = (name) => post('/v1/consolidations', { bank: name });
export const audit = ({ cursor, limit = 50 } = {}) => get('/v1/audit', { cursor, limit });
export const verifyAudit = () => get('/v1/audit/verify');
export const keys = ({ cursor, limit = 50 } = {}) => get('/v1/keys', { cursor, limit });
export const mintKey = (given) => post('/v1/keys', given);
export const revokeKey = async (id) => (await call('DELETE', `/v1/keys/${at(id)}`)).reply;

const said = (reason) => (reason?.trim() ? { reason: reason.trim() } : {});

/** A situation that was corrected twice is one: its flips are told once. */
function distinct(reply) {
  return { ...reply, flips: [...new Map(reply.flips.map((flip) => [flip.input, flip])).values()] };
}

/** Corrections, newest first, that say all the words and have the status; looks at `most` of them a call, and tells where to go on. */
export async function find(name, { text = '', status = '', cursor, wanted = 50, most = 2000 } = {}) {
  const page = { limit: status ? 200 : wanted };
  const found = [];
  let looked = 0;
  do {
    const { items, next_cursor: next } = await (text.trim() ? search(name, text, { ...page, cursor }) : corrections(name, { ...page, cursor }));
    found.push(...items.filter((item) => !status || item.status === status));
    looked += items.length;
    cursor = next;
  } while (cursor && found.length < wanted && looked < most);
  return { items: found, next_cursor: cursor, looked };
}
