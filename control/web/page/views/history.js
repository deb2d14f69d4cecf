// Calls that are over.

import { reading } from '../dialog.js';
import { el } from '../dom.js';
import { button, chip, named, short, Table } from '../table.js';
import { duration, moment } from '../time.js';
import { Listing } from './listing.js';

/** @typedef {import('../types.js').Detail} Detail */
/** @typedef {import('../types.js').Media} Media */

/** @extends {Listing<Detail>} */
export class History extends Listing {
  constructor() {
    const table = new Table('Calls that are over, newest first', (/** @type {Detail} */ detail) => detail.call, columns, 'No call has ended yet.');
    super('history', 'History', '/v1/cdrs?limit=200', 'Search the newest 200, by number, name or queue', table);
  }
}

/** @type {import('../table.js').Column<Detail>[]} */
const columns = [
  { title: 'Begun', kind: 'main', cell: (detail) => moment(detail.started_unix_us) },
  { title: 'Caller', cell: (detail) => el('bdi', {}, short(detail.from)) },
  { title: 'To', cell: (detail) => named(short(detail.to), detail.queue ? `queue ${detail.queue}` : null) },
  { title: 'Answered by', cell: (detail) => detail.answered_by ?? '–' },
  { title: 'Waited', kind: 'number', cell: (detail) => duration(detail.wait_ms) },
  { title: 'Talked', kind: 'number', cell: (detail) => (detail.talk_ms > 0 ? duration(detail.talk_ms) : '–') },
  { title: 'End', cell: endOf },
  { title: 'Quality', cell: quality },
  {
    title: 'Actions',
    kind: 'actions',
    cell: (detail) => button('Details', `Details of the call of ${short(detail.from)}`, () => reading('Call', whole(detail))),
  },
];

/** @param {Detail} detail */
function endOf({ status, reason, ended_by: by }) {
  const isUsual = status === 200 && by !== 'system';
  const text = status === 200 ? `by ${by}` : `${status}`;
  const tone = isUsual ? 'good' : status === 200 || status === 487 ? 'poor' : 'bad';
  return [chip(text, tone), isUsual ? null : el('small', { class: 'below' }, reason)];
}

/** @param {Detail} detail */
function quality({ legs }) {
  const known = legs.map((leg) => leg.media?.mos ?? null).filter((mos) => mos !== null);
  if (known.length === 0) return '–';
  const worst = Math.min(.../** @type {number[]} */ (known));
  const tone = worst >= 4 ? 'good' : worst >= 3.5 ? 'poor' : 'bad';
  return chip(`MOS ${worst.toFixed(1)}`, tone);
}

/** @param {Detail} detail */
function whole(detail) {
  const facts = [
    ['Name', detail.call],
    ['Begun', new Date(detail.started_unix_us / 1000).toLocaleString()],
    ['Caller', short(detail.from)],
    ['To', short(detail.to)],
    ['Queue', detail.queue],
    ['Room', detail.room],
    ['Rung', detail.rung.join(', ')],
    ['Answered by', detail.answered_by],
    ['Waited', duration(detail.wait_ms)],
    ['Talked', duration(detail.talk_ms)],
    ['Ended by', `${detail.ended_by}: ${detail.status} ${detail.reason}`],
    ['Media host', detail.host],
    ...detail.recordings.map((file) => ['Recording', file.path ? `${file.host}: ${file.path} (${duration(file.duration_ms)})` : 'none was kept']),
  ];
  const list = el('dl', { class: 'facts' });
  for (const [name, value] of facts) if (value) list.append(el('dt', {}, name), el('dd', {}, el('bdi', {}, value)));
  const legs = new Table('Parties', (/** @type {import('../types.js').Leg} */ leg) => `${leg.address} ${leg.joined_unix_us}`, legColumns, 'Nobody was in it.');
  legs.update(detail.legs);
  return el('div', {}, list, legs.element);
}

/** @type {import('../table.js').Column<import('../types.js').Leg>[]} */
const legColumns = [
  { title: 'Party', kind: 'main', cell: (leg) => named(leg.user ?? short(leg.address), leg.called ? 'was called' : 'called') },
  { title: 'In the call for', kind: 'number', cell: (leg) => duration((leg.left_unix_us - leg.joined_unix_us) / 1000) },
  { title: 'Codec', cell: (leg) => [leg.codec || '–', leg.srtp ? ' encrypted' : ''].join('') },
  { title: 'Sent', kind: 'number', cell: (leg) => leg.media?.rx_packets ?? '–' },
  { title: 'Lost', kind: 'number', cell: (leg) => leg.media?.lost ?? '–' },
  { title: 'Got', kind: 'number', cell: (leg) => leg.media?.tx_packets ?? '–' },
  { title: 'Jitter', kind: 'number', cell: (leg) => (leg.media ? `${leg.media.jitter_ms.toFixed(1)} ms` : '–') },
  { title: 'MOS', kind: 'number', cell: (leg) => leg.media?.mos?.toFixed(1) ?? '–' },
];
