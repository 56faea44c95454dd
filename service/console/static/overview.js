// A bank at a glance: what it holds, its levels, and how it came to it.
import * as api from './api.js';
import { bucketed, Curve } from './chart.js';
import { html, useMemo } from './h.js';
import { Chip, Code, Empty, Fault, number, plural, size, Time, useFrame, useLoad, words } from './ui.js';

export function Overview() {
  const { bank, can, go, openTeach } = useFrame();
  const facts = useLoad(async () => {
    const [memory, found] = await Promise.all([api.memory(bank), api.bank(bank)]);
    return { memory, bank: found };
  }, [bank]);
  const recent = useLoad(() => api.corrections(bank, { limit: 5 }), [bank]);
  const { memory } = facts.data || {};
  return html`
    <div class="head"><h1>${facts.data?.bank.name || bank}</h1>
      ${can('corrections:write') && html`<button type="button" class="main" onClick=${openTeach}>Teach<kbd>t</kbd></button>`}</div>
    <${Fault} error=${facts.error} />
    ${
      memory &&
      html`
      <dl class="tiles">
        <div><dt>corrections</dt><dd>${number(memory.corrections)}</dd></div>
        <div><dt>distinct answers</dt><dd>${number(memory.responses)}</dd></div>
        <div><dt>forgotten</dt><dd>${number(memory.forgotten)}</dd></div>
        <div><dt>weights</dt><dd>${size(memory.bytes)}</dd></div>
      </dl>
      <p class="facts"><span>Answers from <${Code} value=${memory.state.snapshot_id} /> and the ledger up to ${number(memory.state.seq)}</span>
        <span>Digest <${Code} value=${memory.digest} keep=${16} /></span>
        ${memory.rebuild_pending && html`<span><${Chip} name="being rebuilt" tone="busy" /></span>`}</p>
      <${Levels} memory=${memory} />`
    }
    <${History} bank=${bank} />
    <section aria-labelledby="recent"><div class="head"><h2 id="recent">Taught last</h2><button type="button" class="quiet" onClick=${() => go('corrections')}>All corrections</button></div>
      ${
        recent.data &&
        (recent.data.items.length
          ? html`<ul class="recent">${recent.data.items.map(
              (one) => html`
        <li key=${one.id}><button type="button" class="row" onClick=${() => go('corrections', one.id)}>
          <span class="situation">${one.input ?? 'erased'}</span><span class="right">${one.right ?? 'erased'}</span><${Chip} name=${one.status} /><${Time} at=${one.created_at} /></button></li>`,
            )}</ul>`
          : html`<${Empty}>Nothing was taught yet. Press <kbd>t</kbd> to teach the first correction.<//>`)
      }
      <${Fault} error=${recent.error} />
    </section>`;
}

/** Each level as a ring: how far the bank's clock is on its way to the level's next change. */
function Levels({ memory }) {
  const most = Math.max(...memory.levels.map((level) => level.norm), 1e-9);
  return html`<section aria-labelledby="levels"><h2 id="levels">Levels</h2>
    <div class="levels">${memory.levels.map((level) => html`<${Level} key=${level.name} level=${level} clock=${memory.clock_tokens} most=${most} />`)}</div></section>`;
}

function Level({ level, clock, most }) {
  const period = level.period_tokens;
  const share = period ? (clock % period) / period : 0;
  const round = 2 * Math.PI * 26;
  const said = period
    ? `changes every ${plural(period, 'token')}`
    : period === 0
      ? 'changes with every correction'
      : 'changes by consolidation only';
  const told = period ? `${number(clock % period)} of ${number(period)} tokens to its next change` : said;
  return html`<article class="level">
    <svg viewBox="0 0 64 64" role="meter" aria-label=${`${level.name} level`} aria-valuemin="0" aria-valuemax="1" aria-valuenow=${share.toFixed(3)} aria-valuetext=${told}>
      <circle cx="32" cy="32" r="26" class="ring" />
      <circle cx="32" cy="32" r="26" class="done" stroke-dasharray=${`${(period ? share : period === 0 ? 1 : 0) * round} ${round}`} transform="rotate(-90 32 32)" />
    </svg>
    <div><h3>${words(level.name)}</h3><p class="soft small">${said}</p>
      <p class="norm"><span class="track"><span class="fill" style=${{ width: `${(100 * level.norm) / most}%` }}></span></span><span class="small">norm ${level.norm.toPrecision(3)}</span></p>
      <p class="small soft">${size(level.bytes)} · <${Code} value=${level.digest} keep=${8} /></p></div>
  </article>`;
}

function History({ bank }) {
  const { data, error } = useLoad(() => api.series(bank), [bank]);
  const drawn = useMemo(() => {
    if (!data?.points.length) return null;
    const buckets = bucketed(data.points);
    const grown = (counts) => {
      let sum = 0;
      return counts.map((one) => {
        sum += one;
        return sum;
      });
    };
    return {
      ...buckets,
      series: [
        { label: 'corrections', colour: '--accent', values: grown(buckets.all) },
        { label: 'of these, a wrong answer put right', colour: '--rubric', values: grown(buckets.mistakes) },
      ],
    };
  }, [data]);
  if (error) return html`<${Fault} error=${error} />`;
  if (!drawn) return null;
  const last = data.points.length;
  const mistakes = data.points.filter((point) => point.mistake).length;
  return html`<section aria-labelledby="history"><h2 id="history">What it was taught, over time</h2>
    <${Curve} times=${drawn.times} series=${drawn.series} label=${`${plural(last, 'correction')}, ${number(mistakes)} of them of a wrong answer; as a table below`} />
    ${data.older && html`<p class="soft small">The newest ${number(last)} corrections; the bank has older ones.</p>`}
    <details><summary>As a table</summary><div class="scroll"><table><thead><tr><th>From</th><th class="num">Corrections</th><th class="num">Of a wrong answer</th></tr></thead><tbody>
      ${drawn.times.map((time, place) => drawn.all[place] > 0 && html`<tr><td>${new Date(time * 1000).toLocaleString()}</td><td class="num">${drawn.all[place]}</td><td class="num">${drawn.mistakes[place]}</td></tr>`)}
    </tbody></table></div></details></section>`;
}
