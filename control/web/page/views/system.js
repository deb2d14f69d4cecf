// Media hosts, trunks, sources that meet silence, and the configuration.

import { act, path } from '../actions.js';
import { el, show } from '../dom.js';
import { button, chip, Table } from '../table.js';
import { moment, ticking } from '../time.js';

/** @typedef {import('../types.js').Host} Host */
/** @typedef {import('../types.js').Trunk} Trunk */
/** @typedef {import('../types.js').Source} Source */
/** @typedef {import('../types.js').Reloads} Reloads */

export class System {
  id = 'system';
  title = 'System';
  also = ['/v1/sources', '/v1/reload'];
  every = 2000;

  constructor() {
    this.hosts = new Table('Media hosts', (/** @type {Host} */ host) => host.host, hostColumns, 'No media host is configured: no call can be taken. Add a [[media.hosts]] section.');
    this.trunks = new Table('Trunks', (/** @type {Trunk} */ trunk) => trunk.name, trunkColumns, 'No trunk is configured: calls stay in this house.');
    this.sources = new Table('Sources that meet silence', (/** @type {Source} */ source) => source.source, sourceColumns, 'None: nobody scanned or guessed passwords lately.');
    this.reload = el('p', {});
    const configuration = el('section', { class: 'table' }, el('h2', {}, 'Configuration'), this.reload);
    this.element = el('div', { class: 'view' }, this.hosts.element, this.trunks.element, this.sources.element, configuration);
  }

  /**
   * @param {import('../types.js').Live} live
   * @param {[Source[], Reloads] | null} also
   */
  update(live, also) {
    this.hosts.update(live.hosts);
    this.trunks.update(live.trunks);
    if (!also) return;
    const [sources, reloads] = also;
    this.sources.update(sources);
    show(this.reload, reloadOf(reloads));
  }
}

/** @type {import('../table.js').Column<Host>[]} */
const hostColumns = [
  { title: 'Media host', kind: 'main', cell: (host) => host.host },
  { title: 'State', cell: (host) => (host.up ? chip('up', 'good') : chip('down', 'bad')) },
  { title: 'Sessions', kind: 'number', cell: (host) => host.sessions },
  { title: 'New calls', cell: (host) => (host.draining ? chip('none: it is taken out', 'poor') : host.up ? 'yes' : 'no') },
];

/** @type {import('../table.js').Column<Trunk>[]} */
const trunkColumns = [
  { title: 'Trunk', kind: 'main', cell: (trunk) => trunk.name },
  { title: 'Targets', cell: targets },
  { title: 'Registration', cell: registration },
  { title: 'Calls', kind: 'number', cell: (trunk) => trunk.calls },
  { title: 'Out', kind: 'number', cell: (trunk) => trunk.tx_calls },
  { title: 'In', kind: 'number', cell: (trunk) => trunk.rx_calls },
  { title: 'Failed', kind: 'number', cell: (trunk) => trunk.tx_failures },
  { title: 'Refused', kind: 'number', cell: (trunk) => trunk.refused },
];

/** @type {Record<string, 'good' | 'bad' | 'off'>} */
const HEALTH = { up: 'good', down: 'bad', unknown: 'off' };

/** @param {Trunk} trunk */
function targets({ targets }) {
  return targets.map(({ uri, state }) => el('div', {}, chip(state, HEALTH[state] ?? 'off'), ' ', el('span', { class: 'long' }, uri)));
}

/** @param {Trunk} trunk */
function registration({ registration }) {
  if (registration === 'off') return 'not needed';
  if (registration === 'registered') return chip('registered', 'good');
  return registration === 'trying' ? chip('trying', 'poor') : chip(`refused: ${registration}`, 'bad');
}

/** @type {import('../table.js').Column<Source>[]} */
const sourceColumns = [
  { title: 'Source', kind: 'main', cell: (source) => source.source },
  { title: 'Because', cell: (source) => source.offence.replaceAll('_', ' ') },
  { title: 'For another', kind: 'number', cell: (source) => ticking(`source ${source.source}`, source.left_s * 1000, { down: true }) },
  { title: 'Messages unheard', kind: 'number', cell: (source) => source.refused },
  {
    title: 'Actions',
    kind: 'actions',
    cell: ({ source }) => button('Forgive', `Hear ${source} again`, () => void act('DELETE', path`/v1/sources/${source}`, `${source} is heard again.`)),
  },
];

/** @param {Reloads} reloads */
function reloadOf({ last, applied, refused }) {
  if (!last) return 'As read at the start. After an edit: systemctl reload controld.';
  const when = moment(last.at_unix_s * 1e6);
  const counts = `${applied} applied, ${refused} refused since the start`;
  if (last.verdict !== 'applied') {
    return `Read again at ${when} and refused: nothing was changed; the log of controld says which value is wrong (${counts}).`;
  }
  const restart = last.needs_restart?.length ? ` A restart is needed for: ${last.needs_restart.join(', ')}.` : '';
  return `Read again at ${when}: ${last.changed?.join(', ') || 'nothing was different'}.${restart} (${counts})`;
}
