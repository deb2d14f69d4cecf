// Asks again and again while somebody looks.

/** From one question to the next, in milliseconds. */
const EVERY = 1000;

export class Poller {
  /**
   * @param {() => Promise<void>} look asks, and shows what was said
   * @param {() => void} [hidden] nobody looks any more
   */
  constructor(look, hidden = () => {}) {
    this.look = look;
    this.hidden = hidden;
    this.timer = 0;
    this.isLooking = false;
    this.isWanted = false;
    this.isOver = false;
    this.onvisibility = () => (document.hidden ? this.#rest() : this.now());
    document.addEventListener('visibilitychange', this.onvisibility);
    this.now();
  }

  /** Looks at once, or as soon as the look that is under way has ended. */
  now() {
    if (this.isLooking) this.isWanted = true;
    else void this.#turn();
  }

  end() {
    this.isOver = true;
    clearTimeout(this.timer);
    document.removeEventListener('visibilitychange', this.onvisibility);
  }

  #rest() {
    clearTimeout(this.timer);
    this.hidden();
  }

  async #turn() {
    clearTimeout(this.timer);
    if (document.hidden || this.isOver) return;
    this.isLooking = true;
    const began = performance.now();
    do {
      this.isWanted = false;
      // A mistake of this page's own is told in the console, and is no reason to look no more.
      await this.look().catch(reportError);
    } while (this.isWanted && !document.hidden && !this.isOver);
    this.isLooking = false;
    if (document.hidden || this.isOver) return;
    const rest = Math.max(100, EVERY - (performance.now() - began));
    this.timer = setTimeout(() => void this.#turn(), rest);
  }
}
