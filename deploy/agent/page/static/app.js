// The page: what the node says once a second, shown; see link.js, card.js, fleet.js, acts.js.

import * as acts from "./acts.js";
import { Card } from "./card.js";
import { Keyed, find, mark, say, show } from "./dom.js";
import { FleetView } from "./fleet.js";
import { lasting } from "./format.js";
import { Link } from "./link.js";
import { screens } from "./previews.js";
import { look, onSession, signedIn } from "./session.js";

/** With more streams than this, they can be filtered. */
const FEW = 6;

const fleet = new FleetView(), scale = new acts.Scale();
const cards = new Keyed(find("streams"), ({ stream }) => new Card(stream, acts));
let node = null;

function view(name) {
  document.body.dataset.view = name;
  show(find("loading"), name === "loading");
  show(find("gate"), name === "gate");
  show(find("shown"), name === "shown");
}

function heard(told) {
  node = told;
  view("shown");
  say(find("node-name"), node.host || "");
  document.title = `${node.ready ? "" : "⚠ "}${node.host || "node"} – Headrace`;
  say(find("node-state"), node.ready ? "working" : "not ready");
  mark(find("node-state"), "tone", node.ready ? "ok" : "bad");
  say(find("token-file"), node.folder ? `${node.folder}/page.token` : "page.token");
  fleet.update(node);
  scale.update(node);
  streams();
}

function streams() {
  const all = node.streams, wanted = find("filter").value.trim().toLowerCase();
  const found = all.filter((one) => !wanted || `${one.name} ${one.state} ${one.source}`.toLowerCase().includes(wanted));
  show(find("filter"), all.length > FEW || wanted !== "");
  say(find("streams-count"), all.length ? (found.length === all.length ? String(all.length) : `${found.length} of ${all.length}`) : "");
  cards.update(found.map((stream) => ({ stream, roles: node.roles })), ({ stream }) => stream.name);
  show(find("add"), node.roles.includes("producers"));
  show(find("no-streams"), found.length === 0);
  say(find("no-streams"), all.length ? "No stream matches." : nothing());
}

function nothing() {
  if (node.roles.includes("producers")) return "No stream yet. Add one here, with headrace streams add, or in the configuration.";
  return `This node runs ${node.roles.join(", ")}: streams are read on another one.`;
}

const link = new Link({
  heard,
  allowed: look,
  refused() {
    node = null;
    screens.pause(true);
    show(find("lost"), false);
    mark(document.body, "stale", "");
    view("gate");
    state("signed out", "idle");
  },
  state(word, since) {
    const lost = word === "lost";
    screens.pause(lost);
    state(lost ? "connection lost" : "live", lost ? "bad" : "ok");
    mark(document.body, "stale", lost && node ? "yes" : "");
    show(find("lost"), lost);
    if (lost) say(find("lost"), lostText(since));
  },
});

function lostText(since) {
  const ago = Math.max(1, (Date.now() - since) / 1000);
  if (!node) return "The node does not answer; trying again …";
  return `The connection to the node is lost. Below is how it was ${lasting(ago)} ago; trying again …`;
}

function state(text, tone) {
  say(find("link-state"), text);
  mark(find("link-state"), "tone", tone);
}

onSession(() => {
  show(find("sign"), true);
  say(find("sign"), signedIn() ? "Sign out" : "Sign in");
  mark(find("sign"), "in", signedIn() ? "yes" : "");
});

async function begin() {
  try {
    if (await look()) link.start();
    else link.refused();
    show(find("sign"), true);
  } catch {
    link.lose();
  }
}

find("sign").addEventListener("click", async () => {
  if (signedIn()) {
    await acts.leave();
    if (!(await look().catch(() => true))) {
      link.stop();
      link.refused();
    }
  } else if (await acts.signedInNow()) link.start();
});
find("gate-sign").addEventListener("click", async () => {
  if (await acts.signedInNow()) {
    view("loading");
    link.start();
  }
});
find("add").addEventListener("click", () => acts.add(node));
find("filter").addEventListener("input", () => node && streams());

begin();
