// Queues, who waits in them, and the agents.

import { act, path } from '../actions.js';
import { pauseReason } from '../dialog.js';
import { el } from '../dom.js';
import { button, chip, short, Table, named } from '../table.js';
import { duration, ticking } from '../time.js';
import { openAudio } from '../audio.js';

/** @typedef {import('../types.js').Queue} Queue */
/** @typedef {import('../types.js').Agent} Agent */
/** @typedef {import('../types.js').Call} Call */
/** @typedef {import('../types.js').Live} Live */

/** A wait that stands out, in milliseconds. */
export const LONG_WAIT = 60_000;

/** @type {Record<string, [string, 'good' | 'busy' | 'poor' | 'bad' | 'off']>} */
const STATES = {
  ready: ['ready', 'good'],
  reserved: ['ringing', 'busy'],
  talking: ['talking', 'busy'],
  engaged: ['in another call', 'busy'],
  wrap_up: ['wrapping up', 'poor'],
  paused: ['paused', 'poor'],
  away: ['no phone', 'off'],
};

export class Now {
  id = 'now';
  title = 'Now';

  constructor() {
    this.calls = /** @type {Call[]} */ ([]);
    this.queues = new Table('Queues', (/** @type {Queue} */ queue) => queue.name, this.#queueColumns(), 'No queue is configured. Add a [[queues]] section to the configuration of controld.');
    this.waiting = new Table('Waiting callers', (/** @type {Call} */ call) => call.call, waitingColumns, 'Nobody waits.');
    this.agents = new Table('Agents', (/** @type {Agent} */ agent) => agent.name, agentColumns, 'No agent is configured. A queue names its agents.');
    this.element = el('div', { class: 'view' }, this.queues.element, this.waiting.element, this.agents.element);
  }

  /** @param {Live} live */
  update(live) {
    this.calls = waitingOf(live.calls);
    this.queues.update(live.queues);
    this.waiting.update(this.calls);
    this.agents.update(live.agents);
  }

  /** @returns {import('../table.js').Column<Queue>[]} */
  #queueColumns() {
    return [
      { title: 'Queue', kind: 'main', cell: (queue) => queue.name },
      { title: 'Waiting', kind: 'number', cell: (queue) => queue.waiting },
      { title: 'Longest wait', kind: 'number', cell: (queue) => longestWait(this.calls, queue.name) },
      { title: 'Answered', kind: 'number', cell: (queue) => queue.answered },
      { title: 'Mean wait', kind: 'number', cell: meanWait },
      { title: 'Abandoned', kind: 'number', cell: (queue) => queue.abandoned },
      { title: 'Waited too long', kind: 'number', cell: (queue) => queue.overdue },
      { title: 'Turned away', kind: 'number', cell: (queue) => queue.turned_away },
    ];
  }
}

/**
 * Who waits, longest first.
 * @param {Call[]} calls
 * @returns {Call[]}
 */
export function waitingOf(calls) {
  const waiting = calls.filter((call) => call.queue !== null && call.queued_ms !== null && call.stage !== 'talking');
  return waiting.sort((a, b) => (b.queued_ms ?? 0) - (a.queued_ms ?? 0));
}

/**
 * @param {Call[]} waiting longest first
 * @param {string} queue
 */
function longestWait(waiting, queue) {
  const call = waiting.find((call) => call.queue === queue);
  return call ? ticking(`wait ${call.call}`, call.queued_ms, { late: LONG_WAIT }) : '–';
}

/** @param {Queue} queue */
function meanWait(queue) {
  return queue.answered === 0 ? '–' : duration(queue.waited_ms / queue.answered);
}

/** @type {import('../table.js').Column<Call>[]} */
const waitingColumns = [
  { title: 'Caller', kind: 'main', cell: (call) => named(call.from_name ?? short(call.from), short(call.from)) },
  { title: 'Queue', cell: (call) => call.queue },
  { title: 'Position', kind: 'number', cell: (call) => call.position ?? '–' },
  { title: 'Waits', kind: 'number', cell: (call) => ticking(`wait ${call.call}`, call.queued_ms, { late: LONG_WAIT }) },
  { title: 'Rings', cell: (call) => (call.stage === 'ringing' || call.stage === 'connecting' ? call.user : '–') },
  {
    title: 'Actions',
    kind: 'actions',
    cell: (call) => button('Audio', `Who hears whom in the call of ${short(call.from)}`, () => openAudio(call.call, short(call.from))),
  },
];

/** @type {import('../table.js').Column<Agent>[]} */
const agentColumns = [
  { title: 'Agent', kind: 'main', cell: (agent) => agent.name },
  { title: 'State', cell: stateOf },
  { title: 'For', kind: 'number', cell: (agent) => ticking(`agent ${agent.name} ${agent.state}`, agent.since_ms) },
  { title: 'Served', kind: 'number', cell: (agent) => agent.served },
  { title: 'Missed', kind: 'number', cell: (agent) => agent.missed },
  { title: 'Declined', kind: 'number', cell: (agent) => agent.declined },
  { title: 'Actions', kind: 'actions', cell: agentActions },
];

/** @param {Agent} agent */
function stateOf(agent) {
  const [text, tone] = STATES[agent.state] ?? [agent.state, 'off'];
  const why = agent.paused_for ? el('span', { class: 'why' }, el('bdi', {}, agent.paused_for)) : null;
  return [chip(text, tone), why];
}

/** @param {Agent} agent */
function agentActions({ name, state }) {
  const ready = button('Ready', `Let ${name} take calls`, () => {
    void act('POST', path`/v1/agents/${name}/ready`, `${name} takes calls.`);
  });
  const pause = button('Pause…', `Let ${name} pause`, () => void pauseOf(name));
  if (state === 'paused') return ready;
  return state === 'wrap_up' ? [ready, pause] : pause;
}

/** @param {string} name */
async function pauseOf(name) {
  const reason = await pauseReason(name);
  if (reason === null) return;
  await act('POST', path`/v1/agents/${name}/pause?reason=${reason}`, `${name} pauses.`);
}
