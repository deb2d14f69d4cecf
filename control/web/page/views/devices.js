// Registered phones.

import { el } from '../dom.js';
import { search, Table } from '../table.js';
import { ticking } from '../time.js';

/** @typedef {import('../types.js').Registration} Registration */

export class Devices {
  id = 'devices';
  title = 'Devices';
  /** Asked for beside what all views show. */
  also = ['/v1/registrations'];
  every = 5000;

  constructor() {
    this.all = /** @type {Registration[]} */ ([]);
    this.search = search('Search', () => this.#show());
    this.table = new Table('Registered devices', (/** @type {Registration} */ device) => `${device.user} ${device.contact}`, columns, 'No phone is registered. Give one an account of the configuration, and the address of controld as its server.');
    this.element = el('div', { class: 'view' }, this.search.element, this.table.element);
  }

  /**
   * @param {import('../types.js').Live} _live
   * @param {[Registration[]] | null} also
   */
  update(_live, also) {
    if (!also) return;
    [this.all] = also;
    this.#show();
  }

  #show() {
    this.table.update(this.all, this.search.text());
  }
}

/** @type {import('../table.js').Column<Registration>[]} */
const columns = [
  { title: 'Account', kind: 'main', cell: (device) => device.user },
  { title: 'Phone', cell: (device) => el('bdi', {}, device.agent || '–') },
  { title: 'Heard from', cell: (device) => device.source },
  { title: 'Contact', cell: (device) => el('bdi', { class: 'long' }, device.contact) },
  {
    title: 'Ends in',
    kind: 'number',
    cell: (device) => ticking(`device ${device.user} ${device.contact}`, device.expires_s * 1000, { down: true }),
  },
];
