// A bank at a glance: what it holds, its levels, and how it came to it.
import * as api from './api.js';
import { bucketed, Curve } from './chart.js';
import { TeachButton } from './corrections.js';
import { html, useMemo } from './h.js';
import { Chip, Code, Empty, Fault, number, plural, size, Time, useFrame, useLoad, words } from './ui.js';

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
      </p>
      <section aria-labelledby="levels"><h2 id="levels">Levels</h2>
        <div class="levels">${memory.levels.map((level) => html`<${Level} key=${level.name} level=${level} memory=${memory} />`)}</div>
      </section>`}
    <${History} />
    <${Recent} />`;
}

const ROUND = 2 * Math.PI * 26; // of a ring

/** A level as a ring: how far the bank's clock is on its way to the level's next change. */
function Level({ level, memory }) {
  const clock = memory.clock_tokens;
  const most = Math.max(...memory.levels.map((one) => one.norm)) || 1;
  const period = level.period_tokens; // null: changed by consolidation alone; 0: with every correction
  const share = period ? (clock % period) / period : Number(period === 0);
  const often = { null: 'changes by consolidation only', 0: 'changes with every correction' }[period] || `changes every ${plural(period, 'token')}`;
  const told = period ? `${number(clock % period)} of ${number(period)} tokens to its next change` : often;
  return html`<article class="level">
    <svg viewBox="0 0 64 64" role="meter" aria-label=${`${level.name} level`} aria-valuemin="0" aria-valuemax="1"
      aria-valuenow=${share.toFixed(3)} aria-valuetext=${told}>
      <circle cx="32" cy="32" r="26" />
      <circle cx="32" cy="32" r="26" class="done" stroke-dasharray=${`${share * ROUND} ${ROUND}`} transform="rotate(-90 32 32)" />
    </svg>
    <div>
      <h3>${words(level.name)}</h3>
      <p class="soft small">${told}</p>
      <p class="norm"><span class="track"><span class="fill" style=${{ width: `${(100 * level.norm) / most}%` }}></span></span>
        <span class="small">norm ${number(level.norm, 3)}</span></p>
      <p class="small soft">${size(level.bytes)} · <${Code} value=${level.digest} keep=${8} /></p>
    </div>
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

const grown = (counts) => {
  let sum = 0;
  return counts.map((one) => (sum += one));
};

function History() {
  const { bank } = useFrame();
  const { data, error } = useLoad(() => api.series(bank), [bank]);
  const buckets = useMemo(() => (data?.points.length ? bucketed(data.points) : null), [data]);
  const series = useMemo(() => buckets && [
    { label: 'corrections', colour: '--accent', values: grown(buckets.all) },
    { label: 'of these, a wrong answer put right', colour: '--rubric', values: grown(buckets.mistakes) },
  ], [buckets]);
  if (error) return html`<${Fault} error=${error} />`;
  if (!buckets) return null;
  const mistakes = data.points.filter((point) => point.mistake).length;
  const said = `${plural(data.points.length, 'correction')}, ${number(mistakes)} of them of a wrong answer; as a table below`;
  return html`<section aria-labelledby="history"><h2 id="history">What it was taught, over time</h2>
    <${Curve} times=${buckets.times} series=${series} label=${said} />
    ${data.older && html`<p class="soft small">The newest ${number(data.points.length)} corrections; the bank has older ones.</p>`}
    <details><summary>As a table</summary><div class="scroll"><table>
      <thead><tr><th>From</th><th class="num">Corrections</th><th class="num">Of a wrong answer</th></tr></thead>
      <tbody>${buckets.times.map((time, place) => buckets.all[place] > 0 && html`<tr>
        <td>${new Date(time * 1000).toLocaleString()}</td><td class="num">${buckets.all[place]}</td>
        <td class="num">${buckets.mistakes[place]}</td></tr>`)}
      </tbody></table></div></details>
  </section>`;
}
