// What several versions answer to a probe set: how many pass, and question by question where they differ.
import { html, useMemo, useState } from '../h.js';
import { Bar } from '../parts/marks.js';
import { plural } from '../parts/words.js';

const SILENCE = html`<em>silence</em>`;

/** A row for each question: [{said, passed, turned}] by version; `turned` where it passes otherwise than in the version before. */
function rowsOf(set, ran) {
  const failures = ran.versions.map((version) => new Map(version.failures.map((one) => [one.place, one.said.value])));
  return set.probes.map((probe, place) => {
    const cells = failures.map((of) => (of.has(place) ? { said: of.get(place), passed: false } : { said: probe.expected, passed: true }));
    return {
      probe,
      cells: cells.map((cell, column) => ({ ...cell, turned: column > 0 && cell.said !== cells[column - 1].said })),
      flips: cells.some((cell) => cell.said !== cells[0].said),
    };
  });
}

/** `nameOf` a version's id. */
export function Matrix({ set, ran, nameOf }) {
  const rows = useMemo(() => rowsOf(set, ran), [set, ran]);
  const flips = rows.filter((one) => one.flips);
  const [all, setAll] = useState(false);
  const several = ran.versions.length > 1;
  const shown = several && !all && flips.length ? flips : rows;
  return html`<section aria-labelledby="ran"><h2 id="ran">Answers</h2>
    <p role="status">${several && (flips.length ? html`
      <strong>${plural(flips.length, 'answer differs', 'answers differ')}</strong> between these versions.` : 'All these versions answer alike.')}</p>
    ${several && flips.length > 0 && html`<label class="check"><input type="checkbox" checked=${!all} onChange=${() => setAll(!all)} />
      Only where they differ</label>`}
    <div class="scroll matrix" role="region" aria-label="Answers by version" tabindex="0"><table>
      <thead><tr><th scope="col">Question</th>${ran.versions.map((one) => html`<th scope="col"><span>${nameOf(one.at)}</span>
        <${Bar} share=${one.passed / (one.passed + one.failed)} figure=${`${one.passed} of ${one.passed + one.failed}`}
          tone=${one.failed ? 'dim' : ''} label=${`Passed by ${nameOf(one.at)}`} /></th>`)}</tr></thead>
      <tbody>${shown.map(({ probe, cells }) => html`<tr>
        <th scope="row"><span class="situation">${probe.input}</span><span class="soft small">expected: ${probe.expected ?? SILENCE}</span></th>
        ${cells.map((cell) => html`<td class=${`${cell.passed ? 'passed' : 'failed'} ${cell.turned ? 'turned' : ''}`}>
          <span class="sign" aria-hidden="true">${cell.passed ? '✓' : '✗'}</span>
          <span class="unseen">${cell.passed ? 'passed: ' : 'failed: '}</span>
          ${cell.said ?? SILENCE}</td>`)}</tr>`)}</tbody>
    </table></div></section>`;
}
