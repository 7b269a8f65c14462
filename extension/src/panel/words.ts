// How states, times and numbers are told in rows: short, with units, as core/show tells them in results.
import { Moment } from '../api';

/** What a row's mark means; each has a shape of its own, so that nobody needs to tell colours apart. */
export type Mark = 'good' | 'bad' | 'warn' | 'busy' | 'wait' | 'off' | 'none';

const MARKS: Record<string, Mark> = {
  running: 'busy',
  starting: 'busy',
  done: 'good',
  finished: 'good',
  succeeded: 'good',
  cached: 'good',
  holds: 'good',
  failed: 'bad',
  dead: 'bad',
  killed: 'bad',
  crashed: 'bad',
  refused: 'warn',
  missed: 'warn',
  waiting: 'wait',
  queued: 'wait',
  pending: 'wait',
  scheduled: 'wait',
  paused: 'off',
  stopped: 'off',
  skipped: 'off'
};

/** The mark of a state as the server calls it; a state that is not known here is told by its word alone. */
export function markOf(state: string | null | undefined): Mark {
  return MARKS[(state ?? '').toLowerCase()] ?? 'none';
}

const SHAPES: Record<Exclude<Mark, 'none'>, string> = {
  good: 'M2.5 8.5 6 12l7.5-8',
  bad: 'M3.5 3.5l9 9M12.5 3.5l-9 9',
  warn: 'M8 3v6M8 12v1.2',
  busy: 'M8 2.5a5.5 5.5 0 1 1-5.5 5.5',
  wait: 'M8 2.5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 1 1 0-11zM8 5v3.2l2 1.6',
  off: 'M5.5 4v8M10.5 4v8'
};

/** The mark as a picture that says nothing to a screen reader: the row's name has the word. */
export function drawMark(mark: Mark): HTMLElement {
  const host = document.createElement('span');
  host.className = `aip-Mark aip-mod-${mark}`;
  if (mark !== 'none') {
    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    svg.setAttribute('viewBox', '0 0 16 16');
    svg.setAttribute('aria-hidden', 'true');
    const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
    path.setAttribute('d', SHAPES[mark]);
    svg.append(path);
    host.append(svg);
  }
  return host;
}

const UNITS: readonly [number, string][] = [
  [86_400, 'd'],
  [3_600, 'h'],
  [60, 'min']
];

/** A duration in its largest fitting unit. */
export function duration(seconds: number): string {
  for (const [size, unit] of UNITS) {
    if (seconds >= 2 * size) {
      return `${Math.floor(seconds / size)} ${unit}`;
    }
  }
  return seconds >= 1 || seconds <= 0 ? `${Math.max(0, Math.floor(seconds))} s` : `${Math.round(1000 * seconds)} ms`;
}

/** Milliseconds of a moment; NaN for none. */
export function when(moment: Moment | null | undefined): number {
  return typeof moment === 'number' ? 1000 * moment : moment ? Date.parse(moment) : NaN;
}

/** How long ago, "3 h"; or "in 20 min"; or nothing. In full it is in the tooltip. */
export function ago(moment: Moment | null | undefined): string {
  const seconds = (Date.now() - when(moment)) / 1000;
  if (Number.isNaN(seconds)) {
    return '';
  }
  return seconds >= 0 ? duration(seconds) : `in ${duration(-seconds)}`;
}

/** A moment in full, for tooltips. */
export function fullTime(moment: Moment | null | undefined): string {
  const at = when(moment);
  return Number.isNaN(at) ? '' : new Date(at).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
}

/** A measured value with the digits that somebody reads. */
export function figure(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) {
    return '–';
  }
  const size = Math.abs(value);
  if (value !== 0 && (size >= 1e6 || size < 1e-3)) {
    return value.toPrecision(3);
  }
  return Number(value.toFixed(size < 100 ? 4 : 1)).toLocaleString('en-US', { maximumFractionDigits: 4 });
}

/** A measured value in a list, where the eye compares it with those above and below. */
export function score(value: number): string {
  return Math.abs(value) < 10 && !Number.isInteger(value) && Math.abs(value) >= 1e-3 ? value.toFixed(4) : figure(value);
}

/** Bytes as GB or MB. */
export function bytes(value: number): string {
  return value >= 1e9 ? `${(value / 1e9).toFixed(1)} GB` : `${Math.round(value / 1e6)} MB`;
}

/** "1 run", "3 runs". */
export function count(number: number, noun: string): string {
  return `${number.toLocaleString('en-US')} ${noun}${number === 1 ? '' : 's'}`;
}
