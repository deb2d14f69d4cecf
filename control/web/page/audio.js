// Who hears whom in a call, drawn and in words.

import { read, Trouble } from './api.js';
import { reading } from './dialog.js';
import { el, show } from './dom.js';
import { path } from './actions.js';
import { Poller } from './poll.js';

/** @typedef {import('./types.js').Audio} Audio */
/** @typedef {import('./types.js').Direction} Direction */
/** @typedef {import('./types.js').Party} Party */
/** @typedef {import('./types.js').Figures} Figures */

const MARKS = { yes: '✓', badly: '!', no: '✕', unknown: '?' };

/**
 * Opens the explanation of a call, which goes on until it is closed.
 * @param {string} call
 * @param {string} who
 */
export function openAudio(call, who) {
  const content = el('div', { class: 'audio', 'aria-live': 'polite' }, el('p', { class: 'note' }, 'Asking the media host…'));
  const poller = new Poller(() => look(call, content));
  reading(`Who hears whom: ${who}`, content, () => poller.end());
}

/**
 * @param {string} call
 * @param {Element} content
 */
async function look(call, content) {
  try {
    show(content, ...drawn(await read(path`/v1/calls/${call}/audio`)));
  } catch (error) {
    show(content, el('p', { class: 'note' }, trouble(error)));
  }
}

/** @param {unknown} error */
function trouble(error) {
  if (!(error instanceof Trouble)) throw error;
  switch (error.status) {
    case 0:
      return 'controld does not answer. This goes on by itself when it is back.';
    case 404:
      return 'The call is over. What became of it stands under History.';
    default:
      return `${error.message}.`;
  }
}

/** @param {Audio} audio */
function drawn(audio) {
  const party = (/** @type {string} */ id) => audio.parties.find((party) => party.id === id);
  const ways = audio.directions.map((way) => {
    const [from, to] = [party(way.from), party(way.to)];
    return from && to ? direction(way, from, to, audio.host) : null;
  });
  return [...ways, audio.note && el('p', { class: 'note' }, `${audio.note}.`)];
}

/**
 * @param {Direction} way
 * @param {Party} from
 * @param {Party} to
 * @param {string} host
 */
function direction(way, from, to, host) {
  const words = [
    el('h3', {}, el('span', { class: 'mark', 'aria-hidden': 'true' }, MARKS[way.heard]), ' ', el('bdi', {}, way.verdict)),
    way.heard !== 'yes' && way.reason && el('p', {}, sentence(way.reason)),
    way.remedy && el('p', { class: 'remedy' }, el('b', {}, 'What to do: '), sentence(way.remedy)),
    el('p', { class: 'figures' }, figures(way, from, to)),
  ];
  return el('section', { class: `way ${way.heard}` }, lane(way, from, to, host), ...words);
}

/**
 * Speaker, media host, listener, and where between them it stops. The words beside it say the same.
 * @param {Direction} way
 * @param {Party} from
 * @param {Party} to
 * @param {string} host
 */
function lane(way, from, to, host) {
  const before = way.heard === 'no' && way.stops === 'before_host';
  const at = way.heard === 'no' && way.stops === 'at_host';
  const tone = way.heard === 'no' ? 'yes' : way.heard;
  const first = before ? 'stop' : tone;
  const second = way.heard !== 'no' ? tone : way.stops === 'after_host' ? 'stop' : 'dead';
  return el(
    'div',
    { class: 'lane', 'aria-hidden': 'true' },
    stop(from.name, from.role),
    el('span', { class: `wire ${first}` }, before ? el('i', {}, '✕') : null),
    el('span', { class: `stop host ${at ? 'bad' : ''}` }, el('b', {}, host), el('small', {}, 'media host')),
    el('span', { class: `wire ${second}` }, second === 'stop' ? el('i', {}, '✕') : null),
    stop(to.name, to.role),
  );
}

/**
 * @param {string} name
 * @param {string} role
 */
function stop(name, role) {
  return el('span', { class: 'stop' }, el('b', {}, el('bdi', {}, name)), el('small', {}, role));
}

/**
 * @param {Direction} way
 * @param {Party} from
 * @param {Party} to
 */
function figures(way, from, to) {
  const told = [
    way.received && `${from.name} sent ${stream(way.received)}${last(way.received)}`,
    way.sent && `${to.name} was sent ${stream(way.sent)}`,
    way.carried_by && way.carried_by !== 'silent' && `carried by ${way.carried_by}`,
  ];
  return told.filter(Boolean).join(' · ');
}

/** @param {Figures} figures */
function stream({ codec, packets, lost, mos }) {
  const parts = [`${packets} packets`];
  if (codec && packets > 0) parts.push(codec);
  if (lost > 0) parts.push(`${lost} lost`);
  if (mos) parts.push(`MOS ${mos.toFixed(1)}`);
  return parts.join(', ');
}

/** @param {Figures} figures */
function last({ last_ms: ms }) {
  return ms !== null && ms !== undefined && ms > 1000 ? `, the last ${(ms / 1000).toFixed(0)} s ago` : '';
}

/** @param {string} text */
function sentence(text) {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.?!]$/.test(first) ? first : `${first}.`;
}
