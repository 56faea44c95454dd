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
export const corrections = (name, { cursor, limit = 50 } = {}) => get('/v1/corrections', { bank: name, order: 'newest', cursor, limit });
export const correction = (name, id) => get(`/v1/corrections/${at(id)}`, { bank: name });
export const snapshots = (name, { cursor, limit = 50 } = {}) => get('/v1/snapshots', { bank: name, cursor, limit });
export async function banks() {
  const found = [];
  for (let page = {}; page;) {
    page = await get('/v1/banks', { limit: 200, cursor: page.next_cursor });
    found.push(...page.items);
    if (!page.next_cursor || found.length >= 2000) page = null;
  }
  return found;
}

// ask, teach, save, undo, forget
export const recall = (name, input, { version = 'head', topK = 3 } = {}) =>
  post('/v1/recall', { bank: name, input, at: version, top_k: topK, min_confidence: 0 });
export const recallMany = (name, inputs, version = 'head') => post('/v1/recall/batch', { bank: name, inputs, at: version });
export const teach = (name, lesson) => post('/v1/corrections', { bank: name, ...lesson });
export const takeSnapshot = (name, given) => post('/v1/snapshots', { bank: name, ...given });
export async function rollBack(name, to, { dryRun = false, etag, reason } = {}) {
  const given = { bank: name, to, dry_run: dryRun, ...(reason ? { reason } : {}) };
  const moved = await post('/v1/rollback', given, etag ? { 'If-Match': etag } : {});
  const flips = new Map(moved.flips.map((flip) => [flip.input, flip])); // a situation that was corrected twice is one
  return { ...moved, flips: [...flips.values()] };
}
export const forget = (name, ids, mode, reason) =>
  post('/v1/forget', { bank: name, corrections: ids, mode, ...(reason ? { reason } : {}) });

// jobs, audit, keys
export const jobs = (name, { cursor, limit = 50 } = {}) => get('/v1/jobs', { bank: name, order: 'newest', cursor, limit });
export const job = (id) => get(`/v1/jobs/${at(id)}`);
export const cancelJob = (id) => post(`/v1/jobs/${at(id)}/cancel`);
export const consolidate = (name) => post('/v1/consolidations', { bank: name });
export const audit = ({ cursor, limit = 50 } = {}) => get('/v1/audit', { cursor, limit });
export const keys = ({ cursor, limit = 50 } = {}) => get('/v1/keys', { cursor, limit });
export const mintKey = (given) => post('/v1/keys', given);
export const revokeKey = async (id) => (await call('DELETE', `/v1/keys/${at(id)}`)).reply;

// What is put together here from several calls.

const SERIES = 1000; // newest corrections that a curve is drawn from
const PROBES = 200; // situations that two versions are compared by

/** The newest corrections as points in time, oldest first: [{time, mistake}], and whether there are older ones. */
export async function series(name) {
  const points = [];
  let cursor;
  do {
    const page = await corrections(name, { cursor, limit: 200 });
    points.push(...page.items.map((item) => ({ time: Date.parse(item.created_at) / 1000, mistake: item.wrong != null })));
    cursor = page.next_cursor;
  } while (cursor && points.length < SERIES);
  return { points: points.reverse(), older: Boolean(cursor) };
}

/** Corrections, newest first, that hold a text and have a status; looks at `most` of them a call, and tells where to go on. */
export async function find(name, { text = '', status = '', cursor, wanted = 50, most = 2000 } = {}) {
  const word = text.trim().toLowerCase();
  const fits = (item) =>
    (!status || item.status === status) &&
    (!word || [item.input, item.right, item.wrong, item.id, item.session_id].some((said) => said && said.toLowerCase().includes(word)));
  const whole = !word && !status;
  const found = [];
  let looked = 0;
  do {
    const page = await corrections(name, { cursor, limit: whole ? wanted : 200 });
    found.push(...page.items.filter(fits));
    looked += page.items.length;
    cursor = page.next_cursor;
  } while (cursor && found.length < wanted && looked < most);
  return { items: found, next_cursor: cursor, looked };
}

/** What each of the newest versions says to a correction's situation: its strength there. Versions that cannot be asked are left out. */
export async function trace(name, one, versions = 8) {
  const saved = (await snapshots(name, { limit: versions })).items.filter((snapshot) => !snapshot.tainted_by.length);
  const asked = [{ id: 'head', label: 'now', created_at: null }, ...saved.filter((snapshot) => !snapshot.is_head)];
  const told = await Promise.all(asked.map((version) => recall(name, one.input, { version: version.id }).catch(() => null)));
  return asked.flatMap((version, place) => {
    if (!told[place]) return [];
    const held = told[place].answers.find((answer) => answer.value === one.right);
    return [
      { ...version, confidence: held ? held.confidence : 0, first: told[place].answers[0]?.value === one.right && !told[place].abstained },
    ];
  });
}

/** How two versions differ by behaviour, asked the newest situations of the bank's ledger. */
export async function diff(name, a, b) {
  const inputs = [];
  let cursor;
  do {
    const page = await corrections(name, { cursor, limit: 200 });
    for (const item of page.items) if (item.input && !inputs.includes(item.input)) inputs.push(item.input);
    cursor = page.next_cursor;
  } while (cursor && inputs.length < PROBES);
  const probes = inputs.slice(0, PROBES);
  if (!probes.length) return { probes: 0, flips: [] };
  const [before, after] = await Promise.all([recallMany(name, probes, a), recallMany(name, probes, b)]);
  const said = (result) => (result.abstained || !result.answers.length ? null : result.answers[0]);
  const flips = probes.flatMap((input, place) => {
    const [one, two] = [said(before.results[place]), said(after.results[place])];
    return one?.value === two?.value ? [] : [{ input, before: one, after: two }];
  });
  return { probes: probes.length, flips };
}
