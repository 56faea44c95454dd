// How a bank came to what it knows: what it was taught, its mistakes and its surprise, and how far its levels moved.
import * as api from './api.js';
import { html, useMemo, useState } from './h.js';
import { Curve } from './parts/chart.js';
import { useFrame, useLoad } from './parts/frame.js';
import { Empty, Fault, Field } from './parts/marks.js';
import { number, percent, plural } from './parts/words.js';

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

/** The course of the bank that is shown, over a time that one chooses. */
export function History() {
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
