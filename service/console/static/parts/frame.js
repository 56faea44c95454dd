// The frame that pages stand in, and what they ask and do: loading, lists by pages, deeds that may fail, jobs until they have ended.
import * as api from '../api.js';
import { createContext, useCallback, useContext, useEffect, useRef, useState } from '../h.js';

export const Frame = createContext(null); // {me, bank, banks, can, say, changed, tick, go, open, refresh, ask, openTeach}
export const useFrame = () => useContext(Frame);

/** What `load` gives, again whenever `deps` or the bank's content change; old content stays until new content is there. */
export function useLoad(load, deps) {
  const { tick } = useFrame();
  const [state, setState] = useState({ data: null, error: null, busy: true });
  const [again, setAgain] = useState(0);
  useEffect(() => {
    let gone = false;
    setState((old) => ({ ...old, busy: true }));
    load().then(
      (data) => gone || setState({ data, error: null, busy: false }),
      (error) => gone || setState((old) => ({ ...old, error, busy: false })),
    );
    return () => {
      gone = true;
    };
  }, [...deps, tick, again]);
  return { ...state, reload: useCallback(() => setAgain((n) => n + 1), []) };
}

/** A list by pages: {items, more} and `next()` for the page after. */
export function useList(fetchPage, deps) {
  const { tick } = useFrame();
  const [state, setState] = useState({ items: [], cursor: null, looked: 0, busy: true, error: null });
  const turn = useRef(0);
  const load = async (cursor, kept) => {
    const mine = ++turn.current;
    setState((old) => ({ ...old, busy: true }));
    try {
      const page = await fetchPage(cursor);
      if (mine !== turn.current) return;
      setState((old) => ({
        items: [...kept, ...page.items],
        cursor: page.next_cursor,
        looked: (cursor ? old.looked : 0) + (page.looked || 0),
        busy: false,
        error: null,
      }));
    } catch (error) {
      if (mine === turn.current) setState((old) => ({ ...old, busy: false, error }));
    }
  };
  useEffect(() => {
    load(null, []);
  }, [...deps, tick]);
  return { ...state, next: () => load(state.cursor, state.items) };
}

export function useEvery(ms, active, work) {
  const latest = useRef(work);
  latest.current = work;
  useEffect(() => {
    if (!active) return undefined;
    const timer = setInterval(() => latest.current(), ms);
    return () => clearInterval(timer);
  }, [ms, active]);
}

/** Something that may fail: {busy, error, run}. `run(work)` gives what the work gives, and undefined if it failed. */
export function useDeed() {
  const [state, setState] = useState({ busy: false, error: null });
  const run = async (work) => {
    setState({ busy: true, error: null });
    try {
      const done = await work();
      setState({ busy: false, error: null });
      return done;
    } catch (error) {
      setState({ busy: false, error });
      return undefined;
    }
  };
  return { ...state, run };
}

export const ENDED = ['succeeded', 'failed', 'canceled'];

/** A job by its id (none: null), asked again until it has ended: {job, ended, error}. What went wrong in it is an error, too. */
export function useJob(id) {
  const { data, error, reload } = useLoad(async () => id && api.job(id), [id]);
  const job = data?.id === id ? data : null;
  const ended = Boolean(job) && ENDED.includes(job.status);
  useEvery(500, Boolean(id) && !ended && (!error || error.status === 0), reload);
  const failed = job?.status === 'failed' && { code: job.error?.code, message: job.error?.detail };
  return { job, ended, error: error || failed || null };
}

/** What was typed, once nobody has typed for a moment. */
export function useSettled(value, ms = 300) {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}
