// Live pictures of the cards that are in view, over one connection: length of the name, length of the JPEG, both.

const SETTLE = 250, AGAIN = 2000;

class Screens {
  constructor() {
    this.byName = new Map();
    this.seen = new Set();
    this.watched = "";
    this.abort = null;
    this.paused = true;
    this.timer = 0;
    this.observer = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const name = entry.target.dataset.stream;
        if (entry.isIntersecting) this.seen.add(name);
        else this.seen.delete(name);
      }
      this.soon();
    }, { rootMargin: "80px" });
    document.addEventListener("visibilitychange", () => this.soon());
  }

  /** `heard(bitmap)` for each picture of the stream while `element` is in view. */
  add(name, element, heard) {
    element.dataset.stream = name;
    this.byName.set(name, { element, heard, wanted: false });
    this.observer.observe(element);
  }

  /** Whether pictures of the stream can come at all. */
  want(name, wanted) {
    const one = this.byName.get(name);
    if (one && one.wanted !== wanted) {
      one.wanted = wanted;
      this.soon();
    }
  }

  drop(name) {
    const one = this.byName.get(name);
    if (!one) return;
    this.observer.unobserve(one.element);
    this.byName.delete(name);
    this.seen.delete(name);
    this.soon();
  }

  /** Nothing is asked for while the node is away. */
  pause(paused) {
    if (this.paused === paused) return;
    this.paused = paused;
    this.soon();
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), SETTLE);
  }

  open() {
    const names = this.paused || document.hidden ? [] : [...this.seen].filter((name) => this.byName.get(name)?.wanted);
    const key = JSON.stringify(names.sort());
    if (key === this.watched) return;
    this.watched = key;
    this.abort?.abort();
    this.abort = names.length ? new AbortController() : null;
    if (this.abort) this.watch(names, this.abort.signal);
  }

  async watch(names, signal) {
    const query = new URLSearchParams(names.slice(0, 64).map((name) => ["stream", name]));
    try {
      const answer = await fetch(`/api/previews?${query}`, { signal, credentials: "same-origin" });
      if (answer.ok) await this.read(answer.body.getReader());
    } catch {
      // Gone, or no longer wanted.
    }
    if (!signal.aborted) {
      this.watched = "";
      this.timer = setTimeout(() => this.open(), AGAIN);
    }
  }

  async read(reader) {
    let bytes = new Uint8Array(0);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const joined = new Uint8Array(bytes.length + value.length);
      joined.set(bytes);
      joined.set(value, bytes.length);
      bytes = joined;
      for (;;) {
        if (bytes.length < 8) break;
        const view = new DataView(bytes.buffer, bytes.byteOffset);
        const name = view.getUint32(0), jpeg = view.getUint32(4), end = 8 + name + jpeg;
        if (bytes.length < end) break;
        const text = new TextDecoder().decode(bytes.subarray(8, 8 + name));
        await this.draw(text, bytes.slice(8 + name, end));
        bytes = bytes.slice(end);
      }
    }
  }

  async draw(name, jpeg) {
    try {
      const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
      this.byName.get(name)?.heard(bitmap);
      bitmap.close();
    } catch {
      // A picture that is none is left out.
    }
  }
}

export const screens = new Screens();
