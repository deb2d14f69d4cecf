// Asking the controller, and having it do something.

/** Where the token is: in this tab, until it is closed. Never in an address. */
const TOKEN = 'controld-token';
/** How long an answer may take, in milliseconds. */
const PATIENCE = 4000;

/** What the controller said is wrong, or that it says nothing. */
export class Trouble extends Error {
  /**
   * @param {number} status 0: no answer
   * @param {string} detail
   */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** @returns {boolean} */
export function hasToken() {
  return sessionStorage.getItem(TOKEN) !== null;
}

/** @param {string} token */
export function keepToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

export function forgetToken() {
  sessionStorage.removeItem(TOKEN);
}

/**
 * What is at a path.
 * @param {string} path
 * @returns {Promise<any>}
 * @throws {Trouble}
 */
export async function read(path) {
  const answer = await ask('GET', path);
  try {
    return await answer.json();
  } catch {
    throw new Trouble(0, 'controld does not answer to the end');
  }
}

/**
 * Changes something, with the token if there is one.
 * @param {'POST' | 'DELETE'} method
 * @param {string} path
 * @throws {Trouble} 401: another token is needed
 */
export async function change(method, path) {
  await ask(method, path);
}

/**
 * @param {string} method
 * @param {string} path
 * @returns {Promise<Response>}
 */
async function ask(method, path) {
  const token = sessionStorage.getItem(TOKEN);
  /** @type {Record<string, string>} */
  const headers = method !== 'GET' && token !== null ? { authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal: AbortSignal.timeout(PATIENCE), cache: 'no-store' });
  } catch {
    throw new Trouble(0, 'controld does not answer');
  }
  if (answer.ok) return answer;
  throw new Trouble(answer.status, await detail(answer));
}

/**
 * The detail of a problem document (RFC 9457).
 * @param {Response} answer
 * @returns {Promise<string>}
 */
async function detail(answer) {
  try {
    const problem = await answer.json();
    return String(problem.detail || problem.title || answer.statusText);
  } catch {
    return `status ${answer.status} ${answer.statusText}`;
  }
}
