// A bank at a glance: what it holds, its levels, and how it came to it.
import * as api from './api.js';
import { TeachButton } from './corrections/teach.js';
import { html } from './h.js';
import { History } from './history.js';
import { useFrame, useLoad } from './parts/frame.js';
import { Bar, Busy, Chip, Empty, Fault } from './parts/marks.js';
import { Code, number, plural, size, Time, words } from './parts/words.js';

export function Overview() {
  const { bank, openTeach } = useFrame();
  const { data: memory, error } = useLoad(() => api.memory(bank), [bank]);
  const there = memory || error; // asking every level takes longer, and the counts would have to wait behind it
  return html`
    <div class="head"><h1>${bank}</h1><${TeachButton} open=${openTeach} /></div>
    <${Fault} error=${error} />
    ${memory && html`
      <dl class="tiles">
        <div><dt>corrections</dt><dd>${number(memory.corrections)}</dd></div>
        <div><dt>distinct answers</dt><dd>${number(memory.responses)}</dd></div>
        <div><dt>forgotten</dt><dd>${number(memory.forgotten)}</dd></div>
        <div><dt>weights</dt><dd>${size(memory.bytes)}</dd></div>
      </dl>
      <p class="facts">
        <span>Answers from <${Code} value=${memory.state.snapshot_id} /> and the ledger up to ${number(memory.state.seq)}</span>
        <span>Digest <${Code} value=${memory.digest} keep=${16} /></span>
        ${memory.rebuild_pending && html`<${Chip} name="being rebuilt" tone="busy" />`}
      </p>`}
    ${there && html`<${Levels} />`}
    <${History} />
    <${Recent} />`;
}

function Levels() {
  const { bank } = useFrame();
  const { data, error } = useLoad(() => api.levels(bank), [bank]);
  const most = data && (Math.max(...data.levels.map((one) => one.norm)) || 1);
  return html`<section aria-labelledby="levels"><h2 id="levels">Levels</h2>
    <${Fault} error=${error} />
    ${!data && !error && html`<${Busy}>Asking each level…<//>`}
    ${data && html`<div class="levels">${data.levels.map((level) => html`<${Level} key=${level.name} level=${level} most=${most} />`)}</div>
      <p class="soft small">${data.sample > 0 && `Each was asked alone for ${plural(data.sample, 'correction')} at their own situations. `}
        ${data.compared_with && html`The last snapshot is <${Code} value=${data.compared_with} />.`}</p>`}
  </section>`;
}

const ROUND = 2 * Math.PI * 26; // of a ring

/** A level: a ring that closes until its next change, and gauges of its weights and of what it knows alone. */
function Level({ level, most }) {
  // a period of null: changed by consolidation alone; of 0: with every correction
  const { name, period_tokens: period, tokens_until_update: left } = level;
  const share = period ? 1 - left / period : Number(period === 0);
  const often = { null: 'changes by consolidation only', 0: 'changes with every correction' }[period];
  const told = often || `${plural(left, 'token')} of ${number(period)} to its next change`;
  const gauges = [
    ['answers alone', level.alone, 'Corrections that it answers right if it is asked alone'],
    ['strength alone', level.strength, 'Mean confidence of the right answer'],
    ['places taken', level.capacity ? level.pairs / level.capacity : null, 'Of what it can keep apart',
      `${number(level.pairs)} of ${number(level.capacity)}`],
    ['norm', level.norm / most, 'Length of its weights', number(level.norm, 3)],
    ['drift, start', level.drift_start, 'How far its weights are from those of an empty bank'],
    ['drift, snapshot', level.drift_snapshot, 'How far its weights are from those of the last snapshot'],
  ];
  return html`<article class="level">
    <header><svg viewBox="0 0 64 64" role="meter" aria-label=${`${name} level`} aria-valuemin="0" aria-valuemax="1"
      aria-valuenow=${share.toFixed(3)} aria-valuetext=${told}>
      <circle cx="32" cy="32" r="26" />
      <circle cx="32" cy="32" r="26" class="done" stroke-dasharray=${`${share * ROUND} ${ROUND}`} transform="rotate(-90 32 32)" />
    </svg>
    <div><h3>${words(name)}</h3><p class="soft small">${told}; ${plural(level.updates, 'change')} so far</p></div></header>
    <ul class="meters">${gauges.map(([called, part, meant, figure]) => part != null && html`<li title=${meant}>
      <span>${called}</span><${Bar} share=${part} figure=${figure} label=${`${name} level: ${called}`} /></li>`)}</ul>
    ${level.half_life != null && html`
      <p class="soft small">Its hold on a correction halves with ${plural(Math.round(level.half_life), 'later one')}.</p>`}
  </article>`;
}

function Recent() {
  const { bank, go } = useFrame();
  const { data, error } = useLoad(() => api.corrections(bank, { limit: 5 }), [bank]);
  return html`<section aria-labelledby="recent">
    <div class="head"><h2 id="recent">Taught last</h2>
      <button type="button" class="quiet" onClick=${() => go('corrections')}>All corrections</button></div>
    <${Fault} error=${error} />
    ${data && (data.items.length ? html`<ul class="recent">${data.items.map((one) => html`<li key=${one.id}>
      <button type="button" class="row" onClick=${() => go('corrections', one.id)}>
        <span class="situation">${one.input ?? 'erased'}</span><span class="right">${one.right ?? 'erased'}</span>
        <${Chip} name=${one.status} /><${Time} at=${one.created_at} />
      </button></li>`)}</ul>`
    : html`<${Empty}>Nothing was taught yet. Press <kbd>t</kbd> to teach the first correction: a situation, and the answer that is right in it.<//>`)}
  </section>`;
}
