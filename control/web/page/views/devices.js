// Registered phones.

import { el } from '../dom.js';
import { Table } from '../table.js';
import { ticking } from '../time.js';
import { Listing } from './listing.js';

/** @typedef {import('../types.js').Registration} Registration */

/** @extends {Listing<Registration>} */
export class Devices extends Listing {
  constructor() {
    const empty = 'No phone is registered. Give one an account of the configuration, and the address of controld as its server.';
    const table = new Table('Registered devices', (/** @type {Registration} */ device) => `${device.user} ${device.contact}`, columns, empty);
    super('devices', 'Devices', '/v1/registrations', 'Search', table);
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
