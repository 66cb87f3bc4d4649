// What one can do: sign in, scale, add, pause, remove. Each asks for the token first where it is needed.

import { find, h, say, show } from "./dom.js";
import { change, signIn, signOut, signedIn } from "./session.js";

/** A word on what was done stays for so long, in ms; a bad one longer. */
const STAYS = 5000, STAYS_BAD = 12000;

export function toast(text, tone = "") {
  const one = h("div", { class: "toast", data: { tone } }, text);
  find("toasts").append(one);
  while (find("toasts").children.length > 4) find("toasts").firstChild.remove();
  setTimeout(() => one.remove(), tone === "bad" ? STAYS_BAD : STAYS);
}

/** A dialog with one form. `run` is called with the form; what it throws is shown in the dialog. */
function dialogOf(id, run) {
  const dialog = find(id), form = dialog.querySelector("form"), error = dialog.querySelector(".error");
  const submit = form.querySelector("[type=submit]"), word = submit.textContent;
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (submit.disabled) return;
    submit.disabled = true;
    say(submit, `${word} …`);
    show(error, false);
    try {
      await run(form);
      dialog.close("done");
    } catch (wrong) {
      if (wrong.status === 401 && id !== "sign-dialog") {
        dialog.close();
        if (await signedInNow()) dialog.showModal();
      } else {
        say(error, wrong.message);
        show(error, true);
        error.scrollIntoView({ block: "nearest" });
      }
    } finally {
      submit.disabled = false;
      say(submit, word);
    }
  });
  return {
    dialog, form,
    open() {
      show(error, false);
      dialog.returnValue = "";
      dialog.showModal();
    },
  };
}

const sign = dialogOf("sign-dialog", async () => {
  const token = find("token").value.trim();
  if (!token) throw new Error("type the token");
  await signIn(token);
});

/** Ask for the token where it is needed. Resolves to whether we are signed in. */
export function signedInNow() {
  if (signedIn()) return Promise.resolve(true);
  find("token").value = "";
  sign.open();
  return new Promise((done) => {
    sign.dialog.addEventListener("close", () => {
      find("token").value = "";
      done(signedIn());
    }, { once: true });
  });
}

export async function leave() {
  await signOut();
  toast("signed out");
}

/** Do it, with the button out of use meanwhile. Where the session is over, it is asked for again once. */
async function doing(button, work, again = true) {
  if (!(await signedInNow())) return;
  button.disabled = true;
  try {
    toast(await work());
  } catch (wrong) {
    button.disabled = false;
    if (wrong.status === 401 && again) await doing(button, work, false);
    else toast(wrong.message, "bad");
  } finally {
    button.disabled = false;
  }
}

const at = (name) => `/api/streams/${encodeURIComponent(name)}`;

export function pause(stream, button) {
  const verb = stream.state === "paused" ? "resume" : "pause";
  return doing(button, () => change("POST", `${at(stream.name)}/${verb}`, {}));
}

let leaving = "";
const removal = dialogOf("remove-dialog", async () => toast(await change("DELETE", at(leaving))));

export async function remove(name) {
  if (!(await signedInNow())) return;
  leaving = name;
  say(find("remove-name"), name);
  removal.open();
}

const adding = dialogOf("add-dialog", async (form) => {
  const given = new FormData(form), asked = {};
  asked.source = given.get("source").trim();
  asked.outputs = given.get("outputs").split("\n").map((one) => one.trim()).filter(Boolean);
  if (!asked.source) throw new Error("name a source");
  if (!asked.outputs.length) throw new Error("name an output: a file, or an address to send to");
  for (const name of ["name", "model", "mode", "latency", "segment"]) {
    if (given.get(name)?.trim()) asked[name] = given.get(name).trim();
  }
  if (given.get("every")) asked.every = Number(given.get("every"));
  for (const name of ["loop", "realtime", "placeholder"]) if (given.has(name)) asked[name] = true;
  toast(await change("POST", "/api/streams", asked));
  form.reset();
});

export async function add(node) {
  if (!(await signedInNow())) return;
  say(find("add-where"), node.host || "the node");
  say(find("add-base"), node.file.replace(/\/[^/]*$/, "") || "/");
  const models = find("add-model"), served = new Set([...(node.broker.models || []), node.wants?.model].filter(Boolean));
  models.replaceChildren(h("option", { value: "" }, "the workers' own"), ...[...served].map((one) => h("option", { value: one }, one)));
  adding.open();
}

/** The workers' number: what is typed stays until it is sent or taken back. */
export class Scale {
  constructor() {
    this.form = find("scale");
    this.input = find("scale-count");
    this.button = this.form.querySelector("[type=submit]");
    this.now = 0;
    this.touched = this.busy = false;
    this.input.addEventListener("input", () => this.typed());
    for (const step of this.form.querySelectorAll("[data-step]")) {
      step.addEventListener("click", () => {
        this.input.value = String(Math.min(256, Math.max(0, (Number(this.input.value) || 0) + Number(step.dataset.step))));
        this.typed();
      });
    }
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
  }

  typed() {
    this.touched = Number(this.input.value) !== this.now;
    this.button.disabled = this.busy || !this.touched || !this.input.checkValidity();
  }

  update(node) {
    show(this.form, node.roles.includes("workers"));
    this.now = node.wants?.count ?? 0;
    if (!this.touched && !this.busy && document.activeElement !== this.input) this.input.value = String(this.now);
    this.typed();
  }

  async send(again = true) {
    const count = Number(this.input.value);
    if (this.button.disabled || !(await signedInNow())) return;
    this.busy = true;
    this.typed();
    say(this.button, "Scaling …");
    try {
      toast(await change("POST", "/api/workers", { count }));
      this.touched = false;
    } catch (wrong) {
      if (wrong.status === 401 && again) queueMicrotask(() => this.send(false));
      else toast(wrong.message, "bad");
    } finally {
      this.busy = false;
      say(this.button, "Scale");
      this.typed();
    }
  }
}
