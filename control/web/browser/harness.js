// A browser before the page, and the way to the test that has the daemons and phones.

import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';

const PROGRAMS = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
/** Longest wait for anything, in milliseconds; reached only when something is broken. */
export const PATIENCE = 30_000;

/** What ended the scenario: without a stack where it says itself what to do. */
class Missing extends Error {}

async function launch() {
  const program = PROGRAMS.find((path) => path && existsSync(path));
  if (!program) throw new Missing('no Chromium here; run `make setup`, or apt-get install chromium, or set CHROMIUM');
  const playwright = await import('playwright-core').catch(() => {
    throw new Missing('playwright-core is missing; run `make setup`, or npm ci in control/web');
  });
  return playwright.chromium.launch({ executablePath: program, args: FLAGS });
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/**
 * Has the test do something with its daemons and phones.
 * @param {string} deed
 */
export async function have(deed) {
  console.log(deed);
  const { value } = await lines.next();
  if (value !== 'done') throw new Error(`${deed}: the test said ${value}`);
}

/**
 * What a page said that it should not: scripts that failed, and what its policy forbade.
 * @param {import('playwright-core').Page} page
 * @returns {string[]}
 */
function complaintsOf(page) {
  /** @type {string[]} */
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(String(error.stack ?? error)));
  page.on('dialog', (dialog) => {
    complaints.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('console', (message) => {
    // That an answer failed is told there too: some are meant to.
    const isOfNetwork = message.text().startsWith('Failed to load resource');
    if (message.type() === 'error' && !isOfNetwork) complaints.push(message.text());
  });
  return complaints;
}

/**
 * Plays a scenario on a page of its own, to its end.
 * @param {(page: import('playwright-core').Page) => Promise<void>} scenario
 */
export async function play(scenario) {
  let browser;
  try {
    browser = await launch();
    const page = await browser.newPage();
    page.setDefaultTimeout(PATIENCE);
    const complaints = complaintsOf(page);
    await scenario(page);
    if (complaints.length > 0) throw new Error(`the page complains:\n${complaints.join('\n')}`);
  } catch (error) {
    console.error(error instanceof Missing ? error.message : error);
    process.exitCode = 1;
  } finally {
    await browser?.close();
    process.stdin.destroy();
  }
}
