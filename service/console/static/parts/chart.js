// Curves, drawn by uPlot, which is loaded when the first one is needed. Beside each stands its table, for those who cannot see it.
import { html, useEffect, useRef, useState } from '../h.js';
import { number, percent } from './words.js';

const [HOUR, DAY_S] = [3600, 86400];
const STEPS = [HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY_S, 7 * DAY_S, 28 * DAY_S, 84 * DAY_S]; // seconds between two times that are written

let loading;
function library() {
  loading ??= new Promise((done, failed) => {
    for (const [tag, given] of [
      ['link', { rel: 'stylesheet', href: new URL('../vendor/uplot.css', import.meta.url) }],
      ['script', { src: new URL('../vendor/uplot.js', import.meta.url) }],
    ]) {
      const element = Object.assign(document.createElement(tag), given);
      if (tag === 'script') {
        element.onload = () => done(window.uPlot);
        element.onerror = failed;
      }
      document.head.append(element);
    }
  });
  return loading;
}

const DAY = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const MINUTE = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const moment = (time, step) => (step < DAY_S ? MINUTE : DAY).format(time * 1000);

/** What a custom property is as a colour in this theme, for a canvas, which knows none; with `share`, so much of it. */
function colour(name, share = 1) {
  const probe = document.body.appendChild(document.createElement('span'));
  probe.style.color = `color-mix(in srgb, var(${name}) ${100 * share}%, transparent)`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function options(uPlot, times, width, series, share) {
  const axis = { stroke: colour('--soft'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false }, font: '12px system-ui' };
  const bars = uPlot.paths.bars({ size: [0.8, 64], align: 1 }); // from the beginning of a bucket on
  return {
    padding: [12, 24, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { setScale: false } },
    scales: {
      x: { range: () => [times[0], times[times.length - 1] + width] },
      y: { range: (_, low, high) => [0, share ? 1 : Math.max(4, high * 1.1)] },
    },
    axes: [
      { ...axis, size: 32, space: 80, incrs: STEPS, values: (_, at, __, ___, step) => at.map((time) => moment(time, step)) },
      { ...axis, size: 48, incrs: share ? [0.25, 0.5, 1] : [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000],
        values: (_, at) => at.map((value) => (share ? percent(value) : number(value))) },
    ],
    series: [{}, ...series.map((one) => ({
      label: one.label,
      stroke: colour(one.colour),
      width: share ? 2 : 0,
      fill: share ? undefined : colour(one.colour),
      paths: share ? undefined : bars,
      points: { show: share, size: 6 },
      spanGaps: true,
    }))],
  };
}

/**
 * Several series over buckets of time, each `width` seconds long: counts as bars in front of each other, or with `share` parts of one as lines.
 * `series`: [{label, colour, values}], a colour named by its custom property; null where there is nothing.
 */
export function Curve({ times, width, series, share = false, label }) {
  const box = useRef();
  const [theme, setTheme] = useState(0);
  useEffect(() => {
    const repaint = () => setTheme((n) => n + 1);
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    scheme.addEventListener('change', repaint);
    window.addEventListener('themechange', repaint);
    return () => {
      scheme.removeEventListener('change', repaint);
      window.removeEventListener('themechange', repaint);
    };
  }, []);
  useEffect(() => {
    const element = box.current;
    let plot;
    let gone = false;
    const wide = () => ({ width: element.clientWidth, height: share ? 150 : 220 });
    const watcher = new ResizeObserver(() => plot?.setSize(wide()));
    library().then((uPlot) => {
      if (gone) return;
      plot = new uPlot({ ...wide(), ...options(uPlot, times, width, series, share) }, [times, ...series.map((one) => one.values)], element);
      watcher.observe(element);
    });
    return () => {
      gone = true;
      watcher.disconnect();
      plot?.destroy();
    };
  }, [times, series, theme]);
  return html`<figure class="curve">
    <div ref=${box} role="img" aria-label=${label}></div>
    <figcaption>${series.map((one) => html`<span class="key">
      <span class="swatch" style=${{ background: `var(${one.colour})` }}></span>${one.label}</span>`)}</figcaption>
  </figure>`;
}
