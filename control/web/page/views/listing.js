// A view of one table that can be searched.

import { el } from '../dom.js';
import { search, Table } from '../table.js';

/** @template T */
export class Listing {
  every = 5000;

  /**
   * @param {string} id
   * @param {string} title of its tab
   * @param {string | null} path what is asked for beside /v1/live, if it is not in that
   * @param {string} label of the search
   * @param {Table<T>} table
   */
  constructor(id, title, path, label, table) {
    this.id = id;
    this.title = title;
    this.also = path === null ? [] : [path];
    this.all = /** @type {T[]} */ ([]);
    this.search = search(label, () => this.#show());
    this.table = table;
    this.element = el('div', { class: 'view' }, this.search.element, table.element);
  }

  /**
   * @param {import('../types.js').Live} _live
   * @param {[T[]] | null} also
   */
  update(_live, also) {
    if (also) this.list(also[0]);
  }

  /** @param {T[]} all */
  list(all) {
    this.all = all;
    this.#show();
  }

  #show() {
    this.table.update(this.all, this.search.text());
  }
}
