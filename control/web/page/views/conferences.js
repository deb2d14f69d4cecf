// Rooms, and who is in them.

import { act, path } from '../actions.js';
import { openAudio } from '../audio.js';
import { confirmed } from '../dialog.js';
import { el } from '../dom.js';
import { button, chip, named, short, Table } from '../table.js';
import { ticking } from '../time.js';

/** @typedef {import('../types.js').Member & {room: string}} Member */
/** @typedef {import('../types.js').Conference} Conference */

export class Conferences {
  id = 'conferences';
  title = 'Conferences';

  constructor() {
    this.rooms = new Table('Rooms', (/** @type {Conference} */ room) => room.room, roomColumns, 'Nobody confers. Who dials room-NAME opens a room.');
    this.members = new Table('Members', (/** @type {Member} */ member) => member.call, memberColumns, 'No room has a member.');
    this.element = el('div', { class: 'view' }, this.rooms.element, this.members.element);
  }

  /** @param {import('../types.js').Live} live */
  update(live) {
    this.rooms.update(live.conferences);
    this.members.update(live.conferences.flatMap(({ room, members }) => members.map((member) => ({ ...member, room }))));
  }
}

/** @type {import('../table.js').Column<Conference>[]} */
const roomColumns = [
  { title: 'Room', kind: 'main', cell: (room) => room.room },
  { title: 'Members', kind: 'number', cell: (room) => room.members.length },
  { title: 'Age', kind: 'number', cell: (room) => ticking(`room ${room.room}`, room.age_ms) },
  { title: 'Media host', cell: (room) => room.host },
];

/** @type {import('../table.js').Column<Member>[]} */
const memberColumns = [
  { title: 'Member', kind: 'main', cell: (member) => named(nameOf(member), short(member.from)) },
  { title: 'Room', cell: (member) => member.room },
  { title: 'Heard', cell: heard },
  { title: 'Codec', cell: (member) => member.codec || '–' },
  { title: 'For', kind: 'number', cell: (member) => ticking(`member ${member.call}`, member.age_ms) },
  { title: 'Actions', kind: 'actions', cell: actions },
];

/** @param {Member} member */
function nameOf(member) {
  return member.user ?? member.from_name ?? short(member.from);
}

/** @param {Member} member */
function heard({ muted, on_hold: holds }) {
  if (muted) return chip('muted', 'poor');
  return holds ? chip('holds', 'off') : chip('heard', 'good');
}

/** @param {Member} member */
function actions(member) {
  const who = nameOf(member);
  const mute = path`/v1/conferences/members/${member.call}/mute`;
  return [
    button('Audio', `Who hears whom: ${who}`, () => openAudio(member.call, who)),
    member.muted
      ? button('Unmute', `Let ${who} be heard again`, () => void act('DELETE', mute, `${who} is heard again.`))
      : button('Mute', `Let ${who} be heard no more`, () => void act('POST', mute, `${who} is muted.`)),
    button('Put out…', `Put ${who} out of the room`, () => void putOut(member, who), 'danger'),
  ];
}

/**
 * @param {Member} member
 * @param {string} who
 */
async function putOut({ call, room }, who) {
  if (await confirmed(`Put ${who} out?`, `${who} leaves ${room} at once, and may dial in again.`, 'Put out')) {
    await act('DELETE', path`/v1/calls/${call}`, `${who} is put out.`);
  }
}
