// Calls that are over.

import { read, Trouble } from '../api.js';
import { reading } from '../dialog.js';
import { el, show } from '../dom.js';
import { button, chip, instant, named, search, short, Table } from '../table.js';
import { duration, moment } from '../time.js';

/** @typedef {import('../types.js').Detail} Detail */
/** @typedef {import('../types.js').Media} Media */

/** Calls shown at once. */
const PAGE = 100;
/** How old what is shown gets before it is asked for again, and how long nothing is typed before it is looked for; in milliseconds. */
const EVERY = 5000;
const PAUSE = 300;

export class History {
  id = 'history';
  title = 'History';
  /** What is asked for now, and when it was, on the clock of `performance.now()`. */
  #asked = { path: '', at: -EVERY };
  /** The last calls of the newer pages, the newest page's first. */
  #newer = /** @type {string[]} */ ([]);
  #last = '';
  #typing = 0;

  constructor() {
    const changed = () => this.#changed();
    this.text = search('Search all, by number, name or queue', changed);
    this.from = instant('Begun from', changed);
    this.to = instant('Begun before', changed);
    this.table = new Table('Calls that are over, newest first', (/** @type {Detail} */ detail) => detail.call, columns, '');
    this.trouble = el('p', { role: 'alert', class: 'wrong', hidden: true });
    this.back = button('Newer', 'Newer calls', () => this.#turn(() => this.#newer.pop()));
    this.on = button('Older', 'Older calls', () => this.#turn(() => this.#newer.push(this.#last)));
    const narrowing = el('div', { class: 'narrowing' }, this.text.element, this.from.element, this.to.element);
    const turning = el('p', { class: 'buttons' }, this.back, this.on);
    this.element = el('div', { class: 'view' }, narrowing, this.trouble, this.table.element, turning);
  }

  update() {
    if (performance.now() - this.#asked.at >= EVERY) void this.#look();
  }

  #changed() {
    clearTimeout(this.#typing);
    this.#typing = setTimeout(() => this.#turn(() => (this.#newer = [])), PAUSE);
  }

  /** @param {() => void} step */
  #turn(step) {
    step();
    scrollTo(0, 0);
    void this.#look();
  }

  async #look() {
    const wanted = { party: this.text.text().trim(), from: this.from.time(), to: this.to.time(), before: this.#newer.at(-1) };
    const given = Object.entries(wanted).flatMap(([name, value]) => (value ? [[name, value]] : []));
    // One more than is shown tells whether there are older ones.
    const path = `/v1/cdrs?${new URLSearchParams([['limit', String(PAGE + 1)], ...given])}`;
    this.#asked = { path, at: performance.now() };
    let details = /** @type {Detail[] | null} */ (null);
    let trouble = '';
    try {
      details = await read(path);
    } catch (error) {
      if (!(error instanceof Trouble)) throw error;
      trouble = error.message;
    }
    // Something else is wanted by now.
    if (this.#asked.path !== path) return;
    show(this.trouble, trouble);
    this.trouble.hidden = trouble === '';
    if (details) this.#show(details, given.length > 0);
  }

  /**
   * @param {Detail[]} details
   * @param {boolean} isNarrowed
   */
  #show(details, isNarrowed) {
    const shown = details.slice(0, PAGE);
    this.#last = shown.at(-1)?.call ?? '';
    this.table.empty = isNarrowed ? 'There is no such call.' : 'No call has ended yet.';
    this.table.update(shown);
    this.back.disabled = this.#newer.length === 0;
    this.on.disabled = details.length <= PAGE;
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
    ...(detail.choices ?? []).map(({ menu, keys, to }) => ['Chose', `${keys || 'nothing'} in menu ${menu}: on to ${to}`]),
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
