// Tables whose rows stay the same elements while what they tell changes: focus and selections survive.

import { el, fill, show } from './dom.js';

/** Rows shown at once; of more only the number is told. */
const ROWS_MAX = 200;

/** @typedef {import('./dom.js').Child} Child */

/**
 * @template T
 * @typedef {{title: string, cell: (row: T) => Child | Child[], kind?: 'number' | 'actions' | 'main'}} Column
 */

/** @template T */
export class Table {
  /**
   * @param {string} title
   * @param {(row: T) => string} key
   * @param {Column<T>[]} columns
   * @param {string} empty what is said when there is nothing
   */
  constructor(title, key, columns, empty) {
    this.key = key;
    this.columns = columns;
    this.empty = empty;
    /** @type {Map<string, HTMLTableRowElement>} */
    this.rows = new Map();
    this.body = el('tbody');
    this.note = el('p', { class: 'note' });
    const head = columns.map(({ title, kind }) => el('th', { scope: 'col', class: kind }, title));
    const table = el('table', { 'aria-label': title }, el('thead', {}, el('tr', {}, ...head)), this.body);
    this.scroller = el('div', { class: 'scroller' }, table);
    this.element = el('section', { class: 'table', 'aria-label': title }, el('h2', {}, title), this.scroller, this.note);
  }

  /**
   * @param {T[]} all
   * @param {string} [filter] only rows whose text holds this
   */
  update(all, filter = '') {
    const wanted = filter.trim().toLowerCase();
    const known = new Map(this.rows);
    this.rows.clear();
    let shown = 0;
    let before = /** @type {Element | null} */ (null);
    for (const row of all) {
      if (shown === ROWS_MAX) break;
      const key = this.key(row);
      const element = known.get(key) ?? this.#fresh(key);
      this.#update(element, row);
      if (wanted && !(element.textContent ?? '').toLowerCase().includes(wanted)) continue;
      known.delete(key);
      this.rows.set(key, element);
      this.#place(element, before);
      before = element;
      shown += 1;
    }
    for (const gone of known.values()) gone.remove();
    this.#tell(shown, all.length, wanted);
  }

  /** @param {string} key */
  #fresh(key) {
    const cells = this.columns.map(({ title, kind }) =>
      el(kind === 'main' ? 'th' : 'td', { scope: kind === 'main' && 'row', class: kind, 'data-title': title }),
    );
    return el('tr', { 'data-key': key }, ...cells);
  }

  /**
   * @param {HTMLTableRowElement} element
   * @param {T} row
   */
  #update(element, row) {
    this.columns.forEach(({ cell }, at) => {
      const content = cell(row);
      show(element.cells[at], ...(Array.isArray(content) ? content : [content]));
    });
  }

  /**
   * Behind another, without moving what is there already.
   * @param {Element} element
   * @param {Element | null} before
   */
  #place(element, before) {
    const is = element.parentNode === this.body && element.previousElementSibling === before;
    if (is) return;
    if (before) before.after(element);
    else this.body.prepend(element);
  }

  /**
   * @param {number} shown
   * @param {number} all
   * @param {string} wanted
   */
  #tell(shown, all, wanted) {
    this.scroller.hidden = shown === 0;
    let text = '';
    if (all === 0) text = this.empty;
    else if (shown === 0) text = `None of ${all} holds “${wanted}”.`;
    else if (shown === ROWS_MAX && all > shown) text = `The first ${shown} of ${all}. Search to narrow them.`;
    show(this.note, text);
    this.note.hidden = text === '';
  }
}

/**
 * A name with what is less important below it.
 * @param {string} name
 * @param {string | null} [below]
 * @returns {Node}
 */
export function named(name, below) {
  const element = el('span', { class: 'named' }, el('bdi', {}, name));
  if (below && below !== name) fill(element, [el('small', {}, el('bdi', {}, below))]);
  return element;
}

/**
 * A word on a coloured ground.
 * @param {string} text
 * @param {'good' | 'busy' | 'poor' | 'bad' | 'off'} tone
 * @returns {Node}
 */
export function chip(text, tone) {
  return el('span', { class: `chip ${tone}` }, text);
}

/**
 * @param {string} text
 * @param {string} what what it does to whom, for who does not see the row
 * @param {() => void} onclick
 * @param {string} [tone]
 * @returns {HTMLButtonElement}
 */
export function button(text, what, onclick, tone = '') {
  return el('button', { type: 'button', class: tone || null, 'aria-label': what, title: what, onclick }, text);
}

/**
 * An address without its scheme.
 * @param {string} uri
 * @returns {string}
 */
export function short(uri) {
  return uri.replace(/^sips?:/, '');
}

/**
 * A field that narrows tables.
 * @param {string} label
 * @param {() => void} changed
 * @returns {{element: HTMLElement, text: () => string}}
 */
export function search(label, changed) {
  const input = el('input', { type: 'search', maxlength: 100, autocomplete: 'off', spellcheck: 'false', oninput: changed });
  return { element: el('label', { class: 'search' }, el('span', {}, label), input), text: () => input.value };
}

/**
 * A field for day and time, as they are where the browser is.
 * @param {string} label
 * @param {() => void} changed
 * @returns {{element: HTMLElement, time: () => string}} as RFC 3339 writes it; empty: none is entered
 */
export function instant(label, changed) {
  const input = el('input', { type: 'datetime-local', oninput: changed });
  const time = () => (input.value ? new Date(input.value).toISOString() : '');
  return { element: el('label', {}, el('span', {}, label), input), time };
}
