// One stream: its picture, or why there is none; how it goes; where its frames went; its outputs.

import { Keyed, h, mark, say, show } from "./dom.js";
import { count, lasting, latency, many, percent, rate } from "./format.js";
import { screens } from "./previews.js";

/** States of a stream: what is said, and how it looks. */
const STATES = {
  running: ["running", "ok"], starting: ["starting", "info"], away: ["source away", "warn"], leaving: ["ending", "info"],
  failing: ["failing", "bad"], paused: ["paused", "idle"], ended: ["ended", "idle"],
};
export const LEDGER = ["annotated", "carried", "skipped", "late", "failed", "lost", "pending"];
const STAGES = ["producer", "queue", "batch", "inference", "reorder", "encode"];
/** A picture that is older than this, in ms, is shown as an old one; longer ago it is not shown. */
const OLD = 2500, GONE = 20000;

export function toneOf(stream) {
  if (stream.state === "ended" && stream.why) return "bad";
  if (stream.state === "starting" && stream.why) return "warn";
  if (stream.troubles.length && stream.state === "running") return "warn";
  return (STATES[stream.state] || [0, "idle"])[1];
}

export class Card {
  constructor(stream, acts) {
    this.name = stream.name;
    this.pictureAt = 0;
    this.acts = acts;
    this.build();
    screens.add(this.name, this.screen, (bitmap) => this.picture(bitmap));
  }

  build() {
    const id = `stream-${Math.random().toString(36).slice(2)}`;
    this.canvas = h("canvas", { width: 16, height: 9, role: "img", "aria-label": `Live picture of ${this.name}` });
    this.head = h("strong");
    this.line = h("span");
    this.screen = h("div", { class: "screen", data: { shows: "nothing" } }, this.canvas, h("p", {}, this.head, this.line));
    this.pill = h("span", { class: "pill" });
    this.pause = h("button", { type: "button", class: "small", on: { click: () => this.acts.pause(this.stream, this.pause) } });
    this.remove = h("button", {
      type: "button", class: "small quiet", "aria-label": `Remove ${this.name}`, on: { click: () => this.acts.remove(this.name) },
    }, "Remove");
    this.why = h("p", { class: "why" });
    this.source = h("span", { class: "mono" });
    this.about = h("span");
    this.figures = ["in", "annotated", "out", "latency"].map((name) => [name, h("span")]);
    this.ledger = new Split("Ledger", LEDGER.map((name) => [name, `var(--s-${name})`]));
    this.stages = new Split("Latency by stage", STAGES.map((name, at) => [name, `var(--t${at + 1})`]));
    const outputs = h("ul", { class: "outputs", "aria-label": "Outputs" });
    this.outputs = new Keyed(outputs, makeOutput);
    this.element = h("article", { class: "card", "aria-labelledby": id },
      this.screen,
      h("div", { class: "card-body" },
        h("div", { class: "card-head" }, h("h3", { id, title: this.name }, this.name), this.pill,
          h("div", { class: "card-acts" }, this.pause, this.remove)),
        this.why,
        h("p", { class: "about" }, this.source, this.about),
        h("dl", { class: "figures" }, ...this.figures.map(([name, value]) =>
          h("div", {}, h("dt", {}, name), h("dd", {}, value, name === "latency" ? null : h("small", {}, " fps"))))),
        this.ledger.element, this.stages.element, outputs));
  }

  /** `roles`: of the node. */
  update({ stream, roles }) {
    this.stream = stream;
    this.roles = roles;
    const tone = toneOf(stream), [word] = STATES[stream.state] || [stream.state];
    mark(this.element, "tone", tone);
    mark(this.element, "state", stream.state);
    say(this.pill, word);
    mark(this.pill, "tone", tone);
    say(this.pause, stream.state === "paused" ? "Resume" : "Pause");
    this.pause.setAttribute("aria-label", `${this.pause.textContent} ${this.name}`);
    show(this.pause, !["ended", "leaving"].includes(stream.state));
    mark(this.why, "tone", tone === "bad" || tone === "idle" ? tone : "");
    say(this.source, stream.source);
    this.source.title = stream.source;
    say(this.about, about(stream));
    this.setFigures(stream);
    const states = stream.states || {}, total = LEDGER.reduce((sum, name) => sum + (states[name] || 0), 0);
    this.ledger.update(states, total ? many(total, "frame") : "no frames yet", (value) => [count(value), percent(value / total)]);
    const medians = stream.sink.stage_medians || {};
    this.stages.update(medians, latency(medians.total), (value) => [latency(value)]);
    show(this.stages.element, STAGES.some((name) => medians[name] !== undefined));
    this.outputs.update(stream.outputs.map((one) => ({ ...one, of: stream })), (one) => one.path);
    screens.want(this.name, this.unseen() === null);
    this.shown();
  }

  setFigures(stream) {
    const rests = stream.state === "ended" || stream.state === "paused";
    const producer = rests ? {} : stream.producer, sink = rests ? {} : stream.sink, delay = sink.latency || {};
    const values = {
      in: rate(producer.fps), annotated: rate(sink.annotated_fps),
      out: rate(rests ? undefined : sink.output_fps ?? stream.fps), latency: latency(delay.median),
    };
    for (const [name, element] of this.figures) {
      say(element, values[name]);
      if (name === "latency") element.title = `median; 95 % are under ${latency(delay.p95)}, from announced to written`;
    }
  }

  /** Why no picture can come: [heading, line]; null where one can. */
  unseen() {
    const { stream, roles } = this;
    if (!roles.includes("sink")) return ["No picture here", "The sink, which has the pictures, runs on another node."];
    if (stream.outputs.every((one) => one.kind === "jsonl")) return ["No picture", "This stream writes lines only."];
    if (stream.state === "paused") return ["Paused", "Resume it to go on."];
    if (stream.state === "ended") return [stream.since >= 1 ? `Ended ${lasting(stream.since)} ago` : "Ended", stream.why];
    return null;
  }

  picture(bitmap) {
    if (this.canvas.width !== bitmap.width || this.canvas.height !== bitmap.height) {
      this.canvas.width = bitmap.width;
      this.canvas.height = bitmap.height;
    }
    this.canvas.getContext("2d", { alpha: false }).drawImage(bitmap, 0, 0);
    this.pictureAt = Date.now();
    this.shown();
  }

  shown() {
    const { stream } = this, age = Date.now() - this.pictureAt, unseen = this.unseen();
    const now = age < OLD && unseen === null;
    mark(this.screen, "shows", now ? "now" : age < GONE && stream.state !== "paused" ? "old" : "nothing");
    const since = stream.since >= 1 ? ` for ${lasting(stream.since)}` : "";
    const [head, line] = unseen || {
      away: [`Source away${since}`, stream.why], failing: ["Failing", stream.why], starting: ["Starting", stream.why],
    }[stream.state] || [this.pictureAt ? "No new picture" : "Waiting for a picture", stream.waits_for ? `waits for: ${stream.waits_for}` : ""];
    say(this.head, head);
    say(this.line, line || "");
    this.sayWhy(now ? "" : line);
  }

  /** What is wrong, but for what the picture's place says already. */
  sayWhy(said) {
    const { stream } = this, lasts = stream.state === "away" && stream.since >= 1 ? ` (for ${lasting(stream.since)})` : "";
    const told = stream.troubles.filter((one) => one && one !== stream.why);
    if (stream.why && stream.why !== said) told.unshift(stream.why + lasts);
    say(this.why, told.join("; "));
    show(this.why, told.length > 0);
  }

  gone() {
    screens.drop(this.name);
  }
}

/** A bar of shares with a legend. */
class Split {
  constructor(title, kinds) {
    this.total = h("span");
    this.kinds = kinds.map(([name, colour]) => {
      const piece = h("i"), value = h("b"), more = h("span"), item = h("li", {}, `${name} `, value, more);
      piece.style.setProperty("--colour", colour);
      item.style.setProperty("--colour", colour);
      return { name, piece, value, more, item };
    });
    this.element = h("div", { class: "split" }, h("h4", {}, title, this.total),
      h("div", { class: "bar", "aria-hidden": "true" }, ...this.kinds.map((one) => one.piece)),
      h("ul", { class: "legend", "aria-label": title }, ...this.kinds.map((one) => one.item)));
  }

  update(values, total, form) {
    say(this.total, total);
    for (const { name, piece, value, more, item } of this.kinds) {
      const amount = values[name] || 0;
      piece.style.flexGrow = String(1000 * amount); // sums below 1 would not fill the bar
      show(piece, amount > 0);
      show(item, amount > 0);
      const [first, second] = form(amount);
      say(value, first);
      say(more, second ? ` ${second}` : "");
    }
  }
}

function about(stream) {
  const { width, height, rate: fps, sound } = stream.picture;
  const size = width ? `${width}×${height}` : null, speed = fps ? `${+fps.toFixed(2)} fps` : null;
  const heard = sound?.length ? sound.join(", ") : null;
  return [stream.model, stream.mode, size, speed, heard].filter(Boolean).join(" · ");
}

function makeOutput() {
  const path = h("span", { class: "mono" }), bdi = h("bdi"), state = h("span");
  path.append(bdi);
  return {
    element: h("li", {}, path, state),
    update(one) {
      say(bdi, one.path);
      path.title = one.path;
      const [text, tone] = outputState(one);
      say(state, text);
      mark(state, "tone", tone);
    },
  };
}

function outputState(one) {
  const over = one.of.state === "ended";
  if (one.of.state === "paused") return ["rests", ""];
  if (one.connected === undefined) return [over ? "closed" : `${one.kind} file`, ""];
  const left = one.dropped ? ` · ${count(one.dropped)} left out` : "";
  if (one.trouble) return [one.trouble.replace(`${one.path}: `, ""), "bad"];
  if (over) return [`${count(one.frames)} frames sent${left}`, ""];
  return one.connected ? [`sending · ${count(one.frames)} frames${left}`, "ok"] : [`not connected${left}`, "bad"];
}
