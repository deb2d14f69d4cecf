// Times that count on between two answers, and are not pulled to and fro by how long each answer took.

import { el } from './dom.js';

/** How far an answer may be from what is shown before it is believed, in milliseconds. */
const SLACK = 1500;

/** When things began, on this page's clock, by key. */
const begun = /** @type {Map<string, {at: number, seen: number}>} */ (new Map());

/**
 * When something began that is `age` milliseconds old now.
 * @param {string} key the same for the same thing
 * @param {number} age
 * @returns {number} on the clock of `performance.now()`
 */
export function beginning(key, age) {
  const now = performance.now();
  const at = now - age;
  const known = begun.get(key);
  if (known && Math.abs(known.at - at) < SLACK) {
    known.seen = now;
    return known.at;
  }
  begun.set(key, { at, seen: now });
  return at;
}

/**
 * An age that counts on; `down`: what is left, which counts towards zero.
 * @param {string} key
 * @param {number | null | undefined} age in milliseconds
 * @param {{down?: boolean, late?: number}} [options] `late`: from so many milliseconds on it stands out
 * @returns {HTMLElement | string}
 */
export function ticking(key, age, options = {}) {
  if (age === null || age === undefined) return '–';
  const at = options.down ? beginning(key, -age) : beginning(key, age);
  const time = el('time', {
    'data-since': at.toFixed(0),
    'data-down': options.down,
    'data-late': options.late,
  });
  tick(time, performance.now());
  return time;
}

/**
 * @param {HTMLElement} time
 * @param {number} now
 */
function tick(time, now) {
  const since = now - Number(time.dataset.since);
  const ms = Math.max(0, 'down' in time.dataset ? -since : since);
  const text = duration(ms);
  if (time.textContent !== text) time.textContent = text;
  const isLate = time.dataset.late !== undefined && ms >= Number(time.dataset.late);
  if (time.classList.contains('late') !== isLate) time.classList.toggle('late', isLate);
}

/** All times on the page count on. */
export function tickAll() {
  const now = performance.now();
  for (const time of document.querySelectorAll('time[data-since]')) {
    tick(/** @type {HTMLElement} */ (time), now);
  }
}

/** Forgets when those began that were not told of for a minute. */
export function forgetOld() {
  const old = performance.now() - 60_000;
  for (const [key, { seen }] of begun) if (seen < old) begun.delete(key);
}

/**
 * 0:07, 12:34, 1:02:03, 3 d 4 h.
 * @param {number} ms
 * @returns {string}
 */
export function duration(ms) {
  const s = Math.floor(ms / 1000);
  const two = (/** @type {number} */ value) => String(value).padStart(2, '0');
  if (s < 3600) return `${Math.floor(s / 60)}:${two(s % 60)}`;
  if (s < 86_400) return `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  return `${Math.floor(s / 86_400)} d ${Math.floor(s / 3600) % 24} h`;
}

/**
 * Day and time, as people here write them.
 * @param {number} us microseconds since the Unix epoch
 * @returns {string}
 */
export function moment(us) {
  const at = new Date(us / 1000);
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday ? at.toLocaleTimeString() : at.toLocaleString();
}
