// The node's snapshots, once a second, for as long as the page is seen; and what to say while none comes.

/** Silent for so long, in ms, the connection is taken for lost; it is tried again after so many. */
const SILENT = 4000, AGAIN = [500, 1000, 2000, 3000];

export class Link {
  /** `heard(node)`, `state(word, since)`: "open" or "lost"; `refused()`: one has to sign in. */
  constructor({ heard, state, refused, allowed }) {
    Object.assign(this, { heard, state, refused, allowed });
    this.source = null;
    this.last = 0;
    this.tries = 0;
    this.timer = 0;
    setInterval(() => this.watch(), 1000);
    document.addEventListener("visibilitychange", () => (document.hidden ? this.stop() : this.start()));
    window.addEventListener("online", () => this.restart());
  }

  start() {
    if (this.source !== null || document.hidden) return;
    clearTimeout(this.timer);
    this.opened = Date.now();
    const source = (this.source = new EventSource("/api/events"));
    source.addEventListener("node", (event) => {
      if (this.source !== source) return;
      this.last = Date.now();
      this.tries = 0;
      this.state("open", this.last);
      this.heard(JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      if (this.source === source) this.lose();
    });
  }

  stop() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  restart() {
    this.stop();
    this.start();
  }

  watch() {
    if (document.hidden) return;
    if (this.source !== null && Date.now() - Math.max(this.last, this.opened) > SILENT) this.lose();
    else if (this.source === null && this.tries) this.state("lost", this.last);
  }

  async lose() {
    this.stop();
    this.state("lost", this.last);
    const pause = AGAIN[Math.min(this.tries++, AGAIN.length - 1)];
    const looks = await this.allowed().catch(() => null);
    if (looks === false) this.refused();
    else if (this.source === null) this.timer = setTimeout(() => this.start(), pause);
  }
}
