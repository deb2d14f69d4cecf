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
    const table = new Table('Registered devices', keyOf, columns, empty);
    super('devices', 'Devices', '/v1/registrations', 'Search', table);
  }
}

/**
 * A device may be reached by several flows under one Contact (RFC 5626).
 * @param {Registration} device
 * @returns {string}
 */
function keyOf({ user, contact, source }) {
  return `${user} ${contact} ${source}`;
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
    cell: (device) => ticking(`device ${keyOf(device)}`, device.expires_s * 1000, { down: true }),
  },
];
