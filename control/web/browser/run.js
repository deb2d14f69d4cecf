// The page before real daemons and phones: node run.js ADDRESS TOKEN, started by a test that does the deeds it asks for.

import assert from 'node:assert/strict';
import { have, PATIENCE, play } from './harness.js';

const [base, token] = process.argv.slice(2);
const HOSTILE = '<img src=x onerror=alert(1)>';

/** @typedef {import('playwright-core').Page} Page */

/**
 * @param {Page} page
 * @param {string} table
 * @param {string} text
 */
const row = (page, table, text) => page.getByRole('table', { name: table, exact: true }).getByRole('row').filter({ hasText: text });

/**
 * @param {Page} page
 * @param {string} name
 */
const press = (page, name) => page.getByRole('button', { name, exact: true }).click();

/** @param {Page} page */
const tabTo = (page, /** @type {string} */ name) => page.getByRole('navigation').getByRole('link', { name }).click();

/**
 * Waits until something is so.
 * @param {string} what
 * @param {() => Promise<boolean>} holds
 */
async function until(what, holds) {
  const end = Date.now() + PATIENCE;
  while (!(await holds())) {
    assert.ok(Date.now() < end, `still not: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/**
 * @param {string} path
 * @returns {Promise<any>}
 */
const served = async (path) => (await fetch(base + path)).json();

/** @param {Page} page */
async function opens(page) {
  const answer = await page.goto(base);
  const headers = answer?.headers() ?? {};
  assert.match(headers['content-security-policy'], /^default-src 'self';.*frame-ancestors 'none'/);
  assert.equal(headers['x-content-type-options'], 'nosniff');
  await page.getByText('Live', { exact: true }).waitFor();
  await row(page, 'Agents', 'alice').getByText('no phone').waitFor();
  await row(page, 'Agents', 'bob').getByText('ready').waitFor();
  assert.equal((await page.request.get(base, { headers: { 'if-none-match': headers.etag } })).status(), 304);
}

/** Nothing is changed before the right token is told; the page keeps it for this tab. */
async function pausesAnAgent(/** @type {Page} */ page) {
  await press(page, 'Let bob pause');
  await page.getByLabel('Reason').fill('Lunch');
  await press(page, 'Pause');
  await page.getByLabel('Token', { exact: true }).fill('a-token-that-is-wrong');
  await press(page, 'Go on');
  await page.getByText('the token is wrong').waitFor();
  await page.getByLabel('Token', { exact: true }).fill(token);
  await press(page, 'Go on');
  await row(page, 'Agents', 'bob').getByText('paused').waitFor();
  await row(page, 'Agents', 'bob').getByText('Lunch').waitFor();
  const [bob] = (await served('/v1/agents')).filter((/** @type {{name: string}} */ agent) => agent.name === 'bob');
  assert.deepEqual([bob.state, bob.paused_for], ['paused', 'Lunch']);
  const kept = await page.evaluate(() => [Object.values(sessionStorage), localStorage.length, document.cookie, location.href]);
  assert.deepEqual(kept.slice(0, 3), [[token], 0, '']);
  assert.ok(!String(kept[3]).includes(token));
}

/** @param {Page} page */
async function showsAHostileNameAsText(page) {
  await have('a customer calls');
  const waiting = row(page, 'Waiting callers', HOSTILE);
  await waiting.waitFor();
  await waiting.getByText('customer@127.0.0.1').waitFor();
  await row(page, 'Queues', 'support').getByRole('cell', { name: '1', exact: true }).first().waitFor();
  assert.equal(await page.locator('img').count(), 0);
}

/** @param {Page} page */
async function countsSmoothly(page) {
  const time = row(page, 'Waiting callers', HOSTILE).locator('time');
  const seconds = async () => {
    const [minutes, seconds] = ((await time.textContent()) ?? '').split(':').map(Number);
    return minutes * 60 + seconds;
  };
  let last = await seconds();
  const from = last;
  // However late answers are, and on a machine however busy, no second comes twice.
  await until('three more seconds are shown', async () => {
    const now = await seconds();
    assert.ok(now >= last, `from ${last} s back to ${now} s`);
    last = now;
    return last >= from + 3;
  });
}

/** @param {Page} page */
async function tellsThatAWaitingCallerHearsMusic(page) {
  await press(page, 'Who hears whom in the call of customer@127.0.0.1');
  await page.getByRole('heading', { name: 'customer@127.0.0.1 hears the music' }).waitFor();
  await press(page, 'Close');
}

/** @param {Page} page */
async function showsTheCallMoveOn(page) {
  await have('bob sits down');
  await press(page, 'Let bob take calls');
  await have('bob answers');
  await row(page, 'Waiting callers', HOSTILE).waitFor({ state: 'detached' });
  await page.getByText('Nobody waits.').waitFor();
  await row(page, 'Agents', 'bob').getByText('talking').waitFor();
  await tabTo(page, 'Calls');
  await row(page, 'Calls that go on', HOSTILE).getByText('talking').waitFor();
}

/** @param {Page} page */
async function explainsOneWayAudio(page) {
  const audio = page.getByRole('button', { name: 'Who hears whom in the call of customer@127.0.0.1' });
  await audio.focus();
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'bob does not hear customer@127.0.0.1' }).waitFor();
  await page.getByText('Nothing ever arrived from customer@127.0.0.1 on').waitFor();
  await page.getByText('What to do: Look at customer@127.0.0.1:').waitFor();
  await page.getByRole('heading', { name: 'customer@127.0.0.1 hears bob' }).waitFor();
  await have('the customer speaks');
  await page.getByRole('heading', { name: 'bob hears customer@127.0.0.1' }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  // Rows are other ones each second; who works with the keyboard stays where they were.
  await page.waitForResponse((answer) => answer.url().endsWith('/v1/live'));
  await page.waitForResponse((answer) => answer.url().endsWith('/v1/live'));
  assert.ok(await audio.evaluate((button) => button === document.activeElement), 'the focus is kept');
}

/** @param {Page} page */
async function recordsAndMasks(page) {
  const call = row(page, 'Calls that go on', HOSTILE);
  await press(page, 'Record the call of customer@127.0.0.1');
  await call.getByText('recording', { exact: true }).waitFor();
  await press(page, 'Record silence in the call of customer@127.0.0.1 from now on');
  await call.getByText('masked', { exact: true }).waitFor();
}

/** @param {Page} page */
async function restsWhileHidden(page) {
  let asked = 0;
  page.on('request', () => (asked += 1));
  const hide = (/** @type {boolean} */ hidden) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, 'hidden', { configurable: true, value: hidden });
      document.dispatchEvent(new Event('visibilitychange'));
    }, hidden);
  await hide(true);
  await page.waitForTimeout(300);
  asked = 0;
  await page.waitForTimeout(2500);
  assert.equal(asked, 0, 'nothing is asked for while nobody looks');
  await hide(false);
  await until('it asks again', async () => asked >= 2);
}

/** @param {Page} page */
async function recoversWhenControldDoes(page) {
  await have('controld is killed');
  await page.getByRole('alert').getByText('controld has not answered for').waitFor();
  await page.getByText('No answer', { exact: true }).waitFor();
  await have('controld is started again');
  await page.getByText('Live', { exact: true }).waitFor();
  await page.getByRole('alert').waitFor({ state: 'hidden' });
  await row(page, 'Calls that go on', HOSTILE).getByText('talking').waitFor();
}

/** @param {Page} page */
async function endsACall(page) {
  await press(page, 'End the call of customer@127.0.0.1');
  await press(page, 'End the call');
  await page.getByText('No call goes on.').waitFor();
  await tabTo(page, 'History');
  const calls = page.getByRole('table', { name: 'Calls that are over, newest first' }).getByRole('row');
  await calls.filter({ hasText: 'customer@127.0.0.1' }).waitFor();
  const search = page.getByRole('searchbox');
  await search.fill('4930');
  await page.getByText('There is no such call.').waitFor();
  await search.fill('CUSTOMER@');
  await press(page, 'Details of the call of customer@127.0.0.1');
  await row(page, 'Parties', 'bob').waitFor();
  await press(page, 'Close');
}

/** A thousand calls ago is one step or one word away. */
async function findsCallsOfLongAgo(/** @type {Page} */ page) {
  const history = 'Calls that are over, newest first';
  const search = page.getByRole('searchbox');
  await search.fill('');
  await row(page, history, 'customer@127.0.0.1').waitFor();
  await press(page, 'Older calls');
  await row(page, history, 'past-0@far').waitFor();
  assert.equal(await row(page, history, '@far').count(), 21);
  assert.ok(await page.getByRole('button', { name: 'Older calls' }).isDisabled());
  await press(page, 'Newer calls');
  await row(page, history, 'customer@127.0.0.1').waitFor();
  await search.fill('PAST-11@');
  await row(page, history, 'past-11@far').waitFor();
  assert.equal(await row(page, history, '@').count(), 1);
  await search.fill('');
  await page.getByLabel('Begun before').fill('2001-09-09T23:59');
  await row(page, history, 'customer@127.0.0.1').waitFor({ state: 'detached' });
  await row(page, history, 'past-119@far').waitFor();
}

/** Two ways to a device under one Contact are two rows, however often they are told (RFC 5626). */
async function tellsWaysToADeviceApart(/** @type {Page} */ page) {
  const view = '/views/devices.js';
  const rows = await page.evaluate(async (view) => {
    const devices = new (await import(view)).Devices();
    const way = (/** @type {number} */ port) => ({
      user: 'bob', contact: '<sip:bob@192.0.2.1>', source: `tcp:192.0.2.1:${port}`, agent: '', expires_s: 60,
    });
    for (let told = 0; told < 3; told += 1) devices.list([way(1), way(2)]);
    return devices.element.querySelectorAll('tbody tr').length;
  }, view);
  assert.equal(rows, 2);
}

/** @param {Page} page */
async function showsTheRest(page) {
  await tabTo(page, 'Devices');
  await row(page, 'Registered devices', 'bob').waitFor();
  await tabTo(page, 'System');
  await row(page, 'Media hosts', 'a').getByText('up').waitFor();
  await page.getByText('As read at the start.').waitFor();
  await tabTo(page, 'Conferences');
  await page.getByText('Nobody confers.').waitFor();
  await press(page, 'Forget token');
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
}

await play(async (page) => {
  for (const step of [
    opens,
    pausesAnAgent,
    showsAHostileNameAsText,
    countsSmoothly,
    tellsThatAWaitingCallerHearsMusic,
    showsTheCallMoveOn,
    explainsOneWayAudio,
    recordsAndMasks,
    restsWhileHidden,
    recoversWhenControldDoes,
    endsACall,
    findsCallsOfLongAgo,
    tellsWaysToADeviceApart,
    showsTheRest,
  ]) {
    const began = Date.now();
    await step(page);
    console.error(`${step.name}: ${Date.now() - began} ms`);
  }
});
