// The rest of the node: summary, troubles, workers, parts, broker.

import { Keyed, find, h, mark, say, show } from "./dom.js";
import { count, lasting, latency, percent, rate, short } from "./format.js";
import { toneOf } from "./card.js";

/** A worker that is silent for so long, in seconds, is said to be. */
const SILENT = 1.5;

class Facts {
  constructor(parent, names, tiles) {
    this.cells = new Map(names.map((name) => {
      const value = h("span"), under = h("small"), dd = h("dd", {}, value, tiles ? under : null);
      const pair = [h("dt", {}, name), dd];
      parent.append(...(tiles ? [h("div", {}, ...pair)] : pair));
      return [name, { value, under, pair }];
    }));
  }

  set(name, text, more = "", tone = "") {
    const { value, under, pair } = this.cells.get(name);
    say(value, text);
    say(under, more);
    mark(under, "tone", tone);
    for (const one of pair) show(one, text !== "");
  }
}

/** `columns`: [heading, text(row), {number, tone, under}]; the first one names the row. */
class Table {
  constructor(parent, columns, none) {
    this.columns = columns;
    const body = h("tbody", { role: "rowgroup" });
    this.table = h("table", { role: "table" },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...columns.map((one) =>
        h("th", { scope: "col", role: "columnheader", class: one.number ? "number" : "" }, one.head)))), body);
    this.none = h("p", { class: "empty" });
    this.noneText = none;
    parent.append(this.table, this.none);
    this.rows = new Keyed(body, () => this.row());
  }

  row() {
    const cells = this.columns.map((column, at) => {
      const cell = h("td", { role: "cell", class: at === 0 ? "name" : column.number ? "number" : "", data: { label: column.head } });
      return column.make ? column.make(cell) : plain(cell, column, at);
    });
    const element = h("tr", { role: "row" }, ...cells.map((one) => one.cell));
    return {
      element,
      update: (row) => {
        mark(element, "tone", row.tone);
        for (const one of cells) one.update(row);
      },
    };
  }

  update(rows, keyOf, node) {
    this.rows.update(rows, keyOf);
    show(this.table, rows.length > 0);
    show(this.none, rows.length === 0);
    say(this.none, this.noneText(node));
  }
}

function plain(cell, column, at) {
  const text = h("span"), under = h("span", { class: "under" });
  cell.append(text);
  if (at === 0) cell.append(under);
  return {
    cell,
    update(row) {
      say(text, column.text(row));
      if (at !== 0) return;
      say(under, row.under || "");
      mark(under, "tone", row.tone);
      show(under, Boolean(row.under));
    },
  };
}

function pill(text, tone) {
  return (cell) => {
    const one = h("span", { class: "pill" });
    cell.append(one);
    return {
      cell,
      update(row) {
        say(one, text(row));
        mark(one, "tone", tone(row));
      },
    };
  };
}

function fill(cell) {
  const inner = h("i"), text = h("span");
  cell.append(h("span", { class: "fill", "aria-hidden": "true" }, inner), text);
  return {
    cell,
    update(row) {
      inner.style.width = `${Math.round(100 * Math.min(1, row.most ? row.batch / row.most : 0))}%`;
      say(text, row.most ? `${row.batch.toFixed(1)} of ${row.most}` : row.batch.toFixed(1));
    },
  };
}

const workerTone = (row) => (row.state === "stuck" ? "bad" : row.beat_age > SILENT ? "warn" : row.state === "draining" ? "info" : "ok");

const PART_TONES = { running: "ok", starting: "info", backoff: "bad", fatal: "bad", exited: "idle", stopped: "idle", stopping: "info" };

function partState(row) {
  if (row.crash_loop) return ["crash loop", "bad"];
  if (row.state === "running" && !row.ready && row.name !== "agent") return ["loading", "info"];
  if (row.state === "exited") return [row.code ? `exited: ${row.code}` : "done", row.code ? "bad" : "idle"];
  return [{ backoff: "fails to start", fatal: "given up" }[row.state] || row.state, PART_TONES[row.state] || "idle"];
}

export class FleetView {
  constructor() {
    this.summary = new Facts(find("summary"),
      ["Streams", "Frames in", "Annotated", "Written", "Latency", "Workers", "Broker's queue"], true);
    this.facts = new Facts(find("facts"),
      ["Queued frames", "With workers", "Streams known", "Models served", "Roles", "Configuration", "Folder", "Run"], false);
    this.troubles = new Keyed(find("troubles"), () => {
      const element = h("p");
      return { element, update: (text) => say(element, text) };
    });
    this.workers = new Table(find("workers"), [
      { head: "name", text: (row) => row.name },
      { head: "state", make: pill((row) => (row.beat_age > SILENT && row.state === "working" ? "silent" : row.state), workerTone) },
      { head: "device", text: (row) => row.device || "–" },
      { head: "batch", make: fill },
      { head: "fps", text: (row) => rate(row.fps), number: true },
      { head: "done", text: (row) => short(row.done), number: true },
      { head: "last beat", text: (row) => (row.beat_age < 0.95 ? "now" : `${lasting(row.beat_age)} ago`), number: true },
    ], (node) => (node.roles.includes("broker") ? "No worker has come to the broker." : "The broker, which knows the workers, runs on another node."));
    this.parts = new Table(find("parts"), [
      { head: "part", text: (row) => row.name },
      { head: "state", make: pill((row) => partState(row)[0], (row) => partState(row)[1]) },
      { head: "pid", text: (row) => (row.pid ? String(row.pid) : "–"), number: true },
      { head: "up", text: (row) => (row.pid ? lasting(row.uptime) : "–"), number: true },
      { head: "restarts", text: (row) => count(row.restarts), number: true },
    ], () => "No part runs.");
  }

  update(node) {
    const { streams, workers, parts, broker } = node;
    const sum = (get) => streams.reduce((total, one) => total + (["ended", "paused"].includes(one.state) ? 0 : get(one) || 0), 0);
    const running = streams.filter((one) => one.state === "running").length;
    const bad = streams.filter((one) => ["bad", "warn"].includes(toneOf(one))).length;
    this.summary.set("Streams", `${running} of ${streams.length}`, bad ? `${bad} in trouble` : "running", bad ? "warn" : "");
    this.summary.set("Frames in", rate(sum((one) => one.producer.fps)), "a second");
    const decided = streams.reduce((total, one) => total + allBut(one.states, "pending"), 0);
    const shown = streams.reduce((total, one) => total + (one.states?.annotated || 0), 0);
    this.summary.set("Annotated", rate(sum((one) => one.sink.annotated_fps)),
      decided ? `a second; ${percent(shown / decided)} of all so far` : "a second");
    this.summary.set("Written", rate(sum((one) => one.sink.output_fps ?? one.fps)), "a second");
    const delays = streams.filter((one) => one.sink.latency && one.state === "running").map((one) => one.sink.latency);
    const worst = (key) => (delays.length ? Math.max(...delays.map((one) => one[key])) : undefined);
    this.summary.set("Latency", latency(worst("median")), delays.length ? `median; 95 % under ${latency(worst("p95"))}` : "no frames lately");
    const most = node.wants?.batch;
    const fills = workers.filter((one) => one.batch > 0).map((one) => one.batch);
    const mean = fills.length ? fills.reduce((a, b) => a + b, 0) / fills.length : 0;
    const sick = workers.filter((one) => workerTone(one) !== "ok" && one.state !== "draining").length;
    this.summary.set("Workers", count(workers.length),
      sick ? `${sick} silent or stuck` : mean ? `${mean.toFixed(1)} frames a batch` : "no work lately", sick ? "bad" : "");
    this.summary.set("Broker's queue", node.roles.includes("broker") ? count(broker.queued ?? 0) : "–",
      node.roles.includes("broker") ? `${count(broker.leased ?? 0)} with workers` : "on another node");

    const troubles = [...node.unready, ...node.troubles.filter((one) => !node.unready.includes(one))];
    this.troubles.update(troubles, (text) => text.replace(/ \(\d+ s\)$/, ""));
    show(find("troubles"), troubles.length > 0);

    this.workers.update(workers.map((one) => ({ ...one, most, tone: one.state === "stuck" ? "bad" : "", under: one.models?.join(", ") })),
      (row) => row.name, node);
    say(find("workers-count"), workers.length ? count(workers.length) : "");
    this.parts.update(parts.map((one) => ({
      ...one, tone: partState(one)[1] === "bad" ? "bad" : "",
      under: [one.gpu ? `GPU ${one.gpu}` : "", one.why && (one.crash_loop || one.state !== "running" || one.restarts) ? one.why : ""].filter(Boolean).join("; "),
    })), (row) => row.name, node);
    say(find("parts-count"), `${parts.filter((one) => one.ready || one.state === "running").length} of ${parts.length} run`);
    this.setFacts(node);
  }

  setFacts(node) {
    const { broker } = node, here = node.roles.includes("broker");
    this.facts.set("Queued frames", here ? count(broker.queued ?? 0) : "the broker runs on another node");
    this.facts.set("With workers", here ? count(broker.leased ?? 0) : "");
    this.facts.set("Streams known", here ? count(broker.streams ?? 0) : "");
    this.facts.set("Models served", here ? (broker.models || []).join(", ") || "none" : "");
    this.facts.set("Roles", node.roles.join(", ") || "none");
    this.facts.set("Configuration", node.file);
    this.facts.set("Folder", node.folder || "");
    this.facts.set("Run", node.run);
  }
}

function allBut(states, left) {
  return Object.entries(states || {}).reduce((total, [name, value]) => total + (name === left ? 0 : value), 0);
}
