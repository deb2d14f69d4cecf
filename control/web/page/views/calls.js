// Calls that go on.

import { act, path } from '../actions.js';
import { openAudio } from '../audio.js';
import { confirmed } from '../dialog.js';
import { button, chip, named, short, Table } from '../table.js';
import { ticking } from '../time.js';
import { Listing } from './listing.js';

/** @typedef {import('../types.js').Call} Call */

/** @type {Record<string, 'good' | 'busy' | 'poor' | 'bad' | 'off'>} */
const STAGES = {
  preparing: 'off',
  calling: 'busy',
  waiting: 'poor',
  ringing: 'busy',
  connecting: 'busy',
  talking: 'good',
  ending: 'off',
};

/** @extends {Listing<Call>} */
export class Calls extends Listing {
  constructor() {
    const table = new Table('Calls that go on', (/** @type {Call} */ call) => call.call, columns, 'No call goes on.');
    super('calls', 'Calls', null, 'Search', table);
  }

  /** @param {import('../types.js').Live} live */
  update(live) {
    this.list(live.calls);
  }
}

/** @type {import('../table.js').Column<Call>[]} */
const columns = [
  { title: 'Caller', kind: 'main', cell: (call) => named(call.from_name ?? short(call.from), short(call.from)) },
  { title: 'To', cell: (call) => named(short(call.to), placeOf(call)) },
  { title: 'With', cell: (call) => call.user ?? '–' },
  { title: 'Stage', cell: (call) => chip(call.stage, STAGES[call.stage] ?? 'off') },
  { title: 'Age', kind: 'number', cell: (call) => ticking(`call ${call.call}`, call.age_ms) },
  { title: 'Recording', cell: recordingOf },
  { title: 'Media host', cell: (call) => call.host },
  { title: 'Actions', kind: 'actions', cell: actions },
];

/** @param {Call} call */
function placeOf({ menu, queue }) {
  if (menu) {
    return `menu ${menu}`;
  }
  return queue ? `queue ${queue}` : null;
}

/** @param {Call} call */
function recordingOf({ recording }) {
  switch (recording) {
    case 'recording':
      return chip('recording', 'bad');
    case 'masked':
      return chip('masked', 'poor');
    case 'finished':
      return chip('ended', 'off');
    default:
      return '–';
  }
}

/** @param {Call} call */
function actions(call) {
  const who = short(call.from);
  return [
    button('Audio', `Who hears whom in the call of ${who}`, () => openAudio(call.call, who)),
    recorder(call, who),
    button('Hang up…', `End the call of ${who}`, () => void hangUp(call, who), 'danger'),
  ];
}

/**
 * @param {Call} call
 * @param {string} who
 */
function recorder({ call, recording, stage }, who) {
  const mask = path`/v1/calls/${call}/recording/pause`;
  if (recording === 'recording') {
    return button('Mask', `Record silence in the call of ${who} from now on`, () => void act('POST', mask, 'Masked: silence is recorded.'));
  }
  if (recording === 'masked') {
    return button('Unmask', `Record the call of ${who} on`, () => void act('DELETE', mask, 'Recorded again.'));
  }
  if (recording === null && stage === 'talking') {
    return button('Record', `Record the call of ${who}`, () => void act('POST', path`/v1/calls/${call}/recording`, 'Recorded from now on.'));
  }
  return null;
}

/**
 * @param {Call} call
 * @param {string} who
 */
async function hangUp({ call, user }, who) {
  const text = user ? `${who} and ${user} are cut off at once.` : `${who} is cut off at once.`;
  if (await confirmed('End this call?', text, 'End the call')) {
    await act('DELETE', path`/v1/calls/${call}`, 'The call is ended.');
  }
}
