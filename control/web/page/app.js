// The supervisor's page: what goes on in the call centre, once a second, and what can be done about it.

import { afterChanges, offerToForgetToken } from './actions.js';
import { read, Trouble } from './api.js';
import { byId, el, show } from './dom.js';
import { Poller } from './poll.js';
import { duration, forgetOld, tickAll, ticking } from './time.js';
import { Calls } from './views/calls.js';
import { Conferences } from './views/conferences.js';
import { Devices } from './views/devices.js';
import { History } from './views/history.js';
import { LONG_WAIT, Now, waitingOf } from './views/now.js';
import { System } from './views/system.js';

/** @typedef {import('./types.js').Live} Live */

/**
 * What a tab shows.
 * @typedef {{id: string, title: string, element: HTMLElement, update: (live: Live, also: any) => void}} Shown `also`: null when it is as before
 * And, where it shows more than /v1/live holds, what is asked for beside it, and how often, in milliseconds.
 * @typedef {Shown & {also?: string[], every?: number}} View
 */

/** @type {View[]} */
const views = [new Now(), new Calls(), new Conferences(), new Devices(), new System(), new History()];

/** @type {View} */
let view = views[0];
/** Since when there is no answer, on the clock of `performance.now()`. */
let silentSince = /** @type {number | null} */ (null);

/** For which view and when it was asked what is beside /v1/live. */
let beside = { view: /** @type {View | null} */ (null), at: 0 };

/**
 * What is beside /v1/live; null: it was told not long ago.
 * @param {View} view
 * @returns {Promise<any[] | null>}
 */
async function besideOf(view) {
  const at = performance.now();
  if (beside.view === view && at - beside.at < (view.every ?? 0)) return null;
  const answers = await Promise.all((view.also ?? []).map(read));
  beside = { view, at };
  return answers;
}

/** All is asked for at once, however fresh it is. */
function lookAnew() {
  beside.view = null;
  poller.now();
}

function choose() {
  const id = location.hash.slice(1);
  view = views.find((view) => view.id === id) ?? views[0];
  document.title = `${view.title} – Call centre`;
  byId('main').replaceChildren(view.element);
  tellTabs(null);
}

/**
 * The tabs, each with how much is behind it.
 * @param {Live | null} live
 */
function tellTabs(live) {
  /** @type {Record<string, number>} */
  const counts = live
    ? {
        calls: live.calls.length,
        conferences: live.conferences.length,
        devices: live.registrations,
        system: live.hosts.filter((host) => !host.up).length + live.sources,
      }
    : {};
  const tabs = views.map(({ id, title }) => {
    const link = byId('tabs').querySelector(`a[href="#${id}"]`) ?? el('a', { href: `#${id}` }, title, el('b'));
    link.toggleAttribute('aria-current', id === view.id);
    if (id === view.id) link.setAttribute('aria-current', 'page');
    const count = /** @type {Element} */ (link.querySelector('b'));
    if (live) show(count, counts[id] ? String(counts[id]) : null);
    // Of the system it counts what is wrong.
    count.classList.toggle('bad', id === 'system');
    return link;
  });
  if (byId('tabs').childElementCount === 0) byId('tabs').append(...tabs.map((link) => el('li', {}, link)));
}

async function look() {
  const asked = view;
  try {
    const [live, also] = await Promise.all([read('/v1/live'), besideOf(asked)]);
    answered();
    tellTabs(live);
    summarise(live);
    if (view === asked) view.update(live, also);
    else poller.now();
  } catch (error) {
    unanswered(error);
  }
}

function answered() {
  silentSince = null;
  const link = byId('link');
  show(link, 'Live');
  link.className = 'good';
  byId('trouble').hidden = true;
  document.body.classList.remove('stale');
}

/** @param {unknown} error */
function unanswered(error) {
  if (!(error instanceof Trouble)) throw error;
  silentSince ??= performance.now();
  const link = byId('link');
  show(link, error.status === 0 ? 'No answer' : 'Trouble');
  link.className = 'bad';
  document.body.classList.add('stale');
  tellTrouble(error);
}

/** @param {Trouble} error */
function tellTrouble(error) {
  const since = ticking('silence', performance.now() - (silentSince ?? performance.now()));
  const what = error.status === 0
    ? ['controld has not answered for ', since, '. What is shown is from before that. Look whether it runs (systemctl status controld); this page goes on by itself when it is back.']
    : [`controld says: ${error.message} (status ${error.status}). Asked again each second, since `, since, '.'];
  const place = byId('trouble');
  show(place, ...what);
  place.hidden = false;
}

/** @param {Live} live */
function summarise(live) {
  const waiting = waitingOf(live.calls);
  const ready = live.agents.filter((agent) => agent.state === 'ready').length;
  const at = live.agents.filter((agent) => agent.state !== 'away').length;
  const talking = live.calls.filter((call) => call.stage === 'talking').length;
  const longest = waiting[0] ? ticking(`wait ${waiting[0].call}`, waiting[0].queued_ms, { late: LONG_WAIT }) : duration(0);
  const figures = [
    ['Waiting', waiting.length],
    ['Longest wait', longest],
    ['Talking', talking],
    ['Agents ready', `${ready} of ${at}`],
  ];
  show(byId('summary'), ...figures.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value))));
}

const poller = new Poller(look);
choose();
addEventListener('hashchange', () => {
  choose();
  lookAnew();
});
afterChanges(lookAnew);
offerToForgetToken();
setInterval(() => {
  if (!document.hidden) tickAll();
}, 250);
setInterval(forgetOld, 60_000);
