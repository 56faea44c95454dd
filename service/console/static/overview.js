// A bank at a glance: what it holds, its levels, and how it came to it.
import * as api from './api.js';
import { Curve } from './chart.js';
import { TeachButton } from './corrections.js';
import { html, useMemo, useState } from './h.js';
import { Bar, Chip, Code, Empty, Fault, Field, number, percent, plural, size, Time, useFrame, useLoad, words } from './ui.js';

export function Overview() {
  const { bank, openTeach } = useFrame();
  const { data: memory, error } = useLoad(() => api.memory(bank), [bank]);
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
    <${Levels} />
    <${History} />
    <${Recent} />`;
}

function Levels() {
  const { bank } = useFrame();
  const { data, error } = useLoad(() => api.levels(bank), [bank]);
  const most = data && (Math.max(...data.levels.map((one) => one.norm)) || 1);
  return html`<section aria-labelledby="levels"><h2 id="levels">Levels</h2>
    <${Fault} error=${error} />
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
    : html`<${Empty}>Nothing was taught yet. Press <kbd>t</kbd> to teach the first correction.<//>`)}
  </section>`;
}

const SPANS = [ // a bucket of `stats`, what the time is called, its days, and the seconds of a bucket
  ['hour', 'Two days, by the hour', 2, 3600],
  ['day', 'Thirty days, by the day', 30, 86400],
  ['week', 'A year, by the week', Infinity, 7 * 86400],
];
const TINTS = ['--accent', '--busy', '--good'];
const sum = (series, name) => series.reduce((all, moment) => all + moment[name], 0);

/** Counts of what was taught, then surprise and drift. */
function drawn(series) {
  const levels = [...new Set(series.flatMap((moment) => Object.keys(moment.drift)))];
  return {
    times: series.map((moment) => Date.parse(moment.at) / 1000),
    counts: [
      { label: 'corrections', colour: '--accent', values: series.map((moment) => moment.corrections) },
      { label: 'before these it knew nothing', colour: '--busy', values: series.map((moment) => moment.unknown + moment.mistakes) },
      { label: 'before these it said something else', colour: '--rubric', values: series.map((moment) => moment.mistakes) },
    ],
    shares: [
      { label: 'surprise', colour: '--rubric', values: series.map((moment) => moment.surprise) },
      ...levels.map((level, place) => ({
        label: `drift of the ${level} level`,
        colour: TINTS[place % TINTS.length],
        values: series.map((moment) => moment.drift[level] ?? null),
      })),
    ],
  };
}

function History() {
  const { bank, banks } = useFrame();
  const [[bucket, , , width], setSpan] = useState(() => {
    const days = (Date.now() - Date.parse(banks.find((one) => one.name === bank).created_at)) / 86_400_000;
    return SPANS.find((span) => days < span[2]);
  });
  const { data, error } = useLoad(() => api.stats(bank, bucket), [bank, bucket]);
  const curves = useMemo(() => data && drawn(data.series), [data]);
  const some = curves && data.bucket === bucket && data.series.some((moment) => moment.corrections || Object.keys(moment.drift).length);
  return html`<section aria-labelledby="history">
    <div class="head"><h2 id="history">What it was taught, over time</h2>
      <div class="bench"><${Field} label="Time">${(id) => html`
        <select id=${id} value=${bucket} onChange=${(event) => setSpan(SPANS.find((span) => span[0] === event.target.value))}>
          ${SPANS.map(([name, told]) => html`<option value=${name}>${told}</option>`)}</select>`}<//></div></div>
    <${Fault} error=${error} />
    ${curves && !some && html`<${Empty}>Nothing was taught in this time.<//>`}
    ${some && html`
      <${Curve} times=${curves.times} width=${width} series=${curves.counts} label=${`${plural(sum(data.series, 'corrections'), 'correction')}:
        before ${number(sum(data.series, 'unknown'))} it knew nothing, before ${number(sum(data.series, 'mistakes'))} it said something else`} />
      <${Curve} times=${curves.times} width=${width} series=${curves.shares} share=${true} label="Surprise and drift; as a table below" />
      <p class="soft small">Surprise is how little the memory was sure of what it was then taught, 0 % where it knew it. Drift is how far a level
        moved from one automatic snapshot to the next.</p>
      <details><summary>As a table</summary><${Figures} series=${data.series} shares=${curves.shares} /></details>`}
  </section>`;
}

const Figures = ({ series, shares }) => html`<div class="scroll"><table>
  <thead><tr><th>From</th><th class="num">Corrections</th><th class="num">It knew nothing</th><th class="num">It said something else</th>
    ${shares.map((one) => html`<th class="num">${one.label}</th>`)}</tr></thead>
  <tbody>${series.map((moment, place) => (moment.corrections > 0 || Object.keys(moment.drift).length > 0) && html`<tr>
    <td>${new Date(moment.at).toLocaleString()}</td><td class="num">${number(moment.corrections)}</td><td class="num">${number(moment.unknown)}</td>
    <td class="num">${number(moment.mistakes)}</td>
    ${shares.map((one) => html`<td class="num">${one.values[place] == null ? '' : percent(one.values[place])}</td>`)}</tr>`)}
  </tbody></table></div>`;
