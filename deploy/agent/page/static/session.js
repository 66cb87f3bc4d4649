// Whether we have signed in; and requests that change something, which only our own page can make.

let proof = null;
const listeners = [];

export class Wrong extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export const signedIn = () => proof !== null;
export const onSession = (heard) => listeners.push(heard);

function took(known) {
  proof = known;
  for (const heard of listeners) heard();
}

async function ask(method, path, body) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (proof !== null) headers["X-Headrace-Proof"] = proof;
  let answer;
  try {
    answer = await fetch(path, {
      method, headers, credentials: "same-origin", redirect: "error",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Wrong(0, "the node does not answer");
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    if (answer.status === 401 && path !== "/api/session") took(null);
    throw new Wrong(answer.status, found.error || `the node answers ${answer.status}`);
  }
  return found;
}

/** Returns whether one may look. */
export async function look() {
  const found = await ask("GET", "/api/session");
  if (found.proof !== proof) took(found.proof);
  return found.looks;
}

export async function signIn(token) {
  took((await ask("POST", "/api/session", { token })).proof);
}

export async function signOut() {
  await ask("DELETE", "/api/session").catch(() => undefined);
  took(null);
}

/** Returns what was done, for a person. */
export async function change(method, path, body) {
  return (await ask(method, path, body)).done;
}
