// Curves, drawn by uPlot, which is loaded when the first one is needed. Beside each stands its table, for those who cannot see it.
import { html, useEffect, useRef, useState } from './h.js';

const LENGTHS = [1, 5, 15, 60, 300, 900, 3600, 6 * 3600, 86400, 7 * 86400]; // of a bucket, in seconds
const BUCKETS = 48; // about so many in a curve

let loading;
function library() {
  loading ??= new Promise((done, failed) => {
    for (const [tag, given] of [
      ['link', { rel: 'stylesheet', href: new URL('vendor/uplot.css', import.meta.url) }],
      ['script', { src: new URL('vendor/uplot.js', import.meta.url) }],
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

/** Points in time as buckets: {times, all, mistakes, length}, counted in each. */
export function bucketed(points) {
  const [first, last] = [points[0].time, points[points.length - 1].time];
  const length = LENGTHS.find((one) => (last - first) / one <= BUCKETS) || Math.ceil((last - first) / BUCKETS);
  const start = Math.floor(first / length) * length;
  const count = Math.floor((last - start) / length) + 1;
  const times = Array.from({ length: count }, (_, place) => start + place * length);
  const [all, mistakes] = [new Array(count).fill(0), new Array(count).fill(0)];
  for (const point of points) {
    const place = Math.floor((point.time - start) / length);
    all[place] += 1;
    if (point.mistake) mistakes[place] += 1;
  }
  return { times, all, mistakes, length };
}

const DAY = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const MINUTE = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const SECOND = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });
const moment = (time, step) => (step < 60 ? SECOND : step < 86400 ? MINUTE : DAY).format(time * 1000);

/** What a custom property is as a colour in this theme, for a canvas, which knows none; with `share`, so much of it. */
function colour(name, share = 1) {
  const probe = document.body.appendChild(document.createElement('span'));
  probe.style.color = `color-mix(in srgb, var(${name}) ${100 * share}%, transparent)`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function options(uPlot, times, series) {
  const axis = { stroke: colour('--soft'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false }, font: '12px system-ui' };
  const lonely = times.length < 3; // points that make no line
  return {
    padding: [12, 24, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { setScale: false } },
    scales: {
      x: { range: times.length > 1 ? undefined : (_, low) => [low - 30, low + 30] },
      y: { range: (_, low, high) => [0, Math.max(4, high * 1.1)] },
    },
    axes: [
      {
        ...axis, size: 32, space: 80, incrs: [...LENGTHS, 4 * 7 * 86400, 52 * 7 * 86400],
        values: (_, at, __, ___, step) => at.map((time) => moment(time, step)),
      },
      { ...axis, size: 44, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000] },
    ],
    series: [{}, ...series.map((one) => ({
      label: one.label,
      stroke: colour(one.colour),
      width: 2,
      fill: colour(one.colour, 0.13),
      paths: uPlot.paths.stepped({ align: 1 }),
      points: { show: lonely },
    }))],
  };
}

/** Several series over time as stepped curves that add up. `series`: [{label, colour, values}], a colour named by its custom property. */
export function Curve({ times, series, label }) {
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
    const wide = () => ({ width: element.clientWidth, height: 220 });
    const watcher = new ResizeObserver(() => plot?.setSize(wide()));
    library().then((uPlot) => {
      if (gone) return;
      plot = new uPlot({ ...wide(), ...options(uPlot, times, series) }, [times, ...series.map((one) => one.values)], element);
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
