// Questions that stand before everything else.

import { el, fill } from './dom.js';

/**
 * A dialog with a form; gives what was entered, or null when it was closed.
 * @param {string} title
 * @param {import('./dom.js').Child[]} content
 * @param {string} verb
 * @param {string} [tone]
 * @returns {Promise<FormData | null>}
 */
function ask(title, content, verb, tone = 'main') {
  return new Promise((resolve) => {
    let answer = /** @type {FormData | null} */ (null);
    const cancel = el('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel');
    const submit = el('button', { type: 'submit', class: tone }, verb);
    const onsubmit = (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      answer = new FormData(form);
      dialog.close();
    };
    const form = el('form', { onsubmit }, el('h2', { id: 'dialog-title' }, title));
    fill(form, [...content, el('p', { class: 'buttons' }, cancel, submit)]);
    const onclose = () => {
      dialog.remove();
      resolve(answer);
    };
    const dialog = el('dialog', { 'aria-labelledby': 'dialog-title', class: 'question', onclose }, form);
    document.body.append(dialog);
    dialog.showModal();
  });
}

/**
 * @param {string} title
 * @param {string} text
 * @param {string} verb
 * @returns {Promise<boolean>}
 */
export async function confirmed(title, text, verb) {
  return (await ask(title, [el('p', {}, text)], verb, 'danger')) !== null;
}

/**
 * Why an agent pauses; null: it does not.
 * @param {string} agent
 * @returns {Promise<string | null>}
 */
export async function pauseReason(agent) {
  const reasons = ['Break', 'Lunch', 'Training', 'Paperwork'].map((reason) => el('option', { value: reason }));
  const input = el('input', { name: 'reason', list: 'reasons', maxlength: 100, autocomplete: 'off' });
  const label = el('label', {}, el('span', {}, 'Reason, shown beside the agent (may be empty)'), input);
  const form = await ask(`Pause ${agent}`, [label, el('datalist', { id: 'reasons' }, ...reasons)], 'Pause');
  return form && String(form.get('reason') ?? '').trim();
}

/**
 * The token that changes need; null: it is not told.
 * @param {string | null} why what was wrong with the one that was told
 * @returns {Promise<string | null>}
 */
export async function tokenAsked(why) {
  const input = el('input', { name: 'token', type: 'password', required: true, autocomplete: 'off', minlength: 1 });
  const content = [
    why && el('p', { role: 'alert', class: 'wrong' }, `controld said: ${why}.`),
    el('p', {}, 'It stands in the file that management.token_file names. This tab keeps it until it is closed.'),
    el('label', {}, el('span', {}, 'Token'), input),
  ];
  const form = await ask('A token is needed to change something', content, 'Go on');
  return form && String(form.get('token') ?? '').trim();
}

/**
 * A dialog to read, which is told when it is closed.
 * @param {string} title
 * @param {Element} content
 * @param {() => void} [closed]
 */
export function reading(title, content, closed = () => {}) {
  const close = el('button', { type: 'button', onclick: () => dialog.close() }, 'Close');
  const head = el('header', {}, el('h2', { id: 'reading-title' }, title), close);
  const onclose = () => {
    dialog.remove();
    closed();
  };
  const dialog = el('dialog', { 'aria-labelledby': 'reading-title', class: 'reading', onclose }, head, content);
  document.body.append(dialog);
  dialog.showModal();
}
