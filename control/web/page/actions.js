// What a supervisor can do, and what is said when it cannot be done.

import { change, forgetToken, hasToken, keepToken, Trouble } from './api.js';
import { tokenAsked } from './dialog.js';
import { byId, show } from './dom.js';

let changed = () => {};

/**
 * Called after each change, so that what it did is seen at once.
 * @param {() => void} look
 */
export function afterChanges(look) {
  changed = look;
}

/**
 * Changes something; asks for a token as often as one is needed.
 * @param {'POST' | 'DELETE'} method
 * @param {string} path
 * @param {string} done what is said then
 */
export async function act(method, path, done) {
  for (;;) {
    try {
      await change(method, path);
      notice(done, 'good');
      break;
    } catch (error) {
      const trouble = error instanceof Trouble ? error : new Trouble(0, String(error));
      if (trouble.status !== 401) {
        notice(explained(trouble), 'bad');
        break;
      }
      const why = hasToken() ? trouble.message : null;
      forgetToken();
      const token = await tokenAsked(why);
      if (!token) {
        notice('Nothing was changed: no token.', 'bad');
        break;
      }
      keepToken(token);
    }
  }
  tellToken();
  changed();
}

/**
 * @param {Trouble} trouble
 * @returns {string}
 */
function explained(trouble) {
  switch (trouble.status) {
    case 0:
      return 'Nothing is known to be changed: controld does not answer. Look whether it runs, then try again.';
    case 404:
      return `Nothing was changed: ${trouble.message}.`;
    default:
      return `Nothing was changed (${trouble.status}): ${trouble.message}.`;
  }
}

let hiding = 0;

/**
 * @param {string} text
 * @param {'good' | 'bad'} tone
 */
export function notice(text, tone) {
  const place = byId('notice');
  show(place, text);
  place.className = tone;
  clearTimeout(hiding);
  hiding = setTimeout(() => show(place, ''), tone === 'good' ? 4000 : 12_000);
}

/** The button that forgets the token is there while there is one. */
export function tellToken() {
  byId('token').hidden = !hasToken();
}

export function offerToForgetToken() {
  byId('token').addEventListener('click', () => {
    forgetToken();
    tellToken();
    notice('The token is forgotten.', 'good');
  });
  tellToken();
}

/**
 * A path with names of anything in it.
 * @param {TemplateStringsArray} parts
 * @param {...string} names
 * @returns {string}
 */
export function path(parts, ...names) {
  return String.raw({ raw: parts }, ...names.map(encodeURIComponent));
}
